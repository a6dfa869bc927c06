"""Training with rewriting gives the bits of training without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from graph_runs import contents, control_flow_of
from rewrite_runs import (
    BATCH,
    ITERATORS,
    REFUSED,
    assert_same_training,
    create,
    dataset,
    keys_of,
    lookup,
    op_between,
    train_op_of,
    warnings_of,
)

import mxrec.tf as mx

v1 = tf.compat.v1
STEPS = 300


def hashed(batch: Any, tables: dict[str, Any]) -> list[Any]:
    names = list(tables)
    word = tf.strings.to_hash_bucket_fast(batch["word"], 1000)
    number = tf.strings.to_number(batch["number"], tf.int64)
    cross = tf.strings.join([batch["word"], batch["number"]], separator="_")
    ids = [
        word,
        number,
        tf.strings.to_hash_bucket_fast(cross, 2000),
        batch["id"][:, 1:3],
        tf.cast(batch["small"], tf.int64),
        batch["id"],
        tf.reshape(batch["id"] * 7 % 31, [-1, 2, 2]),
    ]
    return [lookup(tables[names[i % len(names)]], each) for i, each in enumerate(ids)]


@pytest.mark.parametrize("make_iterator", ITERATORS)
@pytest.mark.parametrize("tables", [("t",), ("a", "bb", "ccc")])
def test_iterators_and_tables(make_iterator: Any, tables: tuple[str, ...]) -> None:
    with warnings_of() as warnings:
        result = assert_same_training(
            lambda: dataset(STEPS), hashed, tables=tables, make_iterator=make_iterator
        )
    assert len(result.losses) == STEPS
    # Of the run that is compared with.
    assert len(warnings) == 1 and "runs without having been rewritten" in warnings[0]
    mx.terminate_config_initializer()


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_with_admission(make_iterator: Any) -> None:
    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        config = {"access_threshold": 5, "faae_coefficient": 2}
        word = tf.strings.to_hash_bucket_fast(batch["word"], 1000)
        bags = tf.RaggedTensor.from_row_lengths(tf.reshape(batch["id"], [-1]), [4] * BATCH)
        options = {"access_and_evict_config": config}
        return [
            lookup(tables["t"], bags, combiner="sum", **options),
            lookup(tables["t"], word, **options),
            lookup(tables["u"], batch["id"], **options),
            lookup(tables["t"], batch["id"][:, 0], **options),
        ]

    assert_same_training(
        lambda: dataset(STEPS), rows_of, tables=("t", "u"), make_iterator=make_iterator
    )
    mx.terminate_config_initializer()


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_branches_and_loops(make_iterator: Any) -> None:
    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        ids = batch["id"]

        @tf.function(autograph=False)
        def doubled(x: Any) -> Any:
            return x * 2

        def halved(x: Any) -> Any:
            return tf.cond(tf.reduce_max(x) > 1000, lambda: x // 3, lambda: doubled(x) + 1)

        some = [
            tf.cond(ids[0, 0] % 2 > 0, lambda: ids + 1, lambda: halved(ids)),
            tf.switch_case(
                tf.cast(ids[0, 0] % 3, tf.int32), [lambda: ids, lambda: -ids, lambda: ids * ids]
            ),
            tf.while_loop(lambda x: tf.reduce_max(x) < 9000, lambda x: [doubled(x) + 1], [ids])[0],
        ]
        return [lookup(tables["t"], each) for each in some]

    with control_flow_of("v2"), warnings_of() as warnings:
        assert_same_training(lambda: dataset(60), rows_of, make_iterator=make_iterator)
    # Of the run that is compared with.
    assert len(warnings) == 1 and "runs without having been rewritten" in warnings[0]
    mx.terminate_config_initializer()


@pytest.mark.parametrize("expansion", [False, True])
def test_sparse_and_ragged_ids(expansion: bool) -> None:
    def data() -> Any:
        def bags(element: Any) -> Any:
            words = tf.strings.to_hash_bucket_fast(element["word"], 100)
            rows = tf.reshape(words, [-1, 2])
            sparse = tf.sparse.from_dense(rows % 3)
            return {"bags": sparse, "label": element["label"][: BATCH // 2]}

        return dataset(STEPS).map(bags)

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        bags = batch["bags"]
        cross = tf.sparse.cross_hashed([bags, bags], num_buckets=1000)
        shifted = tf.SparseTensor(bags.indices, bags.values * 5, bags.dense_shape)
        rows = [
            lookup(tables["t"], cross, combiner="mean"),
            lookup(tables["t"], shifted, combiner="sum"),
        ]
        with tf.control_dependencies(rows):
            rows.append(lookup(tables["t"], bags, combiner="sqrtn", is_train=False))
        return rows

    options = {"start": {"use_dynamic_expansion": expansion}}
    assert_same_training(data, rows_of, **options)
    mx.terminate_config_initializer()


@pytest.mark.parametrize("grouped", [False, True])
def test_timestamps_and_eviction(grouped: bool) -> None:
    def data() -> Any:
        numbered = v1.data.Dataset.range(STEPS)
        return v1.data.Dataset.zip((dataset(STEPS), numbered)).map(lambda d, n: {**d, "time": n})

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        config = {"access_threshold": 2, "eviction_threshold": 50}
        ids = tf.strings.to_number(batch["number"], tf.int64)
        rows = [lookup(tables["t"], ids, access_and_evict_config=config)]
        # After the lookup, which is connected to them when the graph is rewritten.
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, batch["time"])
        rows.append(lookup(tables["u"], batch["id"] + 3, access_and_evict_config=config))
        return rows

    options = {"start": {"group_lookups": grouped}, "tables": ("t", "u")}
    assert_same_training(data, rows_of, **options)
    mx.terminate_config_initializer()


# --- What happens between steps, while batches are prepared already -------------------------------


def bags(element: Any) -> dict[str, Any]:
    sparse = tf.sparse.from_dense(element["id"] % 40)
    return {"sparse": sparse, "label": element["label"], "time": element["small"][0]}


@pytest.mark.parametrize(
    ("make_iterator", "combiner"),
    list(zip(ITERATORS, ("sum", "mean", "sqrtn"), strict=True)),
)
def test_merged_lookups_of_bags_with_times_and_evictions(make_iterator: Any, combiner: str) -> None:
    evicted = []

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        config = {"access_threshold": 2, "eviction_threshold": 30}
        some = batch["sparse"]
        more = tf.SparseTensor(some.indices, some.values * 3 + 1, some.dense_shape)
        options = {"combiner": combiner, "access_and_evict_config": config}
        rows = [lookup(tables["t"], ids, **options) for ids in (some, more)]
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, batch["time"])
        mx.do_merge_lookup()
        return rows

    def between(step: int, session: Any, tables: dict[str, Any]) -> None:
        if step % 7 == 0:
            evicted.append(tables["t"].evict())
            assert tables["t"].stats()["latest_time"] < 100

    assert_same_training(
        lambda: dataset(60).map(bags), rows_of, make_iterator=make_iterator, between=between
    )
    assert sum(evicted) > 0
    mx.terminate_config_initializer()


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_a_restore_in_the_middle_of_an_iteration(make_iterator: Any, tmp_path: Path) -> None:
    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        word = tf.strings.to_hash_bucket_fast(batch["word"], 1000)
        config = {"access_threshold": 2}
        return [
            lookup(tables["t"], word, access_and_evict_config=config),
            lookup(tables["t"], batch["id"], access_and_evict_config=config),
        ]

    def between(step: int, session: Any, tables: dict[str, Any]) -> None:
        path = str(tmp_path / "model")
        if step == 10:
            mx.save_tables(path, step, list(tables.values()))
        if step in (15, 31):
            assert mx.restore_tables(path, list(tables.values())) == 10

    assert_same_training(lambda: dataset(50), rows_of, make_iterator=make_iterator, between=between)
    mx.terminate_config_initializer()


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_refusals_of_a_full_table(make_iterator: Any) -> None:
    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        ids = tf.strings.to_number(batch["number"], tf.int64)
        return [lookup(tables["t"], ids % 200)]

    def between(step: int, session: Any, tables: dict[str, Any]) -> None:
        if step == 30:  # there is room again
            engine = tables["t"].engine
            assert engine.erase(contents(tables["t"])[0][:10].copy()) == 10

    result = assert_same_training(
        lambda: dataset(60),
        rows_of,
        make_iterator=make_iterator,
        between=between,
        device_vocabulary_size=30,
    )
    refused = [loss == REFUSED for loss in result.losses]
    assert len(refused) == 60 and any(refused[:30]) and not all(refused[30:])
    assert 20 <= len(result.tables["t"][0]) <= 30
    mx.terminate_config_initializer()


def test_initializers_of_the_user(start: Any) -> None:
    class Counting(v1.keras.initializers.Initializer):  # type: ignore[misc, name-defined]
        def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> Any:
            return tf.reshape(tf.range(tf.reduce_prod(shape), dtype=tf.float32), shape)

    start()
    with tf.Graph().as_default():
        table = mx.create_table(tf.int64, 2, "t", Counting(), device_vocabulary_size=100)
        batch = v1.data.make_one_shot_iterator(dataset(2)).get_next()
        rows = lookup(table, batch["id"] % 10)
        mx.modify_graph_and_start_emb_cache()
        missing = [op for op in table.nodes().handle.consumers() if op.type == "MxrecMissing"]
        assert [op_between(op.inputs[1]) for op in missing] == [[]]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            assert session.run(rows).max() > 0


def test_reading_lookups_move_too(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        table = create("t")
        batch = v1.data.make_one_shot_iterator(dataset(3)).get_next()
        word = tf.strings.to_hash_bucket_fast(batch["word"], 50)
        trained = lookup(table, word)
        read = lookup(table, word, is_train=False)
        stays = lookup(table, word, modify_graph=False)
        train_op = train_op_of(tf.reduce_sum(trained) + tf.reduce_sum(stays))
        mx.modify_graph_and_start_emb_cache()
        inputs = {op.type: op.inputs for op in table.nodes().handle.consumers()}
        assert op_between(inputs["MxrecRead"][1]) == []
        assert "StringToHashBucketFast" in op_between(keys_of(stays))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run([read, train_op])
        assert table.size() > 0
