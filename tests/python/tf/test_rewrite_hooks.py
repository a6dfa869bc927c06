"""The hooks that say what else moves, in monitored sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents
from rewrite_runs import (
    create,
    dataset,
    initializable,
    keys_of,
    lookup,
    loss_of,
    one_shot,
    op_between,
    train_op_of,
    warnings_of,
)

import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook, LookupSubgraphSlicerHook, OrphanLookupKeySlicerHook
from mx_rec.graph.acg_push_ops import ACGPushOpsToDatasetHook

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def library(start: Any) -> None:
    start()


def session_with(*hooks: Any) -> Any:
    return v1.train.MonitoredSession(hooks=list(hooks))


def test_arguments() -> None:
    for wrong in ("Add", [1], None, 3):
        with pytest.raises(TypeError, match="op_types"):
            LookupSubgraphSlicerHook(op_types=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="op_types"):
        LookupSubgraphSlicerHook(op_types=[])
    with pytest.raises(TypeError, match="dump_graph"):
        GraphModifierHook(dump_graph="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="modify_graph"):
        GraphModifierHook(modify_graph=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dump_graph"):
        ACGPushOpsToDatasetHook(dump_graph=0)  # type: ignore[arg-type]


def test_the_modifier_hook() -> None:
    for modify in (True, False):
        with tf.Graph().as_default():
            batch = one_shot(dataset(3)).batch
            ids = tf.strings.to_hash_bucket_fast(batch["word"], 50)
            rows = lookup(create("t"), ids)
            with session_with(GraphModifierHook(modify_graph=modify)) as session:
                session.run(rows)
            assert (op_between(keys_of(rows)) == []) == modify


@pytest.mark.parametrize(
    "hook",
    [LookupSubgraphSlicerHook(["Add"]), OrphanLookupKeySlicerHook(), ACGPushOpsToDatasetHook()],
)
def test_the_other_hooks_stand_before_it(hook: Any) -> None:
    with tf.Graph().as_default():
        lookup(create("t"), one_shot(dataset(3)).batch["id"])
        with pytest.raises(RuntimeError, match="must stand before GraphModifierHook"):
            session_with(GraphModifierHook(), hook)


def test_slicing_ops_that_lead_to_no_lookup() -> None:
    with tf.Graph().as_default():
        feed = one_shot(dataset(3))
        number = tf.strings.to_number(feed.batch["number"])
        dense = tf.math.log(number + 1.0) * 2.0
        noise = tf.math.log(number + tf.random.uniform([]))
        plain = tf.constant(2.0)
        static = tf.math.log(plain)
        rows = lookup(create("t"), feed.batch["id"])
        hooks = [LookupSubgraphSlicerHook(op_types=["Log"]), GraphModifierHook()]
        with warnings_of() as warnings, session_with(*hooks) as session:
            got = session.run([number, dense, rows, noise, static])
        np.testing.assert_allclose(got[1], np.log(got[0] + 1) * 2, rtol=1e-6)
        assert op_between(dense) == ["Mul", "Const"]
        (warning,) = warnings
        assert "1 of the ops of type 'Log'" in warning and "stateful" in warning


def test_slicing_ops_without_any_lookup() -> None:
    with tf.Graph().as_default():
        feed = initializable(dataset(3))
        number = tf.strings.to_number(feed.batch["number"]) + 1
        hooks = [LookupSubgraphSlicerHook(["StringToNumber", "NoSuchOp"]), GraphModifierHook()]
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, feed.initializers[0])
        with warnings_of() as warnings, session_with(*hooks) as session:
            assert session.run(number).min() >= 1
        assert "StringToNumber" not in op_between(number)
        assert len(warnings) == 1 and "NoSuchOp" in warnings[0]


def test_orphans_need_no_warning() -> None:
    for hooks, wanted in (([], 3), ([OrphanLookupKeySlicerHook()], 1)):
        with tf.Graph().as_default():
            batch = one_shot(dataset(3)).batch
            table = create("t")
            variable = v1.get_variable("v", [2], tf.int64, v1.ones_initializer())
            constant = lookup(table, tf.constant([1, 2], tf.int64) * 3, name="constant")
            held = lookup(table, variable, name="variable")
            random = tf.random.uniform([], 0, 2, tf.int64)
            mixed = lookup(table, batch["id"] + random, name="mixed")
            moved = lookup(table, batch["id"] + 1)
            with warnings_of() as warnings, session_with(*hooks, GraphModifierHook()) as session:
                session.run([constant, held, mixed, moved])
            assert len(warnings) == wanted and "'mixed'" in warnings[-1]
            assert op_between(keys_of(moved)) == []
            assert table.size() > 4


def pushed(push: bool) -> Any:
    mx.terminate_config_initializer()
    mx.init()
    with tf.Graph().as_default() as graph:
        graph.seed = 1
        batch = one_shot(dataset(20)).batch
        table = create("t")
        shift = v1.get_variable("v", [], tf.int64, v1.ones_initializer())
        word = tf.strings.to_hash_bucket_fast(batch["word"], 50)
        number = tf.strings.to_number(batch["number"], tf.int64)
        keys = tf.abs(word + shift) * 2 + number
        rows = lookup(table, keys)
        loss = loss_of([rows], batch["label"])
        train_op = train_op_of(loss)
        hooks = [ACGPushOpsToDatasetHook()] if push else []
        losses = []
        with warnings_of() as warnings, session_with(*hooks, GraphModifierHook()) as session:
            for _ in range(20):
                losses.append(session.run([loss, train_op])[0])
        assert len(warnings) == 1 and "stateful" in warnings[0]
        return losses, contents(table), op_between(keys)


def test_pushing_what_can_move() -> None:
    plain, moved = pushed(False), pushed(True)
    np.testing.assert_array_equal(plain[0], moved[0])
    for one, other in zip(plain[1], moved[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert "StringToHashBucketFast" in plain[2] and "StringToNumber" in plain[2]
    assert not {"StringToHashBucketFast", "StringToNumber"} & set(moved[2])
    assert {"AddV2", "Abs"} <= set(moved[2])


def test_dumps_of_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, hooks in enumerate(
        [
            [GraphModifierHook(dump_graph=True)],
            [ACGPushOpsToDatasetHook(dump_graph=True), GraphModifierHook()],
            [GraphModifierHook(dump_graph=True, modify_graph=False)],
        ]
    ):
        with tf.Graph().as_default():
            rows = lookup(create(f"t{i}"), one_shot(dataset(3)).batch["id"] + 1)
            with session_with(*hooks) as session:
                session.run(rows)
        names = {p.name for p in (tmp_path / "mxrec_graph_dump" / str(i)).iterdir()}
        assert names == ({"before", "after", "report.txt"} if i < 2 else {"before"})
