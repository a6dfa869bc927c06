"""Fetches and feeds of what a rewriting has replaced: by name, and as sparse or ragged tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents
from rewrite_runs import BATCH, create, dataset, elements, lookup, one_shot
from tensorflow.python.client import session as session_lib

import mxrec.tf as mx

v1 = tf.compat.v1
COLUMNS = elements(3)


@pytest.fixture(autouse=True)
def library(start: Any) -> None:
    start()


def wordy(batch: Any) -> Any:
    return tf.strings.to_hash_bucket_fast(batch["word"], 100)


def test_names_mean_the_new_tensors() -> None:
    with tf.Graph().as_default():
        batch = one_shot(dataset(3)).batch
        ids = wordy(batch)
        table = create("t")
        rows = lookup(table, ids)
        label, more = batch["label"].name, batch["label"] + 1
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            # One element a run, not one of the old and one of the new iterator.
            for step in range(2):
                got = session.run([label, batch["label"], label.encode(), batch["label"].op.name])
                wanted = COLUMNS["label"][step * BATCH : (step + 1) * BATCH]
                for each in got[:3]:
                    np.testing.assert_array_equal(each, wanted)
                assert got[3] is None
            fed = np.full(BATCH, 6.0)
            np.testing.assert_array_equal(session.run(more, {label: fed}), fed + 1)
            named = session.run([label, more], {label: fed})
            np.testing.assert_array_equal(named, [fed, fed + 1])
            both = session.run(more, {(label, ids.name): (fed, np.full(BATCH, 1))})
            np.testing.assert_array_equal(both, fed + 1)
            session.run(rows, {ids.name: np.full(BATCH, 4444)})
            np.testing.assert_array_equal(contents(table)[0], [4444])
            with pytest.raises(ValueError, match=r"IteratorGetNext:\d' cannot be fed.*Feed that"):
                session.run(rows, {batch["word"].name: ["a"] * BATCH})
            for wrong in ("nobody:0", "nobody"):
                with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor"):
                    session.run(rows, {wrong: 1})
            with pytest.raises(ValueError, match="nobody"):
                session.run("nobody:0")


def test_names_where_another_graph_is_the_default() -> None:
    """As in eager programs, which cannot use tensors as keys."""
    with tf.Graph().as_default() as graph:
        batch = one_shot(dataset(3)).batch
        ids = wordy(batch)
        table = create("t")
        rows = lookup(table, ids)
        label, more = batch["label"].name, (batch["label"] + 1).name
        mx.modify_graph_and_start_emb_cache()
        initializer = v1.global_variables_initializer()
    assert tf.executing_eagerly()
    with v1.Session(graph=graph) as session:
        session.run(initializer.name)
    session = v1.Session(graph=graph)
    fed = np.full(BATCH, 6.0)
    np.testing.assert_array_equal(session.run(more, {label: fed}), fed + 1)
    session.run(rows.name, {ids.name: np.full(BATCH, 4444)})
    np.testing.assert_array_equal(contents(table)[0], [4444])
    got = session.run([label, more])
    np.testing.assert_array_equal(got[0] + 1, got[1])
    session.close()


def test_callables_and_partial_runs() -> None:
    mx.terminate_config_initializer()
    mx.init(group_lookups=False)
    with tf.Graph().as_default():
        batch = one_shot(dataset(3)).batch
        lookup(create("t"), wordy(batch))
        more = batch["label"] + 1
        name = batch["label"].name
        mx.modify_graph_and_start_emb_cache()
        fed = np.full(BATCH, 6.0)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for feed in (name, batch["label"]):
                call = session.make_callable(more, feed_list=[feed])
                np.testing.assert_array_equal(call(fed), fed + 1)
                handle = session.partial_run_setup([more], [feed])
                got = session.partial_run(handle, more, {feed: fed})
                np.testing.assert_array_equal(got, fed + 1)
            first = session.make_callable([name, more])()
            np.testing.assert_array_equal(first[0], COLUMNS["label"][:BATCH])
            np.testing.assert_array_equal(first[1], first[0] + 1)


def test_names_in_a_graph_that_was_not_rewritten() -> None:
    with tf.Graph().as_default():
        batch = one_shot(dataset(1)).batch
        more = batch["label"] + 1
        with v1.Session() as session:
            fed = np.full(BATCH, 6.0)
            got = session.run(more, {batch["label"].name: fed})
            np.testing.assert_array_equal(got, fed + 1)


def with_parts(step: dict[str, Any]) -> dict[str, Any]:
    """The parts of sparse and ragged ids as components of their own."""
    sparse = tf.sparse.from_dense(step["id"])
    ragged = tf.RaggedTensor.from_tensor(step["id"])
    return {
        **step,
        "indices": sparse.indices,
        "values": sparse.values,
        "shape": sparse.dense_shape,
        "flat": ragged.flat_values,
        "splits": ragged.row_splits,
    }


def test_sparse_and_ragged_tensors_of_raw_components() -> None:
    with tf.Graph().as_default():
        batch = one_shot(dataset(3).map(with_parts)).batch
        sparse = tf.SparseTensor(batch["indices"], batch["values"], batch["shape"])
        ragged = tf.RaggedTensor.from_row_splits(batch["flat"], batch["splits"], validate=False)
        slices = tf.IndexedSlices(batch["flat"], batch["splits"])
        lookup(create("t"), wordy(batch))
        numbers = [tf.sparse.to_dense(sparse), ragged.flat_values * 2]
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for step in range(2):
                got = session.run([sparse, ragged, slices, batch["id"], batch["values"]])
                wanted = COLUMNS["id"][step * BATCH : (step + 1) * BATCH]
                np.testing.assert_array_equal(got[0].values, wanted[wanted != 0])
                np.testing.assert_array_equal(got[0].values, got[4])
                np.testing.assert_array_equal(got[1].flat_values, wanted.ravel())
                np.testing.assert_array_equal(got[2].values, wanted.ravel())
                np.testing.assert_array_equal(got[3], wanted)
            feed = {
                sparse: v1.SparseTensorValue([[0, 1]], [5], [1, 2]),
                ragged: v1.ragged.RaggedTensorValue(np.arange(32), np.arange(9) * 4),
            }
            got = session.run(numbers, feed)
            np.testing.assert_array_equal(got[0], [[0, 5]])
            np.testing.assert_array_equal(got[1], np.arange(32) * 2)


class Box:
    """What a program fetches and feeds tensors with."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


class FedBox:
    """One that can be fed, too."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def test_types_that_are_registered_later() -> None:
    """After the import of this package."""
    registered = list(session_lib._REGISTERED_EXPANSIONS)
    try:
        session_lib.register_session_run_conversion_functions(
            FedBox,
            lambda box: ([box.tensor], lambda values: values[0]),
            lambda box, value: [(box.tensor, value)],
            lambda box: [box.tensor],
        )
        session_lib.register_session_run_conversion_functions(
            Box, lambda box: ([box.tensor], lambda values: values[0])
        )
        with tf.Graph().as_default():
            batch = one_shot(dataset(3)).batch
            table = create("t")
            rows = lookup(table, wordy(batch))
            more = batch["label"] + 1
            mx.modify_graph_and_start_emb_cache()
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                for step in range(2):
                    boxes = [Box(batch["label"]), FedBox(batch["label"])]
                    got = session.run([batch["label"], *boxes, rows])
                    wanted = COLUMNS["label"][step * BATCH : (step + 1) * BATCH]
                    for each in got[:3]:
                        np.testing.assert_array_equal(each, wanted)
                fed = np.full(BATCH, 6.0)
                got = session.run(more, {FedBox(batch["label"]): fed})
                np.testing.assert_array_equal(got, fed + 1)
    finally:
        session_lib._REGISTERED_EXPANSIONS[:] = registered
