"""Eviction: what goes at a trigger, what comes after it, thresholds that change while training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import RATE, Run, by_config, by_spec, keys, make
from graph_runs import contents

import mxrec.tf as mx
from mxrec.tf import optimizers as opt
from mxrec.tf.evict_hook import evict_op

v1 = tf.compat.v1


def aging(**access: Any) -> Run:
    """A table that forgets keys after 10 seconds of its timestamps."""
    mx.FeatureSpec("time", is_timestamp=True)
    return Run(by_spec(eviction_threshold=10, **access))


# --- Eviction -----------------------------------------------------------------------------------


def test_what_is_too_old_goes_and_starts_afresh(start):
    start()
    program = aging()
    program.train(1, 2, time=100)
    program.train(2, 3, time=105)
    np.testing.assert_array_equal(program.read(1, 2, 3), [[0.5] * 2, [0] * 2, [0.5] * 2])
    assert program.table.evict() == 0  # 1 is 5 old
    program.train(4, time=110)
    assert program.table.evict() == 1
    assert contents(program.table)[0].tolist() == [2, 3, 4]
    np.testing.assert_array_equal(program.read(1), [[0, 0]])
    np.testing.assert_array_equal(program.table.counts(keys(1)), [0])
    np.testing.assert_array_equal(program.look(1, time=111), [[1, 1]])
    np.testing.assert_array_equal(program.table.counts(keys(1)), [1])
    stats = program.table.stats()
    assert stats["evicted_by_age"] == stats["evicted"] == 1


def test_now(start):
    start()
    program = aging()
    program.look(1, time=100)
    assert program.table.evict(now=50) == 0  # the latest use is later
    assert program.table.evict(now=109) == 0
    assert program.table.evict(now=110) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(now=1.5), TypeError, r"now must be an int, got 1\.5 \(float\)"),
        (dict(now=True), TypeError, r"now must be an int, got True \(bool\)"),
        (dict(now=2**32), ValueError, r"now must be in \[0, 4294967295\], got 4294967296"),
        (dict(budget="all"), TypeError, r"budget must be an int, got 'all' \(str\)"),
        (dict(budget=-1), ValueError, r"budget must be in \[0, \d+\], got -1"),
    ],
)
def test_bad_arguments(start, arguments, error, message):
    start()
    program = aging()
    program.look(1, time=100)
    with pytest.raises(error, match=message):
        program.table.evict(**arguments)
    assert program.table.size() == 1
    assert program.table.evict(now=np.int64(110), budget=np.int32(1)) == 1


def test_a_trigger_is_seen_at_once_whatever_its_budget(start):
    start()
    program = aging()
    program.look(*range(1000), time=100)
    program.look(5000, time=200)
    assert program.table.evict(budget=0) == 0
    assert program.table.size() == 1
    np.testing.assert_array_equal(program.read(7, 5000), [[0, 0], [1, 1]])
    for _ in range(200):
        if not program.table.stats()["evicting"]:
            break
        program.look(5000, time=200)
    stats = program.table.stats()
    assert not stats["evicting"]
    assert stats["evicted_by_age"] == 1000


def test_the_op(start):
    start()
    program = aging()
    with program.graph.as_default():
        now = v1.placeholder(tf.int32, [])
        plain, at, bounded = (
            evict_op(program.table),
            evict_op(program.table, now=now),
            evict_op(program.table, budget=1),
        )
    run = program.session.run
    program.look(1, 2, 3, time=100)
    assert run(plain) == 0
    assert run(at, {now: 109}) == 0
    program.look(3, time=110)
    assert run(bounded) <= 1
    assert program.table.size() == 1
    assert run(at, {now: 120}) >= 1
    assert program.table.size() == 0


def test_counts_of_keys_without_a_row_go_too(start):
    start()
    program = aging(access_threshold=3)
    program.look(1, 1, 2, 2, 2, time=100)
    program.look(3, time=109)
    program.table.evict(now=110)
    np.testing.assert_array_equal(program.table.counts(keys(1, 2, 3)), [0, 0, 1])
    np.testing.assert_array_equal(program.look(2, 3, 3, time=111), [[0, 0], [1, 1], [1, 1]])


def test_optimizer_state_goes_with_the_row(start):
    start()
    mx.FeatureSpec("time", is_timestamp=True)
    table = make()
    spec = mx.FeatureSpec("ids", "t", eviction_threshold=10)
    optimizer = opt.adagrad.create_hash_optimizer(0.1, initial_accumulator_value=0.5)

    def step(key: int, when: int) -> None:
        with tf.GradientTape() as tape:
            rows = mx.sparse_lookup(table, spec, batch={"ids": keys(key), "time": keys(when)})
            loss = tf.reduce_sum(rows)
        _, sparse = mx.get_dense_and_sparse_variable()
        optimizer.apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))

    step(1, 100)
    fresh = contents(table)
    step(1, 100)
    table.evict(now=200)
    step(1, 201)
    for was, now in zip(fresh, contents(table), strict=True):
        np.testing.assert_array_equal(now, was)


def test_gradients_of_rows_that_went_meanwhile_are_dropped(start):
    start()
    mx.FeatureSpec("time", is_timestamp=True)
    table = make()
    spec = mx.FeatureSpec("ids", "t", eviction_threshold=10)
    _, sparse = mx.get_dense_and_sparse_variable()
    optimizer = opt.gradient_descent.create_hash_optimizer(RATE)
    with tf.GradientTape() as tape:
        batch = {"ids": keys(1, 2), "time": keys(100, 200)}
        loss = tf.reduce_sum(mx.sparse_lookup(table, spec, batch=batch))
    gradients = tape.gradient(loss, sparse)
    assert table.evict() == 1
    optimizer.apply_gradients(zip(gradients, sparse, strict=True))
    keys_there, _, values, _ = contents(table)
    assert (keys_there.tolist(), values.tolist()) == ([2], [[0.5, 0.5]])
    assert table.stats()["skipped_gradients"] == 1
    # A key that came back is not that row any more, but its gradient finds it.
    mx.sparse_lookup(table, spec, batch={"ids": keys(1), "time": keys(200)})
    optimizer.apply_gradients(zip(gradients, sparse, strict=True))
    assert contents(table)[2].tolist() == [[0.5, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize("by", ["addresses", "keys"])
def test_addresses_of_rows_that_went(start, by):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = v1.placeholder(tf.int64, [None])
        times = v1.placeholder(tf.int64, [None])
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        mx.sparse_lookup(table, ids, access_and_evict_config={"eviction_threshold": 10})
        name = {"addresses": "ID_OFFSET", "keys": "UNIQUE_KEYS"}[by]
        (target,) = v1.get_collection(getattr(mx, f"ASCEND_SPARSE_LOOKUP_{name}"))
        optimizer = (
            opt.gradient_descent_by_addr.create_hash_optimizer_by_addr(0.5, weight_decay=0.0)
            if by == "addresses"
            else opt.gradient_descent.create_hash_optimizer(0.5)
        )
        train = optimizer.apply_gradients([(tf.ones([1, 2]), target)])
        old = session.run(target, {ids: keys(1), times: keys(100)})
        assert table.evict(now=200) == 1
        if by == "addresses":
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(train, {target: old})
        else:
            session.run(train, {target: old})
            assert table.stats()["skipped_gradients"] == 1
        assert table.size() == 0


def test_without_a_rule(start):
    start()
    table = make()
    with pytest.raises(RuntimeError, match=r"'t'.*rule"):
        table.evict()
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"'t'.*rule"):
        evict_op(table)


# --- Other rules --------------------------------------------------------------------------------


def test_max_rows_and_min_l2_of_create_table(start):
    start()
    table = make(evict_max_rows=2, evict_min_l2=0.5)
    assert table.evicts
    for key, times in ((1, 3), (2, 1), (3, 2), (4, 4)):
        mx.sparse_lookup(table, np.full(times, key))
    assert table.evict() == 2
    assert contents(table)[0].tolist() == [1, 4]
    table.engine.assign(keys(4), np.float32([[0.1, 0.2]]))
    assert table.evict() == 1
    stats = table.stats()
    assert (stats["evicted_by_rows"], stats["evicted_by_l2"], stats["rows"]) == (2, 1, 1)
    # An age is one more rule.
    config = {"eviction_threshold": 30}
    mx.sparse_lookup(table, keys(1), access_and_evict_config=config, is_train=False)
    rules = table.engine.eviction
    assert (rules.max_age, rules.max_rows, rules.min_l2) == (30, 2, 0.5)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="evict_max_rows 2 != 3"):
        make(evict_max_rows=3, evict_min_l2=0.5)


# --- set_threshold ------------------------------------------------------------------------------


def test_thresholds_change_while_training(start):
    start(use_dynamic_expansion=True)
    ops = mx.get_host_pipeline_ops()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(f"t{i}") for i in range(3)]
        ids = v1.placeholder(tf.int64, [None])
        rows = [
            mx.sparse_lookup(table, ids, access_and_evict_config={"access_threshold": 5})
            for table in tables
        ]
        wanted = v1.placeholder(tf.int32, [])
        set_one = ops.set_threshold(2, emb_name="t0", ids_name="ids")
        set_two = ops.set_threshold(wanted, emb_name=["t0", "t1"], ids_name=["a", "b"])
        freeze = ops.set_threshold(tf.constant(0, tf.int64), emb_name="t0")

        def admitted(*numbers: int) -> list[bool]:
            values = session.run(rows, {ids: keys(*numbers)})
            return [bool(value[0, 0]) for value in values]

        def thresholds() -> list[Any]:
            return [table.stats()["admission_threshold"] for table in tables]

        assert admitted(1) == [False] * 3
        session.run(set_one)
        assert thresholds() == [2, 5, 5]
        assert admitted(1) == [True, False, False]
        session.run(set_two, {wanted: 3})
        assert thresholds() == [3, 3, 5]
        assert admitted(1) == [True, True, False]
        session.run(set_two, {wanted: 100})  # no row goes
        assert admitted(1) == [True, True, False]
        session.run(set_one)
        session.run(freeze)
        assert thresholds()[0] == 2 and tables[0].stats()["admission_frozen"]
        before = tables[0].counts(keys(1, 2))
        assert admitted(2, 2, 2) == [False] * 3
        np.testing.assert_array_equal(tables[0].counts(keys(1, 2)), before)
        session.run(set_one)
        assert admitted(2, 2)[0]
        with pytest.raises(tf.errors.InvalidArgumentError, match="threshold is -1"):
            session.run(set_two, {wanted: -1})


def test_set_threshold_at_once_in_eager_mode_and_in_functions(start):
    start()
    table = make()
    mx.sparse_lookup(table, [1], access_and_evict_config={"access_threshold": 5})
    assert mx.set_threshold(2, emb_name="t") is None
    assert mx.set_threshold(threshold_tensor=2, emb_name="t") is None
    for both in ({}, {"threshold": 1, "threshold_tensor": 1}):
        with pytest.raises(TypeError, match="one of threshold and threshold_tensor"):
            mx.set_threshold(emb_name="t", **both)
    assert table.stats()["admission_threshold"] == 2

    @tf.function
    def change(n: Any) -> None:
        mx.set_threshold(n, emb_name=["t"])

    change(tf.constant(7))
    assert table.stats()["admission_threshold"] == 7


def test_set_threshold_refuses(start):
    start()
    table = make()
    for threshold, name, error, text in [
        (-1, "t", ValueError, r"threshold must be in \[0, 2147483647\], got -1"),
        (1.5, "t", TypeError, "threshold"),
        (tf.constant(1.5), "t", TypeError, "threshold"),
        (tf.constant([1]), "t", TypeError, "threshold"),
        (1, None, TypeError, "emb_name"),
        (1, [], TypeError, "emb_name"),
        (1, 3, TypeError, "emb_name"),
        (1, "other", ValueError, "there is no table 'other'; there are: 't'"),
        (1, ["t", "other"], ValueError, "there is no table 'other'"),
        (1, "t", tf.errors.FailedPreconditionError, "'t' has no admission"),
    ]:
        with pytest.raises(error, match=text):
            mx.set_threshold(threshold, emb_name=name)
    assert not table.admits


def test_a_sketch_has_small_thresholds(start):
    start()
    program = Run(by_config(access_threshold=3), admission="sketch", admission_keys=4096)
    with pytest.raises(tf.errors.InvalidArgumentError, match="15"):
        mx.set_threshold(16, emb_name="t")
    mx.set_threshold(15, emb_name="t")
    assert program.table.stats()["admission_threshold"] == 15
