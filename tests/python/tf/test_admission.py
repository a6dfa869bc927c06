"""Admission by FeatureSpec and access_and_evict_config: who gets a row, and what others read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import WAYS, Run, by_config, by_spec, keys, make, train_op
from graph_runs import control_flow_of, lookups_of, run

import mxrec.tf as mx
from mxrec.tf import optimizers as opt
from mxrec.tf.access import check_access_and_evict_config

v1 = tf.compat.v1
PROGRAM = Path(__file__).with_name("admission_program.py")


# --- Who is admitted ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_admitted_by_the_batch_that_brings_it_to_the_threshold(start, way):
    start()
    program = Run(WAYS[way](access_threshold=3))
    np.testing.assert_array_equal(program.train(5, 5, 6), np.zeros((3, 2)))
    np.testing.assert_array_equal(program.table.counts(keys(5, 6, 7)), [2, 1, 0])
    assert program.table.size() == 0
    np.testing.assert_array_equal(program.train(5, 6), [[1, 1], [0, 0]])  # 3 and 2
    assert program.table.size() == 1
    # The gradients of before had no effect; that of the batch that admits has.
    np.testing.assert_array_equal(program.read(5, 6), [[0.5, 0.5], [0, 0]])
    np.testing.assert_array_equal(program.train(6, 6), np.ones((2, 2)))
    np.testing.assert_array_equal(program.read(6), np.zeros((1, 2)))  # two gradients
    stats = program.table.stats()
    assert (stats["admitted"], stats["refused_by_admission"]) == (2, 3)
    assert stats["admission_threshold"] == 3 and not stats["admission_frozen"]


@pytest.mark.parametrize("way", WAYS)
def test_occurrences_count_the_coefficient(start, way):
    start()
    program = Run(WAYS[way](access_threshold=5, faae_coefficient=2))
    program.look(1, 1)
    np.testing.assert_array_equal(program.table.counts(keys(1)), [4])
    np.testing.assert_array_equal(program.look(1), [[1, 1]])
    np.testing.assert_array_equal(program.table.counts(keys(1)), [6])


@pytest.mark.parametrize("off", [None, -1])
def test_off(start, off):
    start()
    program = Run(by_spec(access_threshold=off, eviction_threshold=off))
    assert not program.table.admits and not program.table.evicts
    np.testing.assert_array_equal(program.look(1), [[1, 1]])


def test_lookups_of_one_table_may_say_different_things(start):
    start(use_dynamic_expansion=True)
    configs: list[Any] = [
        None,
        {"access_threshold": 4},
        {"faae_coefficient": 3},
        {"eviction_threshold": 60},
        {"access_threshold": 4, "eviction_threshold": 60, "faae_coefficient": 2},
        {"access_threshold": -1},
    ]
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = [v1.placeholder(tf.int64, [None]) for _ in configs]
        pairs = zip(ids, configs, strict=True)
        rows = [mx.sparse_lookup(table, i, access_and_evict_config=c) for i, c in pairs]
        assert table.stats()["admission_threshold"] == 4
        assert table.engine.eviction.max_age == 60
        for i, (weight, row) in enumerate(zip((1, 1, 3, 1, 2, 1), rows, strict=True)):
            session.run(row, {ids[i]: keys(100 + i)})
            np.testing.assert_array_equal(table.counts(keys(100 + i)), [weight])
        everything = {each: keys(7) for each in ids}
        values = session.run(rows, everything)  # in some order: 1 + 1 + 3 + 1 + 2 + 1
        np.testing.assert_array_equal(table.counts(keys(7)), [9])
        assert np.sum(values) >= 2  # the last of them, at least
        np.testing.assert_array_equal(session.run(rows[0], everything), [[1, 1]])


@pytest.mark.parametrize("threshold", ["access_threshold", "eviction_threshold"])
def test_conflicting_thresholds_name_both(start, threshold):
    start()
    table = make()
    with tf.Graph().as_default():
        same = make()
        ids = tf.constant([1], tf.int64)
        mx.sparse_lookup(same, ids, name="first", access_and_evict_config={threshold: 5})
        mx.sparse_lookup(same, ids, name="silent")
        mx.sparse_lookup(same, ids, name="same", access_and_evict_config={threshold: 5})
        with pytest.raises(
            ValueError, match=rf"'second' has {threshold}=6, but lookup 'first' has {threshold}=5"
        ):
            mx.sparse_lookup(same, ids, name="second", access_and_evict_config={threshold: 6})
    # Of another graph, too.
    spec = mx.FeatureSpec("ids", "t", **{threshold: 7})
    with pytest.raises(ValueError, match=rf"{threshold}=7, but lookup 'first' has {threshold}=5"):
        mx.sparse_lookup(table, spec, batch={"ids": ids}, is_train=False)


def test_a_refused_lookup_changes_no_threshold(start):
    start()
    table = make()
    config = {"access_threshold": 5, "eviction_threshold": 5}
    for bad in ({"serving_default_value": "x"}, {"combiner": "sum"}):
        with pytest.raises((TypeError, ValueError)):
            mx.sparse_lookup(table, [1], access_and_evict_config=config, **bad)
    assert not table.admits and not table.evicts


def test_what_a_configuration_leaves_out_is_off():
    given = check_access_and_evict_config({"access_threshold": 3, "faae_coefficient": None})
    assert (given.access_threshold, given.eviction_threshold) == (3, None)
    assert given.faae_coefficient == 1
    assert check_access_and_evict_config(None) is None


# --- What others read ---------------------------------------------------------------------------


@pytest.mark.parametrize("default", [7.0, [3.0, 4.0]])
def test_refused_keys_read_the_default_in_training_and_evaluation(start, default):
    start()

    def lookup(table: Any, batch: Any) -> Any:
        return mx.sparse_lookup(
            table,
            batch["ids"],
            access_and_evict_config={"access_threshold": 2},
            serving_default_value=default,
        )

    program = Run(lookup)
    wanted = np.broadcast_to(np.float32(default), (2,))
    np.testing.assert_array_equal(program.train(1, 2, 2), [wanted, [1, 1], [1, 1]])
    np.testing.assert_array_equal(program.read(1, 2), [[0, 0], [0, 0]])
    with program.graph.as_default():
        read = mx.sparse_lookup(
            program.table, keys(1, 2, 3), is_train=False, serving_default_value=default
        )
    np.testing.assert_array_equal(program.session.run(read), [wanted, [0, 0], wanted])


def test_refused_keys_get_no_gradient(start):
    start()
    program = Run(by_config(access_threshold=2))
    before = program.table.engine.version
    program.train(1, grads=np.float32([[8, 8]]))
    assert program.table.engine.version != before  # the count
    assert program.table.size() == 0
    np.testing.assert_array_equal(program.train(1, grads=np.float32([[2, 4]])), [[1, 1]])
    np.testing.assert_array_equal(program.read(1), [[0, -1]])


def test_evaluation_changes_nothing(start):
    start()
    program = Run(by_config(access_threshold=3, eviction_threshold=10))
    program.look(1, 1, 2, 2, 2)
    table = program.table

    def state() -> Any:
        stats = table.stats()
        moving = ("seen", "hits", "misses", "hot_hits", "hot_rows", "bytes", "bytes_hot")
        fixed = {name: value for name, value in stats.items() if name not in moving}
        return fixed, table.engine.version, table.counts(keys(1, 2, 3)).tolist()

    before = state()
    for _ in range(5):
        np.testing.assert_array_equal(program.read(1, 2, 3), [[0, 0], [1, 1], [0, 0]])
    with program.graph.as_default():
        spec = mx.FeatureSpec("ids", access_threshold=3)
        again = mx.sparse_lookup(table, spec, batch={"ids": keys(1, 1, 1)}, is_train=False)
    program.session.run(again)
    assert state() == before


# --- Threshold 0, and what a restore brings -----------------------------------------------------


def test_threshold_0_admits_none_and_says_so_once(start, capfd):
    start()
    program = Run(by_config(access_threshold=0))
    for _ in range(3):
        np.testing.assert_array_equal(program.train(1, 1, 1), np.zeros((3, 2)))
    mx.sparse_lookup(make("other"), keys(1), access_and_evict_config={"access_threshold": 0})
    np.testing.assert_array_equal(program.table.counts(keys(1)), [0])
    assert program.table.stats()["admission_frozen"]
    said = capfd.readouterr().err
    assert said.count("table 't' is trained with access_threshold=0") == 1
    assert said.count("no key is admitted") == 2  # also of the other table


def test_evaluation_with_threshold_0_says_nothing(start, capfd):
    start()
    program = Run(by_config(access_threshold=0))
    program.read(1)
    program.table.engine.set_threshold(2)
    np.testing.assert_array_equal(program.look(1, 1), np.ones((2, 2)))
    assert "access_threshold" not in capfd.readouterr().err


def _phase(directory: Path, *arguments: str) -> dict[str, np.ndarray]:
    command = [sys.executable, str(PROGRAM), str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(directory / f"{arguments[0]}.npz") as found:
        return {**found, "stderr": np.array(done.stderr)}


@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_a_new_process_goes_on_with_restored_counts(tmp_path, mode):
    saved = _phase(tmp_path, "first", "3", mode)
    np.testing.assert_array_equal(saved["counts"], [2, 3, 0])
    # The same script.
    same = _phase(tmp_path, "second", "3", mode)
    np.testing.assert_array_equal(same["restored_counts"], [2, 3, 0])
    np.testing.assert_array_equal(same["restored_rows"], saved["rows"])
    np.testing.assert_array_equal(same["trained"], [[1, 1], [0.5, 0.5], [0, 0]])
    np.testing.assert_array_equal(same["counts"], [3, 4, 1])
    # With threshold 0 the restored one holds, and counts stand still.
    frozen = _phase(tmp_path, "third", "0", mode)
    np.testing.assert_array_equal(frozen["restored_counts"], [2, 3, 0])
    np.testing.assert_array_equal(frozen["trained"], [[0, 0], [0.5, 0.5], [0, 0]])
    np.testing.assert_array_equal(frozen["counts"], [2, 3, 0])
    assert frozen["threshold"] == 3
    assert "access_threshold=0" not in str(frozen["stderr"])
    # A new one takes the place of the restored one.
    lower = _phase(tmp_path, "fourth", "2", mode)
    np.testing.assert_array_equal(lower["trained"], [[1, 1], [0.5, 0.5], [0, 0]])
    assert lower["threshold"] == 2


# --- Ways to count, to make rows, to look up ----------------------------------------------------


def test_sketch(start):
    start()
    program = Run(by_config(access_threshold=3), admission="sketch", admission_keys=4096)
    np.testing.assert_array_equal(program.look(1, 1), np.zeros((2, 2)))
    np.testing.assert_array_equal(program.look(1, 2), [[1, 1], [0, 0]])
    assert program.table.engine.admission.mode == "sketch"
    other = make("other", admission="sketch")
    with pytest.raises(ValueError, match=r"threshold .*15"):
        mx.sparse_lookup(other, [1], access_and_evict_config={"access_threshold": 16})
    assert not other.admits
    mx.sparse_lookup(other, [1], access_and_evict_config={"access_threshold": 15})
    assert other.admits


def numbered(shape: Any, dtype: Any = tf.float32) -> Any:
    """No initializer of the engine: as many fives as there are new keys."""
    return tf.fill(shape, tf.constant(5.0, dtype))


@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_rows_of_custom_initializers_come_when_keys_are_admitted(start, mode):
    start()
    program = Run(
        by_config(access_threshold=4, faae_coefficient=2), initializer=numbered, admission=mode
    )
    np.testing.assert_array_equal(program.train(1, 2, 2), [[0, 0], [5, 5], [5, 5]])
    np.testing.assert_array_equal(program.table.counts(keys(1, 2)), [2, 4])
    np.testing.assert_array_equal(program.read(1, 2), [[0, 0], [4, 4]])
    np.testing.assert_array_equal(program.train(1), [[5, 5]])
    np.testing.assert_array_equal(program.table.counts(keys(1)), [4])


@pytest.mark.parametrize("expansion", [False, True])
def test_custom_rows_in_several_lookups_of_a_step(start, expansion):
    """One lookup may bring a key to the threshold after another asked which keys need a row."""
    start(use_dynamic_expansion=expansion)
    access = {"access_threshold": 2}
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(initializer=numbered)
        ids = v1.placeholder(tf.int64, [None])
        rows = [mx.sparse_lookup(table, ids, access_and_evict_config=access) for _ in range(6)]
        for first in range(0, 200, 20):
            batch = np.arange(first, first + 20)
            for value in session.run(rows, {ids: batch}):
                assert set(np.unique(value)) <= {0.0, 5.0}
            np.testing.assert_array_equal(table.counts(batch), np.full(20, 6))
            for value in session.run(rows, {ids: batch}):
                assert set(np.unique(value)) == {5.0}
    eager = make("eager", initializer=numbered)
    for wanted in (0, 5):
        row = mx.sparse_lookup(eager, keys(1), access_and_evict_config=access)
        np.testing.assert_array_equal(row, [[wanted, wanted]])


@pytest.mark.parametrize("use_dynamic", [True, False])
@pytest.mark.parametrize("expansion", [True, False])
def test_use_dynamic(start, use_dynamic, expansion):
    start(use_dynamic=use_dynamic, use_dynamic_expansion=expansion)

    def lookup(table: Any, batch: Any) -> Any:
        access = {"access_threshold": 2}
        return mx.sparse_lookup(table, batch["ids"], send_count=4, access_and_evict_config=access)

    program = Run(lookup)
    np.testing.assert_array_equal(program.train(1, 2, 2), [[0, 0], [1, 1], [1, 1]])
    np.testing.assert_array_equal(program.read(1, 2), [[0, 0], [0, 0]])
    np.testing.assert_array_equal(program.train(3), [[0, 0]])
    assert program.train().shape == (0, 2)
    np.testing.assert_array_equal(program.table.counts(keys(1, 2, 3)), [1, 2, 1])
    assert program.table.size() == 1


@pytest.mark.parametrize("use_dynamic", [True, False])
@pytest.mark.parametrize("by", ["addresses", "keys"])
def test_local_embeddings(start, by, use_dynamic):
    start(use_dynamic_expansion=True, use_dynamic=use_dynamic)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = v1.placeholder(tf.int64, [None])
        access = {"access_threshold": 2}
        rows = mx.sparse_lookup(table, ids, send_count=8, access_and_evict_config=access)
        loss = tf.reduce_sum(rows)
        name = {"addresses": "ID_OFFSET", "keys": "UNIQUE_KEYS"}[by]
        local = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
        targets = v1.get_collection(getattr(mx, f"ASCEND_SPARSE_LOOKUP_{name}"))
        factory = {
            "addresses": opt.gradient_descent_by_addr.create_hash_optimizer_by_addr,
            "keys": opt.gradient_descent.create_hash_optimizer,
        }[by]
        pairs = zip(tf.gradients(loss, local), targets, strict=True)
        optimizer = factory(0.5, weight_decay=0.0) if by == "addresses" else factory(0.5)
        train = optimizer.apply_gradients(pairs)
        step = [rows, train]
        assert session.run(step, {ids: keys(1, 2, 2)})[0].tolist() == [[0, 0], [1, 1], [1, 1]]
        assert session.run(step, {ids: keys(1, 3)})[0].tolist() == [[1, 1], [0, 0]]
        assert table.size() == 2
        read = mx.sparse_lookup(table, keys(1, 2, 3), is_train=False)
        np.testing.assert_array_equal(session.run(read), [[0.5, 0.5], [0, 0], [0, 0]])


BAGS = [[1, 2, 2], [], [3], [2, 1]]
WEIGHTS = [[0.5, 2.0, 1.0], [], [4.0], [1.0, 3.0]]


def bags_of(kind: str, values: Any, dtype: Any) -> Any:
    ragged = tf.ragged.constant(values, dtype=dtype, row_splits_dtype=tf.int64)
    return ragged if kind == "ragged" else ragged.to_sparse()


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_pooled(start, kind, weighted, combiner):
    """Keys 1 and 2 have 2 and 3 occurrences, 3 has one: it reads the default."""
    start()
    default = 10.0
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        weights = {"sp_weights": bags_of(kind, WEIGHTS, tf.float32)} if weighted else {}
        pooled = mx.sparse_lookup(
            table,
            bags_of(kind, BAGS, tf.int64),
            combiner=combiner,
            access_and_evict_config={"access_threshold": 3},
            serving_default_value=default,
            **weights,
        )
        train = train_op(tf.reduce_sum(pooled))
        values, _ = session.run([pooled, train])
        read = session.run(mx.sparse_lookup(table, keys(1, 2, 3), is_train=False))
    gradient = 0.0
    for bag, given, value in zip(BAGS, WEIGHTS, values, strict=True):
        each = np.array(given if weighted else [1.0] * len(bag))
        powers = {"sum": 1.0, "mean": each.sum(), "sqrtn": np.sqrt(np.sum(each**2))}
        divisor = powers[combiner] if len(bag) else 1.0
        rows = np.array([1.0 if key == 2 else default for key in bag])
        np.testing.assert_allclose(value, np.sum(rows * each) / divisor, rtol=1e-6)
        gradient += each[np.array(bag, int) == 2].sum() / divisor
    np.testing.assert_allclose(read[1], 1 - 0.5 * gradient, rtol=1e-6)
    np.testing.assert_array_equal(read[[0, 2]], np.zeros((2, 2)))
    np.testing.assert_array_equal(table.counts(keys(1, 2, 3)), [2, 3, 1])


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_composite_ids_without_combiner(start, kind):
    start()
    table = make()
    access = {"access_threshold": 2}
    rows = mx.sparse_lookup(table, bags_of(kind, BAGS, tf.int64), access_and_evict_config=access)
    if kind == "ragged":
        assert [len(bag) for bag in rows.to_list()] == [3, 0, 1, 2]
        rows = rows.to_tensor()
    np.testing.assert_array_equal(rows[:, :, 0], [[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0]])


# --- Several tables, functions, control flow ----------------------------------------------------


@pytest.mark.parametrize("grouped", [True, False])
def test_grouped_lookups_of_three_tables(start, grouped):
    start(group_lookups=grouped)
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(f"t{i}", dim=i + 1) for i in range(3)]
        ids = v1.placeholder(tf.int64, [None])
        configs: list[Any] = [
            {"access_threshold": 2},
            None,
            {"access_threshold": 3, "faae_coefficient": 2},
        ]
        pairs = zip(tables, configs, strict=True)
        rows = [
            mx.sparse_lookup(t, ids, access_and_evict_config=c, serving_default_value=9.0)
            for t, c in pairs
        ]
        train = train_op(tf.add_n([tf.reduce_sum(each) for each in rows]))
        (values, _), ops = run(session, [rows, train], {ids: keys(1, 2, 2)})
        assert lookups_of(ops) == ({"MxrecGroupedLookup": 1} if grouped else {"MxrecLookup": 3})
        assert [each[:, 0].tolist() for each in values] == [[9, 1, 1], [1, 1, 1], [9, 1, 1]]
        assert [table.counts(keys(1, 2)).tolist() for table in tables] == [[1, 2], [1, 2], [2, 4]]
        values, _ = session.run([rows, train], {ids: keys(1, 2)})
        assert [each[:, 0].tolist() for each in values] == [[1, 0], [0.5, 0], [1, 0]]


@pytest.mark.parametrize("initializer", [None, numbered])
def test_grouped_lookup_in_eager_mode(start, initializer):
    start()
    tables = [make(f"t{i}", dim=i + 1, initializer=initializer) for i in range(3)]
    for table in tables[:2]:
        mx.sparse_lookup(table, [100], access_and_evict_config={"access_threshold": 2})
    new = 1.0 if initializer is None else 5.0
    _, sparse = mx.get_dense_and_sparse_variable()
    for wanted in ([0, new, new], [new, new - 1, new - 1]):
        with tf.GradientTape() as tape:
            rows = mx.grouped_lookup(tables, [keys(1, 2, 2)] * 3)
            loss = tf.add_n([tf.reduce_sum(each) for each in rows])
        for each in rows[:2]:
            np.testing.assert_array_equal(each[:, 0], wanted)
        gradients = tape.gradient(loss, sparse)
        optimizer = opt.gradient_descent.create_hash_optimizer(0.5)
        optimizer.apply_gradients(zip(gradients, sparse, strict=True))
    assert [table.size() for table in tables] == [2, 2, 2]


@pytest.mark.parametrize("compiled", [False, True])
def test_eager_and_functions(start, compiled):
    start()
    table = make()
    optimizer = opt.gradient_descent.create_hash_optimizer(0.5)
    spec = mx.FeatureSpec("ids", "t", access_threshold=2)

    def step(ids: Any) -> Any:
        with tf.GradientTape() as tape:
            rows = mx.sparse_lookup(table, spec, batch={"ids": ids}, serving_default_value=3.0)
            loss = tf.reduce_sum(rows)
        _, sparse = mx.get_dense_and_sparse_variable()
        optimizer.apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))
        return rows

    if compiled:
        step = tf.function(step, input_signature=[tf.TensorSpec([None], tf.int64)])
    np.testing.assert_array_equal(step(tf.constant(keys(1, 2, 2))), [[3, 3], [1, 1], [1, 1]])
    np.testing.assert_array_equal(step(tf.constant(keys(1))), [[1, 1]])
    read = mx.sparse_lookup(table, spec, batch={"ids": keys(1, 2, 3)}, is_train=False)
    np.testing.assert_array_equal(read, [[0.5, 0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cond(start, version):
    start()
    with control_flow_of(version), tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = v1.placeholder(tf.int64, [None])
        taken = v1.placeholder(tf.bool, [])
        access = {"access_threshold": 2}
        rows = v1.cond(
            taken,
            lambda: mx.sparse_lookup(table, ids, access_and_evict_config=access),
            lambda: tf.zeros([tf.size(ids), 2]) - 1,
        )
        train = train_op(tf.reduce_sum(rows))
        both = [rows, train]
        assert session.run(both, {ids: keys(1), taken: True})[0].tolist() == [[0, 0]]
        assert session.run(both, {ids: keys(1), taken: False})[0].tolist() == [[-1, -1]]
        np.testing.assert_array_equal(table.counts(keys(1)), [1])
        assert session.run(both, {ids: keys(1), taken: True})[0].tolist() == [[1, 1]]
        read = mx.sparse_lookup(table, keys(1), is_train=False)
        np.testing.assert_array_equal(session.run(read), [[0.5, 0.5]])
