"""Dense and pooled lookups of one table that admits by counts: steps that can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import make, train_op
from graph_runs import contents, lookups_of, run

import mxrec.tf as mx

v1 = tf.compat.v1
ADMIT = {"access_threshold": 3}
STEPS = 200
BAGS = 8


def lookups(tables: list[Any], ids: list[Any]) -> list[Any]:
    """A dense and a pooled lookup of each table, of which most keys are the same."""
    rows = []
    for table, dense, pooled in zip(tables, ids, reversed(ids), strict=True):
        bags = tf.RaggedTensor.from_row_lengths(pooled, [BAGS] * BAGS)
        rows.append(mx.sparse_lookup(table, bags, combiner="sum", access_and_evict_config=ADMIT))
        rows.append(mx.sparse_lookup(table, dense, access_and_evict_config=ADMIT))
    return rows


def batches(seed: int, tables: int) -> Any:
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield [rng.integers(0, 4000, BAGS * BAGS) for _ in range(tables)]


def in_a_session(seed: int) -> list[Any]:
    found: list[Any] = []
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(name, 4) for name in "ab"]
        ids = [v1.placeholder(tf.int64, [None]) for _ in tables]
        rows = lookups(tables, ids)
        step = [rows, train_op(tf.add_n([tf.reduce_sum(each) for each in rows]) / 7)]
        session.run(v1.global_variables_initializer())
        for batch in batches(seed, len(tables)):
            found += session.run(step, dict(zip(ids, batch, strict=True)))[0]
        return found + [part for table in tables for part in contents(table)]


def in_a_function(seed: int) -> list[Any]:
    tables = [make(name, 4) for name in "ab"]

    @tf.function(input_signature=[[tf.TensorSpec([None], tf.int64)] * len(tables)])
    def step(ids: list[Any]) -> list[Any]:
        return lookups(tables, ids)

    found = [each.numpy() for batch in batches(seed, len(tables)) for each in step(batch)]
    return found + [part for table in tables for part in contents(table)]


@pytest.mark.parametrize("expansion", [False, True])
@pytest.mark.parametrize("way", [in_a_session, in_a_function])
def test_runs_are_equal(
    start: Any, seed: int, way: Callable[[int], list[Any]], expansion: bool
) -> None:
    runs = []
    for _ in range(2):
        start(use_dynamic_expansion=expansion)
        runs.append(way(seed))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < len(runs[0][-4]) < 4000  # some keys were admitted, and some refused


def test_lookups_are_grouped_nevertheless_and_run_only_where_needed(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(name, 4) for name in "ab"]
        ids = [tf.range(BAGS * BAGS, dtype=tf.int64)] * 2
        rows = lookups(tables, ids)
        _, ops = run(session, rows)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1, "MxrecGroupedPooledLookup": 1}
        before = tables[0].counts(np.arange(1))[0]
        _, ops = run(session, rows[0])
        assert lookups_of(ops) == {"MxrecPooledLookup": 1}
        _, ops = run(session, rows[1])
        assert lookups_of(ops) == {"MxrecLookup": 1}
        assert tables[0].counts(np.arange(1))[0] == before + 2


def test_lookups_do_not_wait_for_what_waits_for_them(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make("t", 4)
        queue = v1.FIFOQueue(1, [tf.int64], [[BAGS * BAGS]])
        # Dense lookups come first, but for these ids the pooled lookup must have run.
        dense = mx.sparse_lookup(table, queue.dequeue(), access_and_evict_config=ADMIT)
        bags = tf.RaggedTensor.from_row_lengths(
            tf.range(BAGS * BAGS, dtype=tf.int64), [BAGS] * BAGS
        )
        pooled = mx.sparse_lookup(table, bags, combiner="sum", access_and_evict_config=ADMIT)
        put = queue.enqueue(tf.cast(tf.reshape(tf.tile(pooled, [1, 2]), [-1]), tf.int64))
        options = v1.RunOptions(timeout_in_ms=20_000)
        got, _ = session.run([dense, put], options=options)
        assert got.shape == (BAGS * BAGS, 4)
