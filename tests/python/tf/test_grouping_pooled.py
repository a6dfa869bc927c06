"""Pooled lookups of many tables in one op, and results that never depend on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents, lookups_of, make, run

import mxrec.tf as mx
from mxrec.tf import optimizers as opt
from mxrec.tf.ops import library

v1 = tf.compat.v1
SLOTS = 26
WEIGHTED = 5
COMBINERS = ("mean", "sum", "sqrtn")


class Model:
    """A pooled lookup per slot, of mixed kinds, combiners and key types, and a step of training."""

    def __init__(self) -> None:
        self.tables = [make(f"slot{i}", 1 + i % 5) for i in range(SLOTS)]
        self.splits = v1.placeholder(tf.int64, [None])
        self.ids = [v1.placeholder(tf.int64 if i % 4 else tf.int32, [None]) for i in range(SLOTS)]
        self.weights = [v1.placeholder(tf.float32, [None]) for _ in range(WEIGHTED)]
        self.values = [self.lookup(i) for i in range(SLOTS)]
        # The first ones again, with weights that have gradients.
        self.values += [self.lookup(i, sp_weights=self.weights[i]) for i in range(WEIGHTED)]
        self.read = [self.lookup(i, is_train=False) for i in range(WEIGHTED, SLOTS)]
        self.read += [
            self.lookup(i, sp_weights=self.weights[i], is_train=False) for i in range(WEIGHTED)
        ]
        self.loss = tf.add_n(
            [(i + 1.0) * tf.reduce_mean(tf.square(v)) for i, v in enumerate(self.values)]
        )
        _, sparse = mx.get_dense_and_sparse_variable()
        gradients = tf.gradients(self.loss, [*sparse, *self.weights])
        self.weight_gradients = gradients[len(sparse) :]
        self.train = opt.lazy_adam.create_hash_optimizer(0.01).apply_gradients(
            zip(gradients[: len(sparse)], sparse, strict=True)
        )

    def lookup(self, i: int, sp_weights: Any = None, **kwargs: Any) -> Any:
        if sp_weights is not None:
            sp_weights = self.bags(i, sp_weights)
        combiner = COMBINERS[i % len(COMBINERS)]
        ids = self.bags(i, self.ids[i])
        return mx.sparse_lookup(
            self.tables[i], ids, combiner=combiner, sp_weights=sp_weights, **kwargs
        )

    def bags(self, i: int, values: Any) -> Any:
        ragged = tf.RaggedTensor.from_row_splits(values, self.splits, validate=False)
        return ragged.to_sparse() if i % 2 else ragged

    def feed(self, rng: np.random.Generator, bags: int) -> dict[Any, Any]:
        splits = np.concatenate([[0], np.cumsum(rng.integers(0, 5, bags))])
        n = splits[-1]
        feed = {ids: rng.integers(-50, 50, n) for ids in self.ids}
        feed.update({weights: rng.normal(size=n) for weights in self.weights})
        return {**feed, self.splits: splits}


def trained(start: Any, seed: int, grouped: bool, expansion: bool) -> list[Any]:
    """Losses, gradients of weights, readings and tables of a few steps."""
    start(group_lookups=grouped, use_dynamic_expansion=expansion)
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    with tf.Graph().as_default(), v1.Session() as session:
        model = Model()
        session.run(v1.global_variables_initializer())
        for step in range(4):
            feed = model.feed(rng, int(rng.integers(1, 40)) if step else 17)
            fetches = [model.loss, model.weight_gradients, model.train]
            (loss, gradients, _), ops = run(session, fetches, feed)
            found.extend([loss, *gradients])
            if grouped:
                pooled = {} if expansion else {"MxrecGroupedPooledLookup": 1}
                assert lookups_of(ops) == {"MxrecGroupedLookupUnique": 1, **pooled}
                assert {op: n for op, n in ops.items() if "Pooled" in op} == {
                    "MxrecGroupedPooledRestore": 1,
                    "MxrecGroupedPooledSegmentSum": 1,
                    "MxrecGroupedPooledWeightGradients": 1,
                    **pooled,
                }
            else:
                assert not any("Grouped" in op for op in ops)
            read, ops = run(session, model.read, feed)
            found.extend(read)
            kind = {"MxrecGroupedPooledRead": 1} if grouped else {"MxrecPooledRead": SLOTS}
            assert lookups_of(ops) == kind
        for table in model.tables:
            found.extend(contents(table))
    return found


@pytest.mark.parametrize("expansion", [False, True])
def test_results_do_not_depend_on_grouping(start: Any, seed: int, expansion: bool) -> None:
    on = trained(start, seed, True, expansion)
    off = trained(start, seed, False, expansion)
    assert len(on) == len(off)
    for mine, theirs in zip(on, off, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_fetched_and_fed_ones(start: Any, rng: np.random.Generator) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        model = Model()
        session.run(v1.global_variables_initializer())
        feed = model.feed(rng, 8)
        wanted = session.run(model.values, feed)
        # One by itself is not grouped; what is fetched beside the step is the step's.
        value, ops = run(session, model.values[3], feed)
        assert lookups_of(ops) == {"MxrecPooledLookup": 1}
        np.testing.assert_array_equal(value, wanted[3])
        (value, loss), ops = run(session, [model.values[3], model.loss], feed)
        assert lookups_of(ops) == {"MxrecGroupedPooledLookup": 1, "MxrecGroupedLookupUnique": 1}
        np.testing.assert_array_equal(value, wanted[3])
        # A fed one does not run, nor do the ops behind it.
        fed = {**feed, model.values[3]: np.zeros_like(value), model.values[4]: wanted[4]}
        counts = [contents(table)[1].sum() for table in model.tables[2:6]]
        less, ops = run(session, model.loss, fed)
        assert lookups_of(ops) == {"MxrecGroupedPooledLookup": 1, "MxrecGroupedLookupUnique": 1}
        after = [contents(table)[1].sum() for table in model.tables[2:6]]
        n = len(feed[model.ids[0]])
        looked_up = [2, 1, 1, 1]  # with weights, too: the first WEIGHTED
        assert [a - c for a, c in zip(after, counts, strict=True)] == [n * x for x in looked_up]
        assert less < loss


def test_tables_may_opt_in_and_out(start: Any) -> None:
    start(group_lookups=False)
    with tf.Graph().as_default(), v1.Session() as session:
        ids = tf.ragged.constant([[1, 2], [3]], tf.int64)
        tables = [make(name, enable_merge=name < "c") for name in "abcd"]
        values = [mx.sparse_lookup(table, ids, combiner="sum") for table in tables]
        read = [mx.sparse_lookup(t, ids, combiner="sum", is_train=False) for t in tables]
        gradients = tf.gradients(tf.add_n(values), [table.nodes().proxy for table in tables])
        _, ops = run(session, [each.values for each in gradients])
        for op in ("PooledLookup", "PooledSegmentSum"):
            assert ops[f"MxrecGrouped{op}"] == 1 and ops[f"Mxrec{op}"] == 2
        _, ops = run(session, read)
        assert lookups_of(ops) == {"MxrecGroupedPooledRead": 1, "MxrecPooledRead": 2}


def test_errors_name_their_table_or_op(start: Any) -> None:
    for expansion, place in ((False, "'b'"), (True, "'lookup_b/")):
        start(use_dynamic_expansion=expansion)
        with tf.Graph().as_default(), v1.Session() as session:
            tables = [make(name) for name in "abc"]
            splits = [v1.placeholder(tf.int64, [None]) for _ in tables]
            keys = tf.constant([1, 2, 3], tf.int64)
            values = [
                mx.sparse_lookup(
                    table,
                    tf.RaggedTensor.from_row_splits(keys, each, validate=False),
                    combiner="sum",
                )
                for table, each in zip(tables, splits, strict=True)
            ]
            feed = {each: [0, 2, 3] for each in splits}
            _, ops = run(session, values, feed)
            assert (
                ops["MxrecGroupedPooledRestore" if expansion else "MxrecGroupedPooledLookup"] == 1
            )
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"{place}.*offsets"):
                session.run(values, {**feed, splits[1]: [0, 2, 7]})


def test_grouped_ops_need_an_attribute_for_each_member(start: Any) -> None:
    arguments = {
        "rows": [tf.zeros([1, 2])] * 2,
        "inverse": [tf.zeros([3], tf.int32)] * 2,
        "splits": [tf.constant([0, 3], tf.int64)] * 2,
        "weights": [tf.ones([3])] * 2,
    }
    lists = {"names": ["a", "b"], "combiner": ["sum", "mean"], "num_weights": [0, 1]}
    sums = library.mxrec_grouped_pooled_restore(**arguments, **lists)
    assert [each.shape for each in sums] == [(1, 2), (1, 2)]
    for name, values in lists.items():
        short = {**lists, name: values[:1]}
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} has 1 elements.*of 2"):
            library.mxrec_grouped_pooled_restore(**arguments, **short)
