"""Lookups of many tables in one op: which are grouped, and that results never depend on it."""

from __future__ import annotations

import collections
import importlib
import logging
import socket
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents, control_flow_of, executed, lookups_of, make, run
from tensorflow.python.eager import context

import mxrec.tf as mx
from mxrec.tf import grouping
from mxrec.tf import optimizers as opt
from mxrec.tf.ops import library

v1 = tf.compat.v1
SLOTS = 26
DIMS = (4, 8, 1, 5)


class Model:
    """A table per slot, a dense layer over all of them, and one step of training."""

    def __init__(self, expansion: bool = False) -> None:
        self.tables = [make(f"slot{i}", DIMS[i % len(DIMS)]) for i in range(SLOTS)]
        self.ids = [
            v1.placeholder(tf.int64 if i % 3 else tf.int32, [None, 2], f"ids{i}")
            for i in range(SLOTS)
        ]
        pairs = list(zip(self.tables, self.ids, strict=True))
        self.values = [mx.sparse_lookup(table, ids) for table, ids in pairs]
        # Tables 0 and 1 are looked up again, with the ids of another slot.
        more = [mx.sparse_lookup(self.tables[0], self.ids[1])]
        more.append(mx.sparse_lookup(self.tables[1], self.ids[2], is_grad=False))
        self.read = [mx.sparse_lookup(table, ids, is_train=False) for table, ids in pairs]
        features = tf.concat([tf.reshape(v, [tf.shape(v)[0], -1]) for v in self.values + more], 1)
        width = sum(2 * v.shape[-1] for v in self.values + more)
        features = tf.ensure_shape(features, [None, width])
        weights = v1.get_variable("w", [width, 1], initializer=v1.ones_initializer())
        self.loss = tf.reduce_mean(tf.square(tf.matmul(features, weights) - 1.0))
        dense, sparse = mx.get_dense_and_sparse_variable()
        gradients = tf.gradients(self.loss, [*dense, *sparse])
        steps = [
            opt.lazy_adam.create_hash_optimizer(0.01).apply_gradients(
                zip(gradients[1:], sparse, strict=True)
            ),
            v1.train.GradientDescentOptimizer(0.001).apply_gradients([(gradients[0], dense[0])]),
        ]
        self.train = tf.group(*steps)

    def feed(self, rng: np.random.Generator, rows: int) -> dict[Any, Any]:
        return {ids: rng.integers(-50, 50, (rows, 2)) for ids in self.ids}


def trained(start: Any, seed: int, grouped: bool, expansion: bool) -> list[Any]:
    """Losses, readings and tables of a few steps."""
    start(group_lookups=grouped, use_dynamic_expansion=expansion)
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    with tf.Graph().as_default(), v1.Session() as session:
        model = Model()
        session.run(v1.global_variables_initializer())
        for step in range(4):
            feed = model.feed(rng, int(rng.integers(0, 40)) if step else 17)
            (loss, _), ops = run(session, [model.loss, model.train], feed)
            found.append(loss)
            kind = "MxrecGroupedLookupUnique" if expansion else "MxrecGroupedLookup"
            if grouped:
                # With expansion the lookup without gradient is of another kind, and alone.
                alone = {"MxrecLookup": 1} if expansion else {}
                assert lookups_of(ops) == {kind: 1, **alone}
                assert ops["MxrecGroupedApplyAddresses"] == 1
                assert "MxrecApplyAddresses" not in ops
                assert ops["MxrecGroupedRestore"] == int(expansion)
                assert ops["MxrecGroupedSegmentSum"] == 1
                assert "MxrecRestore" not in ops and "MxrecSegmentSum" not in ops
            else:
                assert not any("Grouped" in op for op in ops)
            read, ops = run(session, model.read, feed)
            found.extend(read)
            assert lookups_of(ops) == ({"MxrecGroupedRead": 1} if grouped else {"MxrecRead": SLOTS})
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


def test_each_fetch_runs_the_lookups_it_needs_once(start: Any, rng: np.random.Generator) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        model = Model()
        session.run(v1.global_variables_initializer())
        feed = model.feed(rng, 8)
        # One lookup by itself: no other table is looked up, nor its ids needed.
        only = {model.ids[3]: feed[model.ids[3]]}
        value, ops = run(session, model.values[3], only)
        assert lookups_of(ops) == {"MxrecLookup": 1}
        assert [table.size() > 0 for table in model.tables] == [i == 3 for i in range(SLOTS)]
        # Two of them.
        _, ops = run(session, model.values[3:5], feed)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        before = dict(zip(*contents(model.tables[3])[:2], strict=True))
        # A lookup's own output beside the step: it is the step's, not another lookup.
        (again, loss, _), ops = run(session, [model.values[3], model.loss, model.train], feed)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        np.testing.assert_array_equal(again, value)
        after = dict(zip(*contents(model.tables[3])[:2], strict=True))
        keys, counts = np.unique(feed[model.ids[3]], return_counts=True)
        assert after == {k: before[k] + n for k, n in zip(keys, counts, strict=True)}
        # By name, and as a target.
        name = model.values[3].name
        (again, _), ops = run(session, [name, model.values[5].op], feed)
        assert again.shape == (8, 2, DIMS[3])
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        del loss


def test_fed_values_replace_a_lookup(start: Any, rng: np.random.Generator) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(f"t{i}") for i in range(4)]
        ids = [v1.placeholder(tf.int64, [None]) for _ in tables]
        values = [mx.sparse_lookup(t, x) for t, x in zip(tables, ids, strict=True)]
        total = tf.add_n(values)
        half = values[0] + values[1]
        both = half + values[2]
        feed = {x: rng.integers(0, 9, 5) for x in ids}
        fed = np.full((5, 4), 7.0, np.float32)
        parts, ops = run(session, values, feed)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        sizes = [table.size() for table in tables]
        # The fed lookup does not run: its ids need not be given.
        feed_two = {values[2]: fed, ids[0]: feed[ids[0]] + 100, ids[1]: feed[ids[1]]}
        feed_two[ids[3]] = feed[ids[3]]
        got, ops = run(session, [total, values[3]], feed_two)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        np.testing.assert_array_equal(got[1], parts[3])
        assert tables[2].size() == sizes[2]
        assert tables[0].size() > sizes[0]
        # What only a fed tensor needs does not run.
        got, ops = run(session, both, {half: fed, ids[2]: feed[ids[2]]})
        assert lookups_of(ops) == {"MxrecLookup": 1}
        np.testing.assert_array_equal(got, fed + parts[2])


def test_dependent_lookups_are_in_different_ops(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        a, b, c, d = (make(name) for name in "abcd")
        x = v1.placeholder(tf.int64, [None])
        first = [mx.sparse_lookup(a, x), mx.sparse_lookup(b, x)]
        keys = tf.cast(tf.reduce_sum(first[0], 1) * 1000, tf.int64)
        second = mx.sparse_lookup(c, keys)
        with tf.control_dependencies([first[1]]):
            after = mx.sparse_lookup(d, tf.identity(x))
        _, ops = run(session, [*first, second, after], {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 2}
        _, ops = run(session, [second, after], {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 2}
        # Lookups of one table one after the other.
        with tf.control_dependencies([first[0]]):
            third = mx.sparse_lookup(a, x)
        _, ops = run(session, [first[0], third], {x: [5]})
        assert lookups_of(ops) == {"MxrecLookup": 2}


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_branches_of_cond_are_left_alone(start: Any, control_flow: str) -> None:
    start()
    with control_flow_of(control_flow), tf.Graph().as_default(), v1.Session() as session:
        a, b, c, d = (make(name) for name in "abcd")
        x = v1.placeholder(tf.int64, [None])
        taken = v1.placeholder(tf.bool, [])
        inside = tf.cond(
            taken,
            lambda: mx.sparse_lookup(a, x),
            lambda: mx.sparse_lookup(b, x) + 1.0,
        )
        outside = mx.sparse_lookup(c, x) + mx.sparse_lookup(d, x)
        loss = tf.reduce_sum(inside + outside)
        _, sparse = mx.get_dense_and_sparse_variable()
        train = opt.adagrad.create_hash_optimizer(0.1).apply_gradients(
            zip(tf.gradients(loss, sparse), sparse, strict=True)
        )
        session.run(v1.global_variables_initializer())
        _, ops = run(session, train, {x: [1, 2], taken: True})
        assert ops["MxrecGroupedLookup"] == 1
        assert (a.size(), b.size(), c.size(), d.size()) == (2, 0, 2, 2)
        session.run(train, {x: [3], taken: False})
        assert (a.size(), b.size(), c.size(), d.size()) == (2, 1, 3, 3)
        # What a tf.cond has computed is there in every step.
        keys = tf.cond(taken, lambda: x + 10, lambda: x + 20)
        behind = [mx.sparse_lookup(c, keys), mx.sparse_lookup(d, keys)]
        _, ops = run(session, behind, {x: [3], taken: False})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_loops_around_and_behind_lookups(start: Any, control_flow: str) -> None:
    start()
    with control_flow_of(control_flow), tf.Graph().as_default(), v1.Session() as session:
        tables = [make(name) for name in "abcd"]
        x = v1.placeholder(tf.int64, [None])
        values = [mx.sparse_lookup(table, x) for table in tables[:2]]
        rows = tf.add_n(values)
        looped = tf.while_loop(
            lambda i, _: i < 3, lambda i, y: (i + 1, y + rows), [0, tf.zeros_like(rows)]
        )[1]
        # Their ids come out of the loop.
        keys = tf.cast(tf.reduce_sum(tf.zeros_like(looped), 1), tf.int64)
        behind = [mx.sparse_lookup(table, keys) for table in tables[2:]]
        (found, wanted, *_), ops = run(session, [looped, values, *behind], {x: [1, 2]})
        np.testing.assert_allclose(found, 3 * (wanted[0] + wanted[1]), rtol=1e-6)
        assert ops["MxrecGroupedLookup"] >= 1
        assert [table.size() for table in tables] == [2, 2, 1, 1]


def test_two_pipelines_in_one_graph_stay_apart(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make("a"), make("b")]
        iterators = []
        outputs = []
        for first, is_train in ((0, True), (1000, False)):
            data = tf.data.Dataset.range(first, first + 40).batch(10)
            iterators.append(v1.data.make_initializable_iterator(data))
            keys = iterators[-1].get_next()
            outputs.append([mx.sparse_lookup(t, keys, is_train=is_train) for t in tables])
        session.run([iterator.initializer for iterator in iterators])
        for step in range(4):
            _, ops = run(session, outputs[0])
            assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
            assert [table.size() for table in tables] == [10 * (step + 1)] * 2
            _, ops = run(session, outputs[1])
            assert lookups_of(ops) == {"MxrecGroupedRead": 1}
        for each in outputs:
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(each)


def test_monitored_sessions_have_finalized_graphs(start: Any, rng: np.random.Generator) -> None:
    start()
    with tf.Graph().as_default():
        model = Model()
        counts: list[Any] = []

        class Count(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
            def before_run(self, run_context: Any) -> Any:
                options = v1.RunOptions(output_partition_graphs=True)
                return v1.train.SessionRunArgs(None, options=options)

            def after_run(self, run_context: Any, run_values: Any) -> None:
                counts.append(lookups_of(executed(run_values.run_metadata)))

        with v1.train.MonitoredTrainingSession(hooks=[Count()]) as session:
            assert session.graph.finalized
            session.run(model.train, model.feed(rng, 9))
        assert counts == [{"MxrecGroupedLookup": 1}]


def test_colocated_gradients(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(name) for name in "abc"]
        x = v1.placeholder(tf.int64, [None])
        loss = tf.add_n([tf.reduce_sum(mx.sparse_lookup(table, x)) for table in tables])
        train = opt.adagrad.create_hash_optimizer(0.1).minimize(
            loss, colocate_gradients_with_ops=True
        )
        _, ops = run(session, train, {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        assert ops["MxrecGroupedApplyAddresses"] == 1


def test_tables_of_several_parameter_servers(start: Any) -> None:
    start()
    ports = [free_port() for _ in range(3)]
    cluster = tf.train.ClusterSpec(
        {
            "ps": [f"localhost:{port}" for port in ports[:2]],
            "worker": [f"localhost:{ports[2]}"],
        }
    )
    # All in this process: its tables are those of each server.
    servers = [
        v1.train.Server(cluster, job_name=job, task_index=task)
        for job, task in (("ps", 0), ("ps", 1), ("worker", 0))
    ]
    setter = v1.train.replica_device_setter(cluster=cluster)
    with tf.Graph().as_default(), v1.device(setter):
        tables = [make(name) for name in "abcdef"]
        x = v1.placeholder(tf.int64, [None])
        loss = tf.add_n([tf.reduce_sum(mx.sparse_lookup(table, x)) for table in tables])
        train = opt.adagrad.create_hash_optimizer(0.1).minimize(loss)
        places = collections.Counter(table.nodes().handle.device for table in tables)
        assert places == {"/job:ps/task:0": 3, "/job:ps/task:1": 3}
        with v1.Session(servers[2].target) as session:
            _, ops = run(session, train, {x: [1, 2, 3]})
        assert [table.size() for table in tables] == [3] * 6
        assert [table.engine.optimizer_step for table in tables] == [1] * 6
        assert ops["MxrecGroupedLookup"] == 2
        assert ops["MxrecGroupedApplyAddresses"] == 2


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@pytest.mark.skipif(not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator")
def test_estimator(start: Any, tmp_path: Any) -> None:
    start()
    counts: list[Any] = []

    class Count(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
        def before_run(self, run_context: Any) -> Any:
            options = v1.RunOptions(output_partition_graphs=True)
            return v1.train.SessionRunArgs(None, options=options)

        def after_run(self, run_context: Any, run_values: Any) -> None:
            counts.append(lookups_of(executed(run_values.run_metadata)))

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        training = mode == tf.estimator.ModeKeys.TRAIN
        values = [mx.sparse_lookup(make(n), features, is_train=training) for n in "abc"]
        loss = tf.reduce_mean(tf.square(tf.add_n(values) - labels))
        if not training:
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        step = v1.train.get_global_step()
        train = opt.adagrad.create_hash_optimizer(0.1).minimize(loss, global_step=step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

    def input_fn() -> Any:
        return tf.data.Dataset.range(40).map(lambda k: (k, tf.ones([4]))).batch(8)

    model = tf.estimator.Estimator(model_fn, str(tmp_path))
    model.train(input_fn, hooks=[Count()])
    assert counts == [{"MxrecGroupedLookup": 1}] * 5
    counts.clear()
    model.evaluate(input_fn, hooks=[Count()])
    assert counts == [{"MxrecGroupedRead": 1}] * 5


def test_functions_group_too(start: Any) -> None:
    start()
    tables = [make(f"t{i}", 3) for i in range(5)]

    @tf.function
    def forward(ids: Any) -> Any:
        return [mx.sparse_lookup(table, ids) for table in tables]

    ids = tf.constant([[5, -1], [5, 2]], tf.int64)
    eager = [mx.sparse_lookup(table, ids) for table in tables]
    context.context().enable_graph_collection()
    found = forward(ids)
    graphs = context.context().export_run_metadata().function_graphs
    context.context().disable_graph_collection()
    ops = [[n.op for n in graph.post_optimization_graph.node] for graph in graphs]
    assert sum(each.count("MxrecGroupedLookup") for each in ops) == 1
    assert not any("MxrecLookup" in each for each in ops)
    for mine, theirs in zip(found, eager, strict=True):
        np.testing.assert_array_equal(mine, theirs)

    @tf.function
    def step(ids: Any) -> Any:
        with tf.GradientTape() as tape:
            values = [mx.sparse_lookup(table, ids) for table in tables]
            loss = tf.add_n([tf.reduce_sum(value * value) for value in values])
        proxies = [table.nodes().proxy for table in tables]
        optimizer.apply_gradients(zip(tape.gradient(loss, proxies), proxies, strict=True))
        return loss

    optimizer = opt.gradient_descent.create_hash_optimizer(0.1)
    losses = [float(step(ids)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2] > 0.0
    counts = [contents(table)[1].sum() for table in tables]
    assert counts == [4 * 5] * 5  # 4 ids in each of: forward, eager, 3 steps


def test_static_unique_sizes_stay_those_of_each_lookup(start: Any) -> None:
    start(use_dynamic=False)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int64, [None])
        values = [mx.sparse_lookup(make(name), x, send_count=3 + i) for i, name in enumerate("abc")]
        unique_keys = [value.op.inputs[0].op.outputs[1] for value in values]
        (found, _), ops = run(session, [unique_keys, values], {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        assert [len(keys) for keys in found] == [3, 4, 5]
        with pytest.raises(tf.errors.InvalidArgumentError, match="'a' has 4 distinct keys"):
            session.run(values, {x: [1, 2, 3, 4]})
    eager = [make("d"), make("e")]
    keys = [tf.constant([1], tf.int64)] * 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="one for each of 2 tables"):
        library.mxrec_grouped_lookup(
            tables=[table.nodes().handle for table in eager],
            proxies=[table.nodes().proxy.handle for table in eager],
            ids=keys,
            likes=[tf.zeros([0, 4])] * 2,
            absents=[tf.zeros([0])] * 2,
            timestamps=[tf.zeros([0], tf.int64)] * 2,
            unique_size=[0],
            coefficient=[0, 0],
            makes_rows=[1, 1],
        )


def test_an_error_names_its_table_and_leaves_it_as_it_was(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make("a"), make("small", device_vocabulary_size=3), make("c")]
        x = v1.placeholder(tf.int64, [None])
        values = [mx.sparse_lookup(table, x) for table in tables]
        _, ops = run(session, values, {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}
        with pytest.raises(tf.errors.ResourceExhaustedError, match="'small' is full"):
            session.run(values, {x: [1, 2, 3, 4]})
        assert tables[1].size() == 2
        session.run(values, {x: [1, 2, 3]})
        assert [table.size() for table in tables][1] == 3


def test_grouped_updates_are_checked_as_single_ones(start: Any) -> None:
    start()
    tables = [make("a", 2), make("b", 2)]
    for table in tables:
        table.engine.bind_optimizer(opt.adagrad.create_hash_optimizer(0.1).options)
    handles = [table.nodes().handle for table in tables]
    none = tf.zeros([0], tf.int64)
    arguments = {"tables": handles, "addresses": [none, none], "learning_rates": [0.1, 0.1]}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'b'.*grads"):
        library.mxrec_grouped_apply_addresses(
            grads=[tf.zeros([0, 2]), tf.zeros([1, 2])], **arguments
        )
    arguments["addresses"] = [none, tf.constant([12345], tf.int64)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="'b'"):
        library.mxrec_grouped_apply_addresses(
            grads=[tf.zeros([0, 2]), tf.zeros([1, 2])], **arguments
        )


def test_grouping_can_be_switched_off_and_tables_opt_in(start: Any) -> None:
    start(group_lookups=False)
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make(name, enable_merge=name < "c") for name in "abcd"]
        x = v1.placeholder(tf.int64, [None])
        values = [mx.sparse_lookup(table, x) for table in tables]
        _, sparse = mx.get_dense_and_sparse_variable()
        gradients = tf.gradients(tf.add_n(values), sparse)
        train = opt.adagrad.create_hash_optimizer(0.1).apply_gradients(
            zip(gradients, sparse, strict=True)
        )
        _, ops = run(session, train, {x: [1, 2]})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1, "MxrecLookup": 2}
        assert ops["MxrecGroupedApplyAddresses"] == 1 and ops["MxrecApplyAddresses"] == 2
        assert ops["MxrecGroupedSegmentSum"] == 1 and ops["MxrecSegmentSum"] == 2
        assert [table.size() for table in tables] == [2] * 4
    with tf.Graph().as_default(), pytest.raises(ValueError, match="enable_merge"):
        make("a", enable_merge=False)


def test_sessions_without_graph_optimization_work(start: Any) -> None:
    start()
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        values = [mx.sparse_lookup(make(name), tf.constant([1, 2], tf.int64)) for name in "abc"]
        _, ops = run(session, values)
        assert lookups_of(ops) == {"MxrecLookup": 3}


def test_the_optimizer_is_registered_once(start: Any) -> None:
    start()
    importlib.reload(grouping).install()  # TensorFlow would end the process at a second one


def test_a_tensorflow_without_the_interface(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    monkeypatch.setattr(grouping, "_state", lambda: 2)
    with caplog.at_level(logging.WARNING, "mxrec"):
        grouping.install()
        grouping.install()
    assert caplog.text.count("not grouped") == 1


# --- grouped_lookup -----------------------------------------------------------------------------


def test_grouped_lookup_equals_single_lookups(start: Any, rng: np.random.Generator) -> None:
    start()
    ones = [make(f"t{i}", dim) for i, dim in enumerate(DIMS)]
    ones.append(mx.create_table(tf.int64, 2, "custom", lambda shape, dtype=None: tf.ones(shape)))
    ones.append(ones[0])
    ids = [rng.integers(-9, 9, shape) for shape in ((3,), (2, 2), (), (0, 4), (5,))]
    ids.append(rng.integers(-9, 9, 6).astype(np.int32))
    with pytest.raises(tf.errors.ResourceExhaustedError, match="custom"):
        mx.grouped_lookup(ones, ids)  # room for one row
    start()
    ones = [make(f"t{i}", dim) for i, dim in enumerate(DIMS)]
    ones.append(ones[0])
    del ids[4]
    wanted = [mx.sparse_lookup(t, x) for t, x in zip(ones, ids, strict=True)]
    counts = [contents(table)[1] for table in ones[:3]]
    for found, value in zip(mx.grouped_lookup(ones, ids), wanted, strict=True):
        np.testing.assert_array_equal(found, value)
    for table, count in zip(ones, counts, strict=False):
        np.testing.assert_array_equal(contents(table)[1], 2 * count)
    read = mx.grouped_lookup(ones, ids, is_train=False, serving_default_value=3.0)
    for found, value in zip(read, wanted, strict=True):
        np.testing.assert_array_equal(found, value)
    absent = mx.grouped_lookup(ones[:2], [[100], [1000]], is_train=False, serving_default_value=3.0)
    assert [float(tf.reduce_sum(x)) for x in absent] == [3.0 * DIMS[0], 3.0 * DIMS[1]]
    with tf.Graph().as_default(), v1.Session() as session:
        same = [make(f"t{i}", dim) for i, dim in enumerate(DIMS)]
        values, ops = run(session, mx.grouped_lookup([*same, same[0]], ids, is_train=False))
        assert lookups_of(ops) == {"MxrecGroupedRead": 1}
        for found, value in zip(values, wanted, strict=True):
            np.testing.assert_array_equal(found, value)


def test_grouped_lookup_has_the_gradients_of_single_ones(start: Any) -> None:
    start()
    tables = [make(f"t{i}", 2) for i in range(3)]
    proxies = [table.nodes().proxy for table in tables]
    ids = [tf.constant([1, 2, 1], tf.int64)] * 3
    gradients = []
    for grouped in (True, False):
        with tf.GradientTape() as tape:
            if grouped:
                a, b, _ = mx.grouped_lookup(tables, ids)
            else:
                a, b, _ = (mx.sparse_lookup(t, x) for t, x in zip(tables, ids, strict=True))
            loss = tf.reduce_sum(a * a) + tf.reduce_sum(b * 3.0)
        gradients.append(tape.gradient(loss, proxies))
    for mine, theirs in zip(*gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine.values, theirs.values)
            np.testing.assert_array_equal(mine.indices, theirs.indices)
    assert gradients[0][2] is None
    opt.momentum.create_hash_optimizer(0.1, 0.9).apply_gradients(
        zip(gradients[0], proxies, strict=True)
    )
    assert [table.engine.optimizer_step for table in tables] == [1, 1, 0]
    with tf.GradientTape() as tape:
        total = tf.add_n(mx.grouped_lookup(tables, ids, is_grad=False))
    assert tape.gradient(total, proxies) == [None] * 3


def test_grouped_lookup_checks_its_arguments(start: Any) -> None:
    start()
    tables = [make("a"), make("b")]
    with pytest.raises(ValueError, match="each of the 2 tables, got 1"):
        mx.grouped_lookup(tables, [[1]])
    with pytest.raises(TypeError, match="hashtable"):
        mx.grouped_lookup(["a", "b"], [[1], [2]])
    with pytest.raises(TypeError, match="is_train"):
        mx.grouped_lookup(tables, [[1], [2]], is_train=1)
    with pytest.raises(TypeError, match="ids must be an integer"):
        mx.grouped_lookup(tables, [["x"], [2]])
    assert mx.grouped_lookup([], []) == []
    assert [table.size() for table in tables] == [0, 0]
    ragged, dense = mx.grouped_lookup(tables, [tf.ragged.constant([[1], []]), [2]])
    assert ragged.shape.as_list() == [2, None, 4] and dense.shape == (1, 4)
