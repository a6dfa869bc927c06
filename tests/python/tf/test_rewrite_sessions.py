"""Rewriting for Sessions: what is refused, what fetches and feeds mean afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents
from rewrite_runs import (
    BATCH,
    ITERATORS,
    create,
    dataset,
    elements,
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

v1 = tf.compat.v1


def edges_of(graph: Any) -> dict[str, tuple[list[str], list[str]]]:
    return {
        op.name: ([t.name for t in op.inputs], [each.name for each in op.control_inputs])
        for op in graph.get_operations()
    }


def wordy(batch: Any) -> Any:
    return tf.strings.to_hash_bucket_fast(batch["word"], 100)


@pytest.fixture(autouse=True)
def library(start: Any) -> None:
    start()


# --- What is refused ------------------------------------------------------------------------------


def test_a_graph_that_has_run_is_refused() -> None:
    runs = [
        lambda session, x: session.run(x),
        lambda session, x: session.run(x.name),
        lambda session, x: session.run(x.op),
        lambda session, x: session.make_callable(x)(),
        lambda session, x: x.eval(session=session),
        lambda session, x: session.partial_run_setup([x], []),
    ]
    for run in runs:
        with tf.Graph().as_default() as graph:
            lookup(create("t"), wordy(one_shot(dataset(2)).batch))
            x = tf.constant(1)
            before = edges_of(graph)
            with v1.Session() as session:
                run(session, x)
            with pytest.raises(RuntimeError, match="has run already"):
                mx.modify_graph_and_start_emb_cache()
            with pytest.raises(RuntimeError, match="has run already"):
                mx.GraphModifierHook().begin()
            assert edges_of(graph) == before


def test_a_session_that_has_not_run_is_fine() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        rows = lookup(create("t"), wordy(one_shot(dataset(2)).batch))
        mx.modify_graph_and_start_emb_cache()
        session.run(v1.global_variables_initializer())
        assert session.run(rows).shape == (BATCH, 4)


def test_arguments() -> None:
    modify = mx.modify_graph_and_start_emb_cache
    with pytest.raises(RuntimeError, match="eager mode"):
        modify()
    with pytest.raises(TypeError, match="full_graph"):
        modify(full_graph="graph")
    with pytest.raises(TypeError, match="dump_graph"):
        modify(dump_graph=1)  # type: ignore[arg-type]

    @tf.function
    def inside() -> None:
        modify(full_graph=v1.get_default_graph())

    with pytest.raises(ValueError, match="function"):
        inside()
    with tf.Graph().as_default() as graph:
        graph.finalize()
        with pytest.raises(RuntimeError, match="finalized"):
            modify()
    mx.terminate_config_initializer()
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="init"):
        modify()


def test_a_graph_without_lookups_is_left_alone() -> None:
    with tf.Graph().as_default() as graph:
        one_shot(dataset(2))
        before = edges_of(graph)
        mx.modify_graph_and_start_emb_cache()
        assert edges_of(graph) == before


def test_twice_is_once() -> None:
    with tf.Graph().as_default() as graph:
        feed = initializable(dataset(2))
        rows = lookup(create("t"), wordy(feed.batch))
        mx.modify_graph_and_start_emb_cache()
        before = edges_of(graph)
        mx.modify_graph_and_start_emb_cache()
        assert edges_of(graph) == before
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            session.run(rows)


# --- What stays -----------------------------------------------------------------------------------


def test_placeholders_stay_with_one_warning_each() -> None:
    with tf.Graph().as_default():
        table = create("t")
        fed = v1.placeholder(tf.int64, [None], "fed")
        batch = one_shot(dataset(2)).batch
        rows = lookup(table, fed, name="by_hand")
        other = lookup(table, fed + batch["id"][:, 0], name="both")
        moved = lookup(table, wordy(batch))
        with warnings_of() as warnings:
            mx.modify_graph_and_start_emb_cache()
        assert len(warnings) == 2
        assert "'by_hand'" in warnings[0] and "'fed'" in warnings[0]
        assert "placeholder" in warnings[0] and "'both'" in warnings[1]
        assert op_between(keys_of(moved)) == []
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            results = session.run([rows, other, moved], {fed: np.arange(BATCH)})
        assert all(each.shape == (BATCH, 4) for each in results)


def test_lookups_in_functions_and_branches_stay() -> None:
    with tf.Graph().as_default():
        feed = initializable(dataset(2))
        table = create("t")
        ids = wordy(feed.batch)

        @tf.function
        def called(ids: Any) -> Any:
            return lookup(table, ids, name="called")

        inside = called(ids)
        branch = tf.cond(
            tf.reduce_sum(ids) >= 0,
            lambda: lookup(table, ids, name="branch"),
            lambda: tf.zeros([BATCH, 4]),
        )
        with warnings_of() as warnings:
            mx.modify_graph_and_start_emb_cache()
        named = sorted(w.split("'")[1].split("/")[-1] for w in warnings)
        assert named == ["branch", "called"]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            assert session.run([inside, branch])[0].shape == (BATCH, 4)


# --- Fetches and feeds ----------------------------------------------------------------------------


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_raw_batches_can_be_fetched(make_iterator: Any) -> None:
    columns = elements(4)
    with tf.Graph().as_default():
        feed = make_iterator(dataset(4))
        batch = feed.batch
        ids = wordy(batch)
        rows = lookup(create("t"), ids)
        loss = loss_of([rows], batch["label"])
        train_op = train_op_of(loss)
        mx.modify_graph_and_start_emb_cache()
        late = batch["price"] * 2  # built after the rewriting
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            for step in range(3):
                part = slice(step * BATCH, (step + 1) * BATCH)
                got = session.run(
                    {"batch": batch, "late": late, "loss": loss, "train": train_op, "ids": ids}
                )
                for name, value in got["batch"].items():
                    wanted = columns[name][part]
                    if value.dtype == object:
                        value = value.astype(str)
                    np.testing.assert_array_equal(value, wanted)
                np.testing.assert_array_equal(got["late"], columns["price"][part] * 2)
            later = batch["price"] - 1  # and between runs
            latest = session.run([batch["label"].op, batch["label"], rows, later])
            assert latest[0] is None and latest[1].shape == (BATCH,)
            np.testing.assert_array_equal(latest[3], columns["price"][3 * BATCH :] - 1)


def test_gradients_built_after_rewriting() -> None:
    def train(rewritten: bool, late: bool) -> Any:
        mx.terminate_config_initializer()
        mx.init()
        with tf.Graph().as_default():
            feed = one_shot(dataset(30))
            table = create("t")
            price = tf.expand_dims(feed.batch["price"], 1)
            loss = loss_of([lookup(table, wordy(feed.batch)) * price], feed.batch["label"])
            train_op = None if late else train_op_of(loss)
            if rewritten:
                mx.modify_graph_and_start_emb_cache()
            train_op = train_op_of(loss) if late else train_op
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                losses = [session.run([loss, train_op])[0] for _ in range(30)]
            return losses, contents(table)

    plain = train(False, False)
    for late in (False, True):
        moved = train(True, late)
        np.testing.assert_array_equal(plain[0], moved[0])
        for one, other in zip(plain[1], moved[1], strict=True):
            np.testing.assert_array_equal(one, other)


def test_feeds() -> None:
    with tf.Graph().as_default():
        batch = one_shot(dataset(4)).batch
        table, other = create("t"), create("u")
        ids = wordy(batch)
        rows = [lookup(table, ids), lookup(other, ids, is_train=False)]
        label = batch["label"] + 1
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            fed = session.run([label, batch["label"]], {batch["label"]: np.full(BATCH, 6.0)})
            np.testing.assert_array_equal(fed, [np.full(BATCH, 7.0), np.full(BATCH, 6.0)])
            session.run(rows, {ids: np.full(BATCH, 4444)})
            np.testing.assert_array_equal(contents(table)[0], [4444])
            with pytest.raises(ValueError, match="cannot be fed"):
                session.run(rows, {batch["word"]: ["a"] * BATCH})


# --- Initializer and batch ------------------------------------------------------------------------


def test_initializer_and_batch() -> None:
    params = mx.ConfigInitializer.get_instance().train_params_config
    with tf.Graph().as_default():
        with pytest.raises(RuntimeError, match="not been rewritten"):
            mx.get_initializer(True)
        trained = initializable(dataset(3))
        read = initializable(dataset(2, 1).map(lambda d: (d["id"], {"y": [d["label"]]})))
        table = create("t")
        rows = lookup(table, wordy(trained.batch))
        seen = lookup(table, read.batch[0], is_train=False)
        mx.modify_graph_and_start_emb_cache()
        assert mx.get_initializer(True) is trained.initializers[0]
        assert params.get_initializer(False) is read.initializers[0]
        batch = params.get_target_batch(True)
        assert list(batch) == list(trained.batch)
        assert batch["id"] is not trained.batch["id"]
        v1.nest.assert_same_structure(params.get_target_batch(False), read.batch)
        with pytest.raises(TypeError, match="is_training"):
            mx.get_initializer(1)  # type: ignore[arg-type]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), mx.get_initializer(True)])
            session.run(mx.get_initializer(is_training=False))
            got = session.run([rows, seen, batch["label"]])
        np.testing.assert_array_equal(got[2], elements(3)["label"][:BATCH])


def test_initializers_that_are_not_there() -> None:
    with tf.Graph().as_default():
        lookup(create("t"), wordy(one_shot(dataset(2)).batch))
        mx.modify_graph_and_start_emb_cache()
        with pytest.raises(RuntimeError, match="one-shot"):
            mx.get_initializer(True)
        with pytest.raises(RuntimeError, match="no reading lookup"):
            mx.get_initializer(False)
        assert set(mx.get_target_batch(True)) == set(elements(1))


# --- Several graphs and iterators -----------------------------------------------------------------


def test_two_graphs() -> None:
    graphs = []
    for name in ("a", "b"):
        with tf.Graph().as_default() as graph:
            feed = initializable(dataset(5, len(graphs)))
            rows = lookup(create(name), wordy(feed.batch))
            graphs.append((graph, feed, rows, train_op_of(tf.reduce_sum(rows)), feed.batch["id"]))
    before = edges_of(graphs[1][0])
    mx.modify_graph_and_start_emb_cache(full_graph=graphs[0][0])
    assert edges_of(graphs[1][0]) == before
    mx.modify_graph_and_start_emb_cache(full_graph=graphs[1][0])
    sessions = [v1.Session(graph=graph) for graph, *_ in graphs]
    for session, (graph, feed, *_) in zip(sessions, graphs, strict=True):
        with graph.as_default():
            session.run([v1.global_variables_initializer(), *feed.initializers])
    for step in range(5):
        for seed, session in enumerate(sessions):
            _, _, rows, train_op, ids = graphs[seed]
            got = session.run([rows, train_op, ids])
            wanted = elements(5, seed)["id"][step * BATCH : (step + 1) * BATCH]
            np.testing.assert_array_equal(got[2], wanted)


def test_several_get_next_of_one_iterator() -> None:
    columns = elements(4)
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(dataset(4))
        first, second = iterator.get_next(), iterator.get_next()
        table = create("t")
        rows = [lookup(table, first["id"] + 1), lookup(table, second["small"] * 2)]
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            one, other, *_ = session.run([first["id"], second["id"], *rows])
        got = {tuple(one.ravel()), tuple(other.ravel())}
        assert got == {tuple(columns["id"][i : i + BATCH].ravel()) for i in (0, BATCH)}


def test_control_edges_follow() -> None:
    with tf.Graph().as_default():
        batch = initializable(dataset(3)).batch
        lookup(create("t"), wordy(batch))
        with tf.control_dependencies([batch["id"].op]):
            after = tf.constant(3.0)
        mx.modify_graph_and_start_emb_cache()
        (before,) = after.op.control_inputs
        assert before is not batch["id"].op and before.type == "IteratorGetNext"


def test_an_abandoned_iterator_leaves_no_trace() -> None:
    with tf.Graph().as_default():
        feed = initializable(dataset(50))
        table = create("t")
        ids = wordy(feed.batch)
        rows = lookup(table, ids)
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            seen: set[int] = set()
            for _ in range(3):
                seen |= set(session.run([ids, rows])[0].tolist())
            assert table.size() == len(seen)
            session.run(feed.initializers)  # from the start again
            session.run(rows)
            assert table.size() == len(seen)
        np.testing.assert_array_equal(contents(table)[0], sorted(seen))


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "graph-rewriting.md"
    (example,) = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(256, 8)"


def test_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        with tf.Graph().as_default():
            batch = one_shot(dataset(2)).batch
            table = create(f"t{number}")
            lookup(table, wordy(batch), name="moved")
            lookup(table, v1.placeholder(tf.int64, [1], "fed"), name="kept")
            mx.modify_graph_and_start_emb_cache(dump_graph=True)
        folder = tmp_path / "mxrec_graph_dump" / str(number)
        text = (folder / "report.txt").read_text("utf-8")
        assert f"lookup 'moved' of table 't{number}' (training)" in text
        assert "(StringToHashBucketFast)" in text
        assert "lookup 'kept' stays: 'fed' (Placeholder) " in text
        for part, wanted in (("before", False), ("after", True)):
            (events,) = (folder / part).iterdir()
            graphs = [e.graph_def for e in v1.train.summary_iterator(str(events)) if e.graph_def]
            assert (b"mxrec_rewrite" in graphs[0]) == wanted


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of each lookup, what moved of it, and why others stay."""
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        batch = one_shot(dataset(2)).batch
        table = create("t")
        bucket = tf.strings.to_hash_bucket_fast(batch["word"], 100, name="bucket")
        lookup(table, tf.math.add(bucket, 3, name="shift"), name="moved")
        lookup(table, batch["id"], name="raw", is_train=False)
        random = tf.random.uniform([8], 0, 9, tf.int64, name="noise")
        lookup(table, tf.math.add(bucket, random, name="mixed"), name="kept")
        mx.modify_graph_and_start_emb_cache(dump_graph=True)
        text = (tmp_path / "mxrec_graph_dump" / "0" / "report.txt").read_text("utf-8")
    lines = text.splitlines()
    assert lines == [
        "lookup 'moved' of table 't' (training)",
        "  path: OneShotIterator -> IteratorGetNext -> shift/y -> bucket -> shift -> "
        "moved/MxrecLookup",
        "  moved: shift/y (Const), bucket (StringToHashBucketFast), shift (AddV2)",
        "  keys are prepared ahead: yes",
        "lookup 'raw' of table 't' (reading)",
        "  path: OneShotIterator -> IteratorGetNext -> raw/MxrecRead",
        "  moved: nothing but the ids",
        "  keys are prepared ahead: no",
        "lookup 'kept' stays: 'noise' (RandomUniformInt) is stateful",
        "iterator 'OneShotIterator' (OneShotIterator): 6 components and 2 moved tensors: shift:0, "
        "IteratorGetNext:0",
    ]
