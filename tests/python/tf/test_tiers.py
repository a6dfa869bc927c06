"""Tables with an SSD tier in TensorFlow programs: the same as tables in memory, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoint_program
import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents
from pipeline_runs import AGE, TABLES, trained
from rewrite_runs import assert_equal, create, dataset, lookup, loss_of, train, train_op_of
from tier_sizes import ROWS, assert_moved, assert_same, files, sizes, until_spilled

import mxrec
import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook
from mx_rec.optimizers.gradient_descent import create_hash_optimizer
from mx_rec.saver.sparse import export
from tf_adapter import NPUEstimator, NPURunConfig

v1 = tf.compat.v1
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    mx.terminate_config_initializer()
    yield
    mx.terminate_config_initializer()


# --- create_table ---------------------------------------------------------------------------------


def make(name: str = "t", **options: Any) -> Any:
    return mx.create_table(tf.int64, 4, name, tf.zeros_initializer(), **options)


def test_sizes_and_files(tmp_path: Path) -> None:
    mx.init()
    table = make(**sizes(tmp_path))
    assert table.capacity() == ROWS
    tiers = table.stats()["tiers"]
    assert (tiers["memory"]["capacity"], tiers["ssd"]["capacity"]) == (ROWS // 100, 9900)
    assert len(files(tmp_path)) == 1
    mx.sparse_lookup(table, tf.range(1000))
    until_spilled(table)
    assert table.size() == 1000 and table.stats()["tiers"]["ssd"]["rows"] >= 900
    table.prefetch(np.arange(1000))
    with pytest.raises(tf.errors.ResourceExhaustedError, match=f"capacity is {ROWS} rows"):
        mx.sparse_lookup(table, tf.range(ROWS + 1))
    mx.terminate_config_initializer()
    assert files(tmp_path) == []


def test_the_working_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mx.init()
    monkeypatch.chdir(tmp_path)
    table = make(host_vocabulary_size=2, ssd_vocabulary_size=50, ssd_data_path=None)
    assert table.spec.ssd_paths == (str(tmp_path),) and len(files(tmp_path)) == 1


def test_a_host_tier_alone_is_memory() -> None:
    mx.init()
    table = make(host_vocabulary_size=50, ssd_data_path=["/no/where"])
    assert table.capacity() == 51 and table.stats()["tiers"] is None


def test_tables_in_memory_and_with_ssd_are_mixed(tmp_path: Path) -> None:
    mx.init()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [create("a", **sizes(tmp_path)), create("b"), create("c", **sizes(tmp_path))]
        rows = [lookup(table, tf.range(500, dtype=tf.int64)) for table in tables]
        session.run(rows)
        assert [table.size() for table in tables] == [500, 500, 500]
    assert len(files(tmp_path)) == 2


def test_another_graph_attaches_with_equal_options(tmp_path: Path) -> None:
    mx.init()
    options = sizes(tmp_path)
    with tf.Graph().as_default():
        first = make(**options)
    with tf.Graph().as_default():
        same = [str(tmp_path / ".." / tmp_path.name)]
        assert make(**{**options, "ssd_data_path": same}).engine is first.engine
    others = [
        ({"ssd_vocabulary_size": 9901}, "ssd_rows 9900 != 9901"),
        ({"host_vocabulary_size": 100}, "memory_rows 100 != 101"),
        ({"ssd_data_path": [tmp_path, tmp_path]}, "ssd_paths .* != "),
    ]
    for other, message in others:
        with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
            make(**{**options, **other})


# --- Training -------------------------------------------------------------------------------------


def test_gradients_of_many_lookups_in_a_step(tmp_path: Path) -> None:
    """Rows of the first lookups have left memory long before the gradients come."""
    mx.init()
    lookups, keys = 80, 20
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(**sizes(tmp_path))
        rows: list[Any] = []
        for number in range(lookups):
            with tf.control_dependencies(rows[-1:]):
                ids = tf.range(number * keys, (number + 1) * keys, dtype=tf.int64) + 0
            rows.append(mx.sparse_lookup(table, ids))
        loss = tf.add_n([tf.reduce_sum(each) for each in rows])
        _, sparse = mx.get_dense_and_sparse_variable()
        optimizer = create_hash_optimizer(1.0)
        step = optimizer.apply_gradients(zip(tf.gradients(loss, sparse), sparse, strict=True))
        ids = tf.range(lookups * keys, dtype=tf.int64)
        all_rows = mx.sparse_lookup(table, ids, is_train=False)
        session.run(v1.global_variables_initializer())
        for _ in range(2):
            session.run(step)
        found = session.run(all_rows)
    np.testing.assert_array_equal(found, -2.0)


@pytest.mark.parametrize("rewritten", [False, True])
def test_training_in_a_session(rewritten: bool, tmp_path: Path) -> None:
    def rows_of(batch: Any, made: Any) -> list[Any]:
        return [
            lookup(made["t"], batch["id"]),
            lookup(made["u"], tf.strings.to_hash_bucket_fast(batch["number"], 5000)),
            lookup(made["t"], tf.cast(batch["small"], tf.int64)),
        ]

    def moved(step: int, session: Any, made: dict[str, Any]) -> None:
        if step == 60:
            assert_moved(made["t"])
            prepared = made["t"].stats()["prepared_lookups"]
            assert (prepared > 0) is rewritten

    options: dict[str, Any] = {"tables": ("t", "u"), "rewritten": rewritten}
    memory = train(lambda: dataset(60), rows_of, **options, **sizes(None))
    small = {**sizes(tmp_path), "host_vocabulary_size": 4}
    assert_equal(train(lambda: dataset(60), rows_of, **options, between=moved, **small), memory)


@pytest.mark.parametrize("access", [{}, AGE | {"access_threshold": 2}], ids=str)
def test_training_with_feature_specs(access: dict[str, int], tmp_path: Path) -> None:
    """The keys of coming batches are prepared, and their rows read, in the input pipeline."""

    def insert(features: list[mx.FeatureSpec]) -> Any:
        return mx.get_asc_insert_func(tgt_key_specs=features, is_training=True)

    def moved(tables: dict[str, Any]) -> None:
        for table in tables.values():
            assert_moved(table)
            assert table.stats()["tiers"]["memory"]["promoted_staged"] > 0
        figures = mxrec.tier_figures(tables["tags"].stats())
        assert figures is not None and figures.updates == 120

    options: dict[str, Any] = {"steps": 120, "evict_every": 30 if access else None, **access}
    memory = trained(insert, 4, **options)
    small = {**sizes(tmp_path), "host_vocabulary_size": 5}
    found = trained(insert, 4, sizes=small, at_end=moved, **options)
    np.testing.assert_array_equal(found.losses, memory.losses)
    assert_same(found.contents, memory.contents)
    assert found.prepared == memory.prepared == [120] * len(TABLES)


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    training = mode == tf.estimator.ModeKeys.TRAIN
    table = create("words", **params["sizes"])
    ids = tf.strings.to_hash_bucket_fast(features["word"], 300)
    rows = [
        lookup(table, ids, is_train=training),
        lookup(table, features["id"], is_train=training),
    ]
    loss = loss_of(rows, features["label"])
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    step = v1.assign_add(v1.train.get_or_create_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op_of(loss), step))


@needs_estimator
def test_an_estimator_trains_evaluates_and_restores(tmp_path: Path) -> None:
    results = []
    for path in (None, tmp_path):
        seen: list[Any] = []
        for part in range(2):  # the second restores what the first has saved
            mx.terminate_config_initializer()
            mx.init()
            params = {"sizes": sizes(path)}
            if path is not None:
                params["sizes"]["host_vocabulary_size"] = 20
            model = NPUEstimator(
                model_fn=model_fn,
                model_dir=str(tmp_path / str(path is None)),
                config=NPURunConfig(tf_random_seed=1),
                params=params,
            )

            def data(part: int = part) -> Any:
                return dataset(20, part).map(lambda d: (d, d["label"]))

            model.train(data, hooks=[GraphModifierHook(dump_graph=False)])
            seen.append(model.evaluate(data, hooks=[GraphModifierHook(dump_graph=False)]))
            (table,) = mx.registered_tables()
            if path is not None:
                assert_moved(table)
            seen.append(contents(table))
        results.append(seen)
    for memory, tiered in zip(*results, strict=True):
        if isinstance(memory, dict):
            assert memory == tiered
        else:
            assert_same(tiered, memory)


def test_a_keras_layer(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).zipf(1.2, (256, 3)) % 400
    found = []
    for options in (sizes(None), {**sizes(tmp_path), "host_vocabulary_size": 9}):
        mx.terminate_config_initializer()
        inputs = tf.keras.Input((3,), dtype="int64")
        layer = mx.Embedding("t", 4, optimizer="lazy_adam", **options)
        flat = tf.keras.layers.Flatten()(layer(inputs))
        start = tf.keras.initializers.RandomNormal(seed=3)
        dense = tf.keras.layers.Dense(1, kernel_initializer=start)
        model = tf.keras.Model(inputs, dense(flat))
        model.compile("sgd", "mse")
        history = model.fit(ids, np.ones(256), batch_size=16, epochs=2, verbose=0, shuffle=False)
        config = layer.get_config()
        assert config.get("ssd_vocabulary_size", 0) == options.get("ssd_vocabulary_size", 0)
        assert mx.Embedding.from_config(config).table.engine is layer.table.engine
        model.save_weights(tmp_path / "m.weights.h5")
        before = contents(layer.table)
        layer.table.engine.erase(before[0])
        model.load_weights(tmp_path / "m.weights.h5")
        assert_same(contents(layer.table), before)
        found.append((history.history["loss"], before))
    assert_moved(layer.table)
    assert found[0][0] == found[1][0]
    assert_same(found[1][1], found[0][1])


# --- Checkpoints, warm start, export --------------------------------------------------------------


def program(path: Path | None, host: int = 5) -> checkpoint_program.Program:
    """The program of the checkpoint tests, in a new start of the library."""
    mx.terminate_config_initializer()
    mx.init()
    small = {} if path is None else {"host_vocabulary_size": host}
    return checkpoint_program.Program(sizes={**sizes(path), **small})


def test_saver_restores_to_other_tier_sizes(tmp_path: Path) -> None:
    memory = program(None)
    memory.train(1, 20)
    wanted = memory.state()
    tiered = program(tmp_path)
    tiered.train(1, 12)
    saved = tiered.state()
    path = tiered.save(tmp_path / "model", global_step=tiered.step)
    tiered.train(13, 20)
    assert_moved(tiered.tables["user"])
    assert_states(tiered.state(), wanted)
    for host in (None, 1, 40):
        again = program(None if host is None else tmp_path, host or 0)
        again.restore(path)
        assert_states(again.state(), saved)
        again.train(13, 20)
        assert_states(again.state(), wanted)
    mx.terminate_config_initializer()
    written = export(["user"], str(tmp_path))
    with np.load(written["user"]) as archive:
        order = np.argsort(archive["keys"])
        np.testing.assert_array_equal(archive["keys"][order], saved["user/keys"])
        np.testing.assert_array_equal(archive["values"][order], saved["user/values"])


def assert_states(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    assert_same(list(found.values()), list(wanted.values()))


def test_full_versions_and_deltas(tmp_path: Path) -> None:
    mx.init()
    states = {}
    with tf.Graph().as_default():
        tables = [create("a", **sizes(tmp_path)), create("b", **sizes(None))]
        rng = np.random.default_rng(1)
        for table in tables:
            table.engine.bind_optimizer(mxrec.LazyAdam(0.1).to_options())
        for step in range(1, 5):
            for table in tables:
                keys = rng.integers(0, 2000, 300)
                table.engine.lookup(keys)
                grads = rng.normal(size=(300, 4)).astype(np.float32)
                table.engine.apply_gradients(keys, grads)
                table.engine.erase(rng.integers(0, 2000, 50))
            mx.save_tables(tmp_path / f"m-{step}", step, tables)
            states[step] = [contents(table) for table in tables]
        assert_moved(tables[0])
        for step, wanted in states.items():
            assert mx.restore_tables(tmp_path / f"m-{step}", tables) == step
            for table, state in zip(tables, wanted, strict=True):
                assert_same(contents(table), state)


def test_warm_start(tmp_path: Path) -> None:
    source = program(None)
    source.train(1, 10)
    path = source.save(tmp_path / "model", global_step=source.step)
    wanted = source.state()
    target = program(tmp_path)
    target.train(30, 32)
    with target.graph.as_default():
        mxrec.warm_start(target.session, path)
    found = target.state()
    for name in ("user/keys", "user/values", "user/slots", "item/values", "dense"):
        np.testing.assert_array_equal(found[name], wanted[name])
    target.train(33, 34)
    assert_moved(target.tables["user"])


# --- TensorBoard ----------------------------------------------------------------------------------


def test_summaries_tell_of_tiers(tmp_path: Path) -> None:
    from mxrec.tf.summaries import TableSummaries

    mx.init()
    table, plain = make(**sizes(tmp_path)), make("plain", **sizes(None))
    summaries = TableSummaries(histograms=False)

    def numbers(of: Any = table) -> dict[str, float]:
        values = summaries.of([of]).value
        prefix = f"mxrec/{of.table_name}/"
        return {value.tag.removeprefix(prefix): value.simple_value for value in values}

    assert "memory_hit_rate" not in numbers()  # nothing was looked up
    mx.sparse_lookup(table, tf.range(1000))
    until_spilled(table)
    first = numbers()
    assert first["memory_rows"] + first["ssd_rows"] == first["rows"] == 1000
    mx.sparse_lookup(table, tf.range(1000))
    found, stats = numbers(), table.stats()["tiers"]
    came = (stats["memory"]["promoted"]) / 1000
    assert found["memory_hit_rate"] == pytest.approx(1 - came)
    assert found["ssd_wait_rate"] == pytest.approx(came)
    for name in ("bytes_read", "bytes_written", "read_requests", "bytes_on_disk"):
        assert found[f"ssd_{name}"] == stats["ssd"][name]
    assert found["ssd_capacity"] == 9900 and found["ssd_spilled"] >= first["ssd_rows"]
    assert not {name for name in found if "uring" in name or "path" in name or "error_" in name}
    assert not {name for name in numbers(plain) if name.startswith(("memory_", "ssd_"))}
