"""The new datasets and iterators, and the change of edges, each alone."""

from __future__ import annotations

import socket
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
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
    reinitializable,
    train_op_of,
    warnings_of,
)

import mxrec.tf as mx
from mx_rec.optimizers.adagrad import create_hash_optimizer
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.pipeline import MOST_PREFETCH, PREFETCH, Body, extended
from mxrec.tf.rewrite.plan import make_plan
from mxrec.tf.rewrite.state import Wishes, rewriting_of

v1 = tf.compat.v1


def maps_of(graph: Any) -> list[list[str]]:
    """Op types of the functions that were mapped over datasets by the rewriting."""
    library = {f.signature.name: f for f in graph.as_graph_def().library.function}
    return [
        [node.op for node in library[op.get_attr("f").name].node_def]
        for op in graph.get_operations()
        if op.type == "MapDataset" and op.name.startswith("mxrec_rewrite/")
    ]


# --- Edges ----------------------------------------------------------------------------------------


def test_edges_change_together() -> None:
    with tf.Graph().as_default():
        a, b = tf.constant([1]), tf.constant([2])
        with tf.control_dependencies([a.op]):
            after = tf.constant(3)
        total = a + a
        edges = Edges()
        edges.connect_consumers(a, b)
        edges.reorder(a.op, b.op)
        assert list(total.op.inputs) == [a, a] and after.op.control_inputs == [a.op]
        edges.apply()
        assert list(total.op.inputs) == [b, b] and after.op.control_inputs == [b.op]
        with v1.Session() as session:
            assert session.run(total) == [4]


def test_edges_go_back_when_one_fails() -> None:
    with tf.Graph().as_default():
        a, b = tf.constant([1]), tf.constant([2])
        total, text = a + a, tf.strings.length("x")
        edges = Edges()
        edges.connect_consumers(a, b)
        edges.connect(text.op, 0, b)
        with pytest.raises(ValueError, match=r"input 0 of 'StringLength' cannot become"):
            edges.apply()
        assert list(total.op.inputs) == [a, a]


# --- Plans and datasets ---------------------------------------------------------------------------


def test_a_plan_changes_nothing(start: Any) -> None:
    start()
    with tf.Graph().as_default() as graph:
        batch = initializable(dataset(2)).batch
        tables = [create("t"), create("u")]
        ids = tf.strings.to_hash_bucket_fast(batch["word"], 10)
        for table in (*tables, tables[0]):
            lookup(table, ids)
        lookup(tables[0], ids, is_train=False)
        lookup(tables[0], batch["id"])
        before = graph.as_graph_def()
        plan = make_plan(graph, rewriting_of(graph).sites, Wishes())
        assert graph.as_graph_def() == before
        # One for each table and tensor, however many lookups there are, and one to read.
        assert sorted(plan.moves, key=str) == sorted(
            [(ids.name, "t"), (ids.name, "u"), (ids.name, None), (batch["id"].name, "t")], key=str
        )
        assert len(plan.lookups) == 5 and not plan.stays
        ((source, moves),) = plan.iterators()
        assert source.iterator.type == "IteratorV2" and len(moves) == 4


def test_a_dataset_is_extended(start: Any) -> None:
    start()
    with tf.Graph().as_default() as graph:
        data = v1.data.Dataset.range(5).map(lambda x: (x, x + 10))
        first, second = v1.data.make_one_shot_iterator(data).get_next()
        table = create("t", device_vocabulary_size=10)
        with tf.device("/device:CPU:0"), tf.name_scope("scope"):
            ids = second * 2 + first
        lookup(table, ids)
        plan = make_plan(graph, rewriting_of(graph).sites, Wishes())
        body = Body(graph, plan.slicer, list(plan.moves.values()))
        specs = [tf.TensorSpec([], tf.int64)] * 2
        more = extended(data._variant_tensor, specs, body)
        assert [spec.dtype for spec in more.element_spec] == [tf.int64] * 3
        assert more._variant_tensor.op.type.startswith("PrefetchDataset")
        got = v1.data.make_one_shot_iterator(more).get_next()
        with v1.Session() as session:
            rows = [session.run(got) for _ in range(5)]
        assert rows == [(x, x + 10, (x + 10) * 2 + x) for x in range(5)]
        stats = table.engine.stats()
        assert table.size() == 0 and stats["prepared_waiting"] == 5


@pytest.mark.parametrize("make_iterator", ITERATORS)
@pytest.mark.parametrize(
    ("end", "depth"),
    [
        (lambda data: data.prefetch(8), 8),
        (lambda data: data.prefetch(5).with_options(tf.data.Options()), 5),
        (lambda data: data.prefetch(1), PREFETCH),
        (lambda data: data.prefetch(1000), MOST_PREFETCH),
        (lambda data: data.prefetch(tf.data.AUTOTUNE), PREFETCH),
        (lambda data: data.prefetch(v1.placeholder_with_default(np.int64(8), [])), PREFETCH),
        (lambda data: data.prefetch(8).map(lambda x: x), PREFETCH),
        (lambda data: data, PREFETCH),
    ],
    ids=["8", "5", "1", "1000", "tuned", "fed", "not at the end", "none"],
)
def test_batches_are_prepared_as_far_ahead_as_the_dataset_prefetches(
    start: Any, make_iterator: Any, end: Any, depth: int, request: pytest.FixtureRequest
) -> None:
    if make_iterator is one_shot and request.node.callspec.id.startswith("fed"):
        pytest.skip("a one-shot iterator captures nothing that is fed")
    start()
    with tf.Graph().as_default() as graph:
        feed = make_iterator(end(dataset(40)))
        table = create("t")
        rows = lookup(table, feed.batch["id"])
        mx.modify_graph_and_start_emb_cache()
        made = [op for op in graph.get_operations() if op.type == "PrefetchDataset"]
        depths = {
            int(tf.get_static_value(op.inputs[1]))
            for op in made
            if op.name.startswith("mxrec_rewrite/")
        }
        assert depths == {depth} or (make_iterator is reinitializable and depth in depths)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            session.run(rows)
            deadline = time.monotonic() + 20
            while table.engine.stats()["prepared_waiting"] < depth:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.02)
            assert table.engine.stats()["prepared_waiting"] <= depth + 1


# --- Whole graphs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_training_lookups_find_what_was_prepared(start: Any, make_iterator: Any) -> None:
    start()
    with tf.Graph().as_default() as graph:
        feed = make_iterator(dataset(20))
        table, other = create("t"), create("u")
        ids = tf.strings.to_hash_bucket_fast(feed.batch["word"], 100)
        rows = [lookup(table, ids), lookup(table, feed.batch["id"]), lookup(other, ids)]
        train_op = train_op_of(loss_of(rows, feed.batch["label"]))
        mx.modify_graph_and_start_emb_cache()
        for types in maps_of(graph):
            assert types.count("MxrecPrepare") == 3
            assert types.count("StringToHashBucketFast") == 1
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            for _ in range(20):
                session.run(train_op)
        assert table.engine.stats()["prepared_lookups"] == 40
        assert other.engine.stats()["prepared_lookups"] == 20
        assert other.engine.stats()["prepared_waiting"] <= PREFETCH


@pytest.mark.parametrize(
    ("make_iterator", "build", "once"),
    [
        (one_shot, lambda data, insert: data.map(insert).prefetch(3), True),
        (
            initializable,
            lambda data, insert: data.map(insert, num_parallel_calls=2).repeat(1).take(20),
            True,
        ),
        (
            reinitializable,
            lambda data, insert: data.map(lambda batch: insert({**batch, "label": 1})),
            True,
        ),
        # What follows may change the keys.
        (one_shot, lambda data, insert: data.unbatch().map(insert).batch(BATCH), False),
        (reinitializable, lambda data, insert: data.map(insert).map(lambda b: dict(b)), False),
        (initializable, lambda data, insert: data.map(insert).cache(), False),
    ],
)
def test_keys_that_the_dataset_prepares_are_prepared_once(
    start: Any, make_iterator: Any, build: Any, once: bool
) -> None:
    start()
    specs = [mx.FeatureSpec(*pair) for pair in (("id", "t"), ("small", "u"), ("price", "v"))]
    with tf.Graph().as_default() as graph:
        data = build(dataset(20), mx.get_asc_insert_func(specs))
        feed = make_iterator(data)
        tables = [create(name) for name in "tuv"]
        features = [feed.batch[name] for name in ("id", "small", "price")]
        rows = [lookup(table, ids) for table, ids in zip(tables, features, strict=True)]
        # Not these keys, or not for this table.
        rows.append(lookup(tables[1], tf.cast(features[1], tf.int64)))
        rows.append(lookup(create("w"), features[0]))
        plan = make_plan(graph, rewriting_of(graph).sites, Wishes())
        is_two = make_iterator is reinitializable  # of whose datasets one is cut short
        assert [site.table for site in plan.prepared] == (list("tuv") if once else [])
        mx.modify_graph_and_start_emb_cache()
        assert [op_between(keys_of(each)) for each in rows] == [[]] * 5
        found = [ops.count("MxrecPrepare") for ops in maps_of(graph)]
        assert found == [2 if once else 5] * (1 + is_two)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            for _ in range(20):
                session.run(rows)
            with pytest.raises(tf.errors.OutOfRangeError):
                session.run(rows)
    for table in tables if once else ():
        stats = table.stats()
        assert stats["prepared_lookups"] == (40 if table.name == "u" else 20)
        assert stats["prepared_waiting"] == stats["prepared_dropped"] == 0


def test_reading_lookups_prepare_nothing(start: Any) -> None:
    start()
    with tf.Graph().as_default() as graph:
        batch = one_shot(dataset(3)).batch
        rows = lookup(create("t"), batch["id"] + 1, is_train=False)
        mx.modify_graph_and_start_emb_cache()
        (types,) = maps_of(graph)
        assert "MxrecPrepare" not in types and "AddV2" in types
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert not session.run(rows).any()


def test_int32_keys(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        batch = one_shot(dataset(3)).batch
        table = mx.create_table(
            tf.int32, 4, "t", tf.ones_initializer(), device_vocabulary_size=1000
        )
        rows = lookup(table, batch["small"] * 2)
        mx.modify_graph_and_start_emb_cache()
        assert keys_of(rows).dtype == tf.int32
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert session.run(rows).shape == (BATCH, 4)
        assert table.engine.stats()["prepared_lookups"] == 1


@pytest.mark.parametrize("make_iterator", [one_shot, initializable])
def test_ragged_components_and_functions(start: Any, make_iterator: Any) -> None:
    start()

    @tf.function
    def shifted(x: Any) -> Any:
        return tf.strings.to_hash_bucket_fast(tf.strings.as_string(x), 1000) + 1

    columns = elements(4)["id"]
    with tf.Graph().as_default() as graph:
        data = dataset(4).map(
            lambda d: tf.RaggedTensor.from_tensor(d["id"], lengths=d["small"] % 5)
        )
        ids = make_iterator(data)
        table = create("t")
        keys = ids.batch.with_flat_values(shifted(ids.batch.flat_values))
        rows = lookup(table, keys, combiner="sum")
        mx.modify_graph_and_start_emb_cache()
        assert op_between(keys_of(rows)) == []
        assert any("RaggedTensorFromVariant" in types for types in maps_of(graph))
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *ids.initializers])
            got, raw = session.run([rows, ids.batch])
        lengths = elements(4)["small"][:BATCH] % 5
        wanted = [list(row[:n]) for row, n in zip(columns[:BATCH], lengths, strict=True)]
        assert [list(row) for row in raw.to_list()] == wanted
        assert got.shape == (BATCH, 4) and table.engine.stats()["prepared_lookups"] == 1


def test_static_shapes_stay(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        data = dataset(3).map(lambda d: {"id": v1.placeholder_with_default(d["id"], [None, None])})
        batch = one_shot(data).batch
        batch["id"].set_shape([BATCH, 4])
        keys = batch["id"] * 2
        rows = lookup(create("t"), keys)
        mx.modify_graph_and_start_emb_cache()
        assert rows.shape == [BATCH, 4, 4] and keys_of(rows).shape == [BATCH, 4]
        assert mx.get_target_batch(True)["id"].shape == [BATCH, 4]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(rows)


def test_reinitializing_over_two_datasets(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        first, second = dataset(4, 1), dataset(3, 2)
        iterator = v1.data.Iterator.from_structure(
            v1.data.get_output_types(first), v1.data.get_output_shapes(first)
        )
        starts = [iterator.make_initializer(first), iterator.make_initializer(second)]
        batch = iterator.get_next()
        ids = tf.strings.to_number(batch["number"], tf.int64)
        rows = lookup(create("t"), ids)
        mx.modify_graph_and_start_emb_cache()
        with pytest.raises(ValueError, match="several initializers"):
            mx.get_initializer(True)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for i in (0, 1, 0):
                session.run(starts[i])
                wanted = elements(4 - i, i + 1)["number"].astype(np.int64).reshape(-1, BATCH)
                for row in wanted:
                    np.testing.assert_array_equal(session.run([ids, rows])[0], row)
                with pytest.raises(tf.errors.OutOfRangeError):
                    session.run(rows)


def test_datasets_with_state(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        keys = tf.lookup.KeyValueTensorInitializer(
            tf.range(500, dtype=tf.int64), tf.range(500, dtype=tf.int64) + 1000
        )
        hash_table = tf.lookup.StaticHashTable(keys, -1)
        data = dataset(6).shuffle(6, seed=1).map(lambda d: {"id": hash_table.lookup(d["id"])})
        feed = initializable(data)
        table = create("t")
        rows = lookup(table, feed.batch["id"] + 1)
        mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            session.run(feed.initializers)
            got = [session.run([feed.batch["id"], rows])[0] for _ in range(6)]
        wanted = elements(6)["id"].reshape(6, BATCH, 4) + 1000
        assert sorted(map(np.ndarray.tolist, got)) == sorted(wanted.tolist())


def test_tables_of_parameter_servers_are_not_prepared(start: Any) -> None:
    start()
    with socket.socket() as one, socket.socket() as two:
        one.bind(("localhost", 0))
        two.bind(("localhost", 0))
        ports = [each.getsockname()[1] for each in (one, two)]
    cluster = tf.train.ClusterSpec(
        {"ps": [f"localhost:{ports[0]}"], "worker": [f"localhost:{ports[1]}"]}
    )
    servers = [v1.train.Server(cluster, job_name=job, task_index=0) for job in ("ps", "worker")]
    setter = v1.train.replica_device_setter(cluster=cluster)
    with tf.Graph().as_default() as graph, v1.device(setter):
        feed = initializable(dataset(5))
        table = create("t")
        ids = tf.strings.to_hash_bucket_fast(feed.batch["word"], 100)
        loss = loss_of([lookup(table, ids)], feed.batch["label"])
        train_op = create_hash_optimizer(0.05).minimize(loss)
        with warnings_of() as warnings:
            mx.modify_graph_and_start_emb_cache()
        (types,) = maps_of(graph)
        assert "StringToHashBucketFast" in types and "MxrecPrepare" not in types
        assert not warnings
        with v1.Session(servers[1].target) as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            for _ in range(5):
                session.run(train_op)
        assert table.size() > 0
