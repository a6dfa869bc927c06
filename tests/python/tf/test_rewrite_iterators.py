"""Iterators in unusual places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents
from rewrite_runs import (
    BATCH,
    assert_same_training,
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


@pytest.fixture(autouse=True)
def library(start: Any) -> None:
    start()


def test_many_lookups_of_one_table() -> None:
    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        number = tf.strings.to_number(batch["number"], tf.int64)
        return [lookup(tables["t"], number * i + i) for i in range(130)]

    assert_same_training(lambda: dataset(5), rows_of)


def test_iterators_of_several_kinds_in_one_graph() -> None:
    with tf.Graph().as_default():
        feeds = [one_shot(dataset(20, 0)), initializable(dataset(20, 1)), one_shot(dataset(20, 2))]
        tables = [create(name) for name in ("a", "b")]
        rows = [
            lookup(tables[i % 2], tf.strings.to_hash_bucket_fast(feed.batch["word"], 90))
            for i, feed in enumerate(feeds)
        ]
        loss = loss_of(rows, feeds[1].batch["label"])
        train_op = train_op_of(loss)
        mx.modify_graph_and_start_emb_cache()
        with pytest.raises(ValueError, match="several iterators"):
            mx.get_initializer(True)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feeds[1].initializers])
            for step in range(20):
                got = session.run([*(feed.batch["id"] for feed in feeds), train_op])
                part = slice(step * BATCH, (step + 1) * BATCH)
                for seed in range(3):
                    np.testing.assert_array_equal(got[seed], elements(20, seed)["id"][part])
        assert tables[0].engine.stats()["prepared_lookups"] == 40


def test_names_that_are_shared() -> None:
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(dataset(3), shared_name="mine")
        rows = lookup(create("t"), iterator.get_next()["id"] + 1)
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            session.run(rows)


def test_scopes_devices_and_dependencies_around_the_call() -> None:
    with tf.Graph().as_default() as graph:
        feed = initializable(dataset(3))
        rows = lookup(create("t"), feed.batch["id"] + 1)
        fed = v1.placeholder(tf.int64, [], "never_fed")
        with (
            tf.name_scope("around"),
            v1.device("/device:CPU:7"),
            tf.control_dependencies([fed]),
        ):
            mx.modify_graph_and_start_emb_cache()
        new = [op for op in graph.get_operations() if op.name.startswith("mxrec_rewrite/")]
        assert new and not any(op.control_inputs for op in new)
        assert not any("CPU:7" in op.device for op in new)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            session.run(rows)


def test_options_of_datasets_stay() -> None:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 1

    def data() -> Any:
        return dataset(40).with_options(options).repeat(2).shuffle(7, seed=3)

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        return [lookup(tables["t"], batch["id"] * 3)]

    assert len(assert_same_training(data, rows_of, make_iterator=one_shot).losses) == 80


def test_string_handles_keep_iterators_in_place() -> None:
    with tf.Graph().as_default():
        data = dataset(3)
        iterator = v1.data.make_initializable_iterator(data)
        handle = v1.placeholder(tf.string, [])
        chosen = v1.data.Iterator.from_string_handle(
            handle, v1.data.get_output_types(data), v1.data.get_output_shapes(data)
        )
        table = create("t")
        rows = lookup(table, chosen.get_next()["id"] + 1, name="chosen")
        direct = lookup(table, iterator.get_next()["id"] + 1, name="direct")
        with warnings_of() as warnings:
            mx.modify_graph_and_start_emb_cache()
        assert len(warnings) == 2
        assert "IteratorFromStringHandle" in warnings[0] and "ToStringHandle" in warnings[1]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            string = session.run(iterator.string_handle())
            session.run([rows, direct], {handle: string})


@pytest.mark.parametrize("make_iterator", [one_shot, initializable])
def test_one_tensor_for_a_component(make_iterator: Any) -> None:
    with tf.Graph().as_default():
        feed = make_iterator(v1.data.Dataset.range(6).batch(2))
        table = create("t")
        rows = lookup(table, feed.batch)
        mx.modify_graph_and_start_emb_cache()
        assert op_between(keys_of(rows)) == []
        assert isinstance(mx.get_target_batch(True), tf.Tensor)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            np.testing.assert_array_equal(session.run([feed.batch, rows])[0], [0, 1])
        np.testing.assert_array_equal(contents(table)[0], [0, 1])


def test_a_second_rewriting_for_later_lookups() -> None:
    with tf.Graph().as_default():
        feed = initializable(dataset(6))
        table = create("t")
        first = lookup(table, feed.batch["id"] + 1)
        mx.modify_graph_and_start_emb_cache()
        batch = mx.get_target_batch(True)
        second = lookup(table, tf.strings.to_number(batch["number"], tf.int64))
        mx.modify_graph_and_start_emb_cache()
        assert op_between(keys_of(first)) == op_between(keys_of(second)) == []
        # Of one iterator, still.
        assert mx.get_initializer(True) is feed.initializers[0]
        newest = mx.get_target_batch(True)
        tf.nest.assert_same_structure(newest, feed.batch)
        assert newest["id"] is not batch["id"]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            for step in range(6):
                got = session.run([feed.batch, batch, newest, first, second])
                part = slice(step * BATCH, (step + 1) * BATCH)
                for each in got[:3]:
                    np.testing.assert_array_equal(each["id"], elements(6)["id"][part])
