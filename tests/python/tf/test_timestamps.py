"""Timestamps of training batches: where they come from, and who gets which."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import keys, make, train_op
from graph_runs import contents

import mxrec.tf as mx

v1 = tf.compat.v1
AGES = {"eviction_threshold": 100}


def last_uses(table: Any) -> dict[int, int]:
    """Time of the last training use, by key."""
    found: dict[int, int] = {}
    cursor = (0, 0)
    while True:
        cursor, some, _, _, _, last = table.engine.scan(cursor, 1 << 16)
        if len(some) == 0:
            return found
        found |= dict(zip(some.tolist(), last.tolist(), strict=True))


# --- FeatureSpec --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        (7, {1: 7, 2: 7, 3: 7}),
        ([7], {1: 7, 2: 7, 3: 7}),
        ([7, 9], {1: 7, 2: 9, 3: 9}),
        ([[7], [9]], {1: 7, 2: 9, 3: 9}),
        ([9, 7], {1: 9, 2: 9, 3: 7}),
    ],
)
@pytest.mark.parametrize("eager", [True, False])
def test_feature_specs(start, times, wanted, dtype, eager):
    start()
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=100)
    mx.FeatureSpec("when", is_timestamp=True)
    batch = {"ids": keys(1, 2, 2, 3).reshape(2, 2), "when": np.array(times, dtype)}
    if eager:
        table = make()
        mx.sparse_lookup(table, ids, batch={k: tf.constant(v) for k, v in batch.items()})
    else:
        with tf.Graph().as_default(), v1.Session() as session:
            table = make()
            session.run(mx.sparse_lookup(table, ids, batch=batch))
    assert last_uses(table) == wanted
    assert table.stats()["latest_time"] == max(wanted.values())


def test_positions_and_nesting(start):
    start()
    spec = mx.FeatureSpec("when", index_key=1, is_timestamp=True)
    table = make()
    batch = ({"ids": tf.constant([1, 2], tf.int64)}, tf.constant([5, 6]))
    mx.sparse_lookup(table, mx.FeatureSpec("ids", "t"), batch=batch)
    assert last_uses(table) == {1: 5, 2: 6}
    with pytest.raises(ValueError, match="holds times, not ids"):
        mx.sparse_lookup(table, spec, batch=batch)


def test_a_dataset(start):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=50)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        elements = {"ids": [[1, 2], [3, 4], [1, 5], [6, 6]], "when": [10, 11, 12, 13]}
        dataset = tf.data.Dataset.from_tensor_slices(elements).batch(2)
        batch = v1.data.make_one_shot_iterator(dataset).get_next()
        rows = mx.sparse_lookup(table, ids, batch=batch)
        session.run(rows)
        assert last_uses(table) == {1: 10, 2: 10, 3: 11, 4: 11}
        session.run(rows)
        assert last_uses(table) == {1: 12, 2: 10, 3: 11, 4: 11, 5: 12, 6: 13}


@pytest.mark.parametrize("made", ["before init", "in an earlier cycle"])
def test_specs_outlive_init(start, made):
    mx.terminate_config_initializer()
    if made == "in an earlier cycle":
        mx.init()
    specs = [mx.FeatureSpec("when", is_timestamp=True), mx.FeatureSpec("ids", "t")]
    for _ in range(2):
        start()
        table = make()
        mx.sparse_lookup(table, specs[1], batch={"ids": keys(1), "when": keys(5)})
        assert last_uses(table) == {1: 5}


@pytest.mark.parametrize("where", [{"index_key": "when"}, {"index_key": 1}], ids=["name", "place"])
def test_specs_of_an_earlier_model_match_no_later_batch(start, where):
    start()
    old = [mx.FeatureSpec("time", is_timestamp=True, **where), mx.FeatureSpec("old", "t")]
    start()
    table = make()
    batch = {"ids": keys(1), "when": keys(5)}
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=50)
    mx.sparse_lookup(table, ids, batch=batch)
    assert abs(last_uses(table)[1] - time.time()) < 100
    # Nor does anyone miss it.
    mx.sparse_lookup(table, ids, batch={"ids": keys(2)})
    # The new model may have one of its own, elsewhere.
    start()
    table = make()
    mx.FeatureSpec("ids", is_timestamp=True, index_key="other")
    mx.sparse_lookup(table, mx.FeatureSpec("ids", "t"), batch=batch | {"other": keys(7)})
    assert last_uses(table) == {1: 7}
    assert old


@pytest.mark.parametrize("use", ["insert", "lookup"])
def test_specs_come_back_when_one_of_them_is_used(start, use):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    used = mx.FeatureSpec("ids", "t")
    start()
    table = make()
    batch = {"ids": keys(1), "when": keys(5)}
    if use == "insert":
        data = tf.data.Dataset.from_tensors(batch).map(mx.get_asc_insert_func(used))
        (batch,) = data
        mx.sparse_lookup(table, batch["ids"], batch=batch)
    else:
        mx.sparse_lookup(table, used, batch=batch)
    assert last_uses(table) == {1: 5}


def test_a_batch_without_its_timestamp(start):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=50)
    table = make()
    with pytest.raises(ValueError, match=r"'t' evicts by age.*'when'.*does not have it"):
        mx.sparse_lookup(table, ids, batch={"ids": keys(1)})
    assert table.size() == 0
    # Evaluation needs none, nor does a table that does not evict by age.
    mx.sparse_lookup(table, ids, batch={"ids": keys(1)}, is_train=False)
    other = make("other")
    mx.sparse_lookup(other, mx.FeatureSpec("ids", "other"), batch={"ids": keys(1)})
    assert abs(last_uses(other)[1] - time.time()) < 100


@pytest.mark.parametrize("source", ["spec", "collection"])
def test_floats_are_no_timestamps(start, source):
    start()
    with tf.Graph().as_default():
        table = make()
        batch = {"ids": keys(1), "when": np.float32([1.5])}
        if source == "spec":
            mx.FeatureSpec("when", is_timestamp=True)
        else:
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.constant(batch["when"]))
        with pytest.raises(TypeError, match=r"int64 or int32 seconds, got dtype float32"):
            mx.sparse_lookup(table, mx.FeatureSpec("ids", "t"), batch=batch)


def test_other_numbers_of_timestamps_and_milliseconds_are_errors(start):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    ids = mx.FeatureSpec("ids", "t")
    table = make()
    for when, text in ((keys(1, 2), "one for each example"), (keys(1 << 41), "milliseconds")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            mx.sparse_lookup(table, ids, batch={"ids": keys(1, 2, 3), "when": when})
    assert table.size() == 0 and table.counts(keys(1)) == [0]


def test_a_graph_without_timestamps_goes_by_the_wall_clock(start):
    start()
    when = mx.FeatureSpec("when", is_timestamp=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = mx.sparse_lookup(table, keys(1), access_and_evict_config=AGES)
        before = int(time.time())
        session.run(rows)
        assert before <= last_uses(table)[1] <= time.time()
        assert table.evict() == 0
        assert table.evict(now=int(time.time()) + 100) == 1
    assert when.is_timestamp


# --- Collection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("expansion", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_collection(start, late, expansion, count):
    """Dense, sparse, ragged and pooled ids; timestamps that are there before or after them."""
    start(use_dynamic_expansion=expansion)
    ops = mx.import_host_pipeline_ops()
    ragged = tf.ragged.constant([[1, 2], [3]], tf.int64)
    with tf.Graph().as_default(), v1.Session() as session:
        times = v1.placeholder(tf.int64, [None])

        def collect() -> None:
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, ops.return_timestamp(times))

        if not late:
            collect()
        ids: dict[str, Any] = {
            "dense": keys(1, 2, 3, 4).reshape(2, 2),
            "sparse": v1.SparseTensorValue([[0, 0], [0, 1], [1, 0]], keys(1, 2, 3), [2, 2]),
            "ragged": v1.ragged.RaggedTensorValue(ragged.values.numpy(), ragged.row_splits.numpy()),
            "deep": v1.ragged.constant([[[1, 2], []], [[], [3], [4]]], tf.int64),
            "pooled": v1.ragged.constant([[1, 2], [3]], tf.int64),
            "weighted": v1.ragged.constant([[1, 2], [3]], tf.int64),
        }
        pooling: dict[str, Any] = {
            "pooled": {"combiner": "sum"},
            "weighted": {
                "combiner": "mean",
                "sp_weights": v1.ragged.constant([[1.0, 2.0], [3.0]]),
            },
        }
        tables = {name: make(name) for name in ids}
        rows = [
            mx.sparse_lookup(
                tables[name],
                ids[name],
                access_and_evict_config=AGES,
                **pooling.get(name, {}),
            )
            for name in ids
        ]
        if late:
            collect()
        loss = tf.add_n([tf.reduce_sum(getattr(each, "flat_values", each)) for each in rows])
        train = train_op(loss)
        given = keys(5, 8)[:count]
        session.run(train, {times: given})
        first, second = given[0], given[-1]
        assert last_uses(tables["dense"]) == {1: first, 2: first, 3: second, 4: second}
        for name in ("sparse", "ragged", "pooled", "weighted"):
            assert last_uses(tables[name]) == {1: first, 2: first, 3: second}, name
        assert last_uses(tables["deep"]) == {1: first, 2: first, 3: second, 4: second}


def test_the_latest_wins(start):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=100)
    table = make()
    for key, when in ((1, 50), (2, 20), (1, 10)):
        mx.sparse_lookup(table, ids, batch={"ids": keys(key), "when": keys(when)})
    assert last_uses(table) == {1: 50, 2: 20}
    assert table.stats()["latest_time"] == 50


def test_evaluation_touches_no_timestamp(start):
    start()
    mx.FeatureSpec("when", is_timestamp=True)
    ids = mx.FeatureSpec("ids", "t", eviction_threshold=100)
    table = make()
    mx.sparse_lookup(table, ids, batch={"ids": keys(1), "when": keys(50)})
    version = table.engine.version
    for _ in range(3):
        batch = {"ids": keys(1, 2), "when": keys(5000)}
        mx.sparse_lookup(table, ids, batch=batch, is_train=False)
    assert last_uses(table) == {1: 50}
    assert table.stats()["latest_time"] == 50
    assert table.engine.version == version


def test_two_sources_in_one_table_are_an_error(start):
    start()
    table = make()
    mx.sparse_lookup(table, keys(1), access_and_evict_config=AGES)  # by the wall clock
    mx.FeatureSpec("when", is_timestamp=True)
    with pytest.raises(tf.errors.OpError, match=r"'t'.*timestamp"):
        mx.sparse_lookup(table, mx.FeatureSpec("ids"), batch={"ids": keys(2), "when": keys(50)})
    assert contents(table)[0].tolist() == [1]


MISSING = r"'t' evicts by age.*'when' is a timestamp, but .* none; .*as batch"


def test_a_lookup_without_batch_where_features_have_timestamps(start):
    start()
    spec = mx.FeatureSpec("when", is_timestamp=True)
    table, other = make(), make("other")
    for lookup in (
        lambda: mx.sparse_lookup(table, keys(1), access_and_evict_config=AGES),
        tf.function(lambda: mx.sparse_lookup(table, keys(1))),
        lambda: mx.grouped_lookup([other, table], [keys(1), keys(1)]),
    ):
        with pytest.raises(ValueError, match=MISSING):
            lookup()
    assert table.size() == 0 and table.stats()["latest_time"] == 0
    mx.sparse_lookup(table, keys(1), is_train=False)
    mx.grouped_lookup([other, other], [keys(1), keys(2)])  # ages do not matter
    assert spec.is_timestamp


@pytest.mark.parametrize("collected", [None, "before", "after"])
def test_a_graph_without_batch_where_features_have_timestamps(start, collected):
    start()
    spec = mx.FeatureSpec("when", is_timestamp=True)
    with tf.Graph().as_default():
        table = make()
        times = tf.constant([40], tf.int64)
        if collected == "before":
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        # The collection stands in for a batch without the feature, too.
        batch = {"ids": keys(1)} if collected == "before" else None
        ids = keys(1) if batch is None else mx.FeatureSpec("ids", "t")
        rows = mx.sparse_lookup(table, ids, batch=batch, access_and_evict_config=AGES)
        if collected == "after":
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        hook = mx.EvictHook(evict_enable=True)
        if collected is None:
            with pytest.raises(ValueError, match=MISSING):
                hook.begin()
            return
        hook.begin()
        with v1.Session() as session:
            session.run(rows)
        assert last_uses(table) == {1: 40}
    assert spec.is_timestamp


def test_bags_without_any_key(start):
    start()
    table = make()
    config = {"eviction_threshold": 10}
    times = mx.FeatureSpec("when", is_timestamp=True)
    for combiner in ("sum", None):
        empty = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int64), [0, 0, 0])
        batch = {"when": tf.constant([7, 8], tf.int64)}
        options = {"access_and_evict_config": config, "batch": batch, "combiner": combiner}
        mx.sparse_lookup(table, empty, **options)
        mx.sparse_lookup(table, tf.ragged.constant([[1], [2]], tf.int64), **options)
        mx.sparse_lookup(table, empty, **options)
    assert table.engine.stats()["latest_time"] == 8
    del times


def test_two_timestamps_in_a_batch_are_an_error(start):
    start()
    table = make()
    specs = [mx.FeatureSpec(name, is_timestamp=True) for name in ("first", "second")]
    batch = {"first": tf.constant(500), "second": tf.constant(3)}
    with pytest.raises(ValueError, match="'first' and 'second' are both timestamps"):
        mx.sparse_lookup(table, tf.constant([1], tf.int64), batch=batch)
    del specs
