"""Exported models: the same predictions without the tables of the process that trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf.serving import freezer

v1 = tf.compat.v1
K = tf.keras
MODES = ["in_graph", "directory"]
EXTREMES = [0, -1, 2**63 - 1, -(2**63)]


def table(name: str = "t", dim: int = 3, **options: Any) -> Any:
    return mx.create_table(
        tf.int64, dim, name, v1.zeros_initializer(), use_dynamic_expansion=True, **options
    )


def filled(rng: Any, keys: Any, **options: Any) -> Any:
    made = table(**options)
    keys = np.asarray(keys, np.int64)
    made.engine.assign(keys, rng.normal(size=(len(keys), made.dim)).astype("f"))
    return made


def load(path: str) -> Any:
    """Loads a model when the tables that it was made of are gone."""
    mx.terminate_config_initializer()
    return tf.saved_model.load(path)


def same(found: Any, wanted: Any) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def keras_model() -> Any:
    ids = K.Input((3,), dtype="int64", name="ids")
    rows = mx.Embedding("user", 4, optimizer="adagrad", serving_default_value=0.25)(ids)
    other = mx.Embedding("item", 5, optimizer="adagrad", combiner="mean")(ids)
    both = K.layers.Concatenate()([K.layers.Flatten()(rows), other])
    model = K.Model(ids, K.layers.Dense(2, activation="relu")(both))
    model.compile("adam", "mse")
    return model


def session_score(ids: Any) -> Any:
    """A v1 graph on the table that the Keras model trained."""
    initializer = K.initializers.get("uniform")
    user = mx.create_table(tf.int64, 4, "user", initializer, use_dynamic_expansion=True)
    rows = mx.sparse_lookup(user, ids, is_train=False, serving_default_value=[1.0, 2, 3, 4])
    weights = v1.get_variable("w", initializer=np.linspace(-1, 1, 12, dtype="f")[:, None])
    return tf.matmul(tf.reshape(rows, [-1, 12]), weights)


def test_a_new_process_predicts_the_same(start, rng, tmp_path):
    start()
    ids = rng.integers(-9, 40, (64, 3))
    model = keras_model()
    model.fit(ids, rng.normal(size=(64, 2)), verbose=0)
    asked = rng.integers(-20, 80, (16, 3))
    cases = {"ids": asked}
    names = []
    for mode in MODES:
        for name in (f"keras_{mode}", f"session_{mode}"):
            names.append(name)
            path = str(tmp_path / "here" / name)
            if name.startswith("keras"):
                cases[f"{name}_wanted"] = model.predict(asked, batch_size=16, verbose=0)
                assert mx.export_saved_model(model, path, tables=mode) == path
                continue
            with tf.Graph().as_default(), v1.Session() as session:
                given = v1.placeholder(tf.int64, [None, 3])
                score = session_score(given)
                session.run(v1.global_variables_initializer())
                cases[f"{name}_wanted"] = session.run(score, {given: asked})
                mx.export_saved_model(
                    session, path, inputs={"ids": given}, outputs={"score": score}, tables=mode
                )
    np.savez(tmp_path / "here" / "cases.npz", **cases)
    os.rename(tmp_path / "here", tmp_path / "there")  # models may be moved
    in_graph = [name for name in names if name.endswith("in_graph")]
    others = [name for name in names if not name.endswith("in_graph")]
    program = Path(__file__).with_name("serving_program.py")
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "there"), *in_graph, "--", *others],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("predicts the same") == 4


@pytest.mark.parametrize("mode", MODES)
def test_pooled_lookups_are_those_of_the_engine_bit_for_bit(start, rng, tmp_path, mode):
    start()
    dim = 33  # vectors, and a rest
    made = filled(rng, rng.permutation(200)[:150], dim=dim)
    absent = rng.normal(size=dim).astype("f")
    lengths = np.array([0, 1, 2, 700, 0, 3, 64, 0])
    values = rng.integers(0, 200, lengths.sum())
    weights = rng.normal(size=len(values)).astype("f")
    weights[:3] = 0.0  # divisors of 0
    ragged = tf.RaggedTensor.from_row_lengths(values, lengths)
    ragged_weights = ragged.with_values(tf.constant(weights))
    sparse, sparse_weights = ragged.to_sparse(), ragged_weights.to_sparse()

    def predict(ragged: Any, ragged_weights: Any, sparse: Any, sparse_weights: Any) -> Any:
        def pooled(combiner: str, ids: Any, weights: Any = None) -> Any:
            kwargs = {"is_train": False, "serving_default_value": absent}
            return mx.sparse_lookup(made, ids, combiner=combiner, sp_weights=weights, **kwargs)

        return {
            "sum": pooled("sum", ragged),
            "mean": pooled("mean", ragged),
            "sqrtn": pooled("sqrtn", sparse),
            "weighted_sum": pooled("sum", sparse, sparse_weights),
            "weighted_mean": pooled("mean", ragged, ragged_weights),
            "weighted_sqrtn": pooled("sqrtn", ragged, ragged_weights),
        }

    given = (ragged, ragged_weights, sparse, sparse_weights)
    wanted = predict(*given)
    kinds = (tf.RaggedTensorSpec, tf.SparseTensorSpec)
    specs = [kind([None, None], dtype) for kind in kinds for dtype in (tf.int64, tf.float32)]
    loaded = load(mx.export_saved_model(predict, tmp_path / "m", inputs=specs, tables=mode))
    found = loaded(*given)
    for name, value in wanted.items():
        same(found[name], value)
    parts = {
        "inputs_0_values": ragged.values,
        "inputs_0_row_splits": ragged.row_splits,
        "inputs_1_values": ragged_weights.values,
        "inputs_1_row_splits": ragged.row_splits,
        "inputs_2_indices": sparse.indices,
        "inputs_2_values": sparse.values,
        "inputs_2_dense_shape": sparse.dense_shape,
        "inputs_3_indices": sparse.indices,
        "inputs_3_values": sparse_weights.values,
        "inputs_3_dense_shape": sparse.dense_shape,
    }
    by_signature = loaded.signatures["serving_default"](**parts)
    for name, value in wanted.items():
        same(by_signature[name], value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("absent", [None, 0.5, [1.0, 2.0, 3.0]])
def test_keys_of_all_kinds(start, rng, tmp_path, mode, absent):
    start()
    made = filled(rng, [*EXTREMES, 5, 7])
    asked = tf.constant([[5, *EXTREMES], [6, 7, -5, 2**62, 5]], tf.int64)

    def predict(ids: Any) -> Any:
        few = tf.cast(ids[0, 0], tf.int32)  # a scalar of another type
        kwargs = {"is_train": False, "serving_default_value": absent}
        return mx.sparse_lookup(made, ids, **kwargs), mx.sparse_lookup(made, few, **kwargs)

    wanted = predict(asked)
    spec = tf.TensorSpec([None, None], tf.int64, "ids")
    path = mx.export_saved_model(tf.function(predict), tmp_path / "m", inputs=spec, tables=mode)
    loaded = load(path)
    for found, value in zip(loaded(asked), wanted, strict=True):
        same(found, value)
    found = loaded.signatures["serving_default"](ids=asked)
    same(found["output_0"], wanted[0])
    same(found["output_1"], wanted[1])


@pytest.mark.parametrize("mode", MODES)
def test_empty_tables(start, tmp_path, mode):
    start()
    made = table()
    spec = tf.TensorSpec([None], tf.int64)
    path = mx.export_saved_model(
        lambda ids: mx.sparse_lookup(made, ids, serving_default_value=2.0),
        tmp_path / "m",
        inputs=spec,
        tables=mode,
    )
    assert made.size() == 0  # training lookups read, too
    loaded = load(path)
    same(loaded(tf.constant([1, 2], tf.int64)), np.full((2, 3), 2.0, np.float32))
    assert loaded(tf.zeros([0], tf.int64)).shape == [0, 3]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision(start, rng, tmp_path, mode, dtype):
    start()
    made = filled(rng, range(20), value_dtype=dtype)
    asked = tf.range(30, dtype=tf.int64)
    wanted = mx.sparse_lookup(made, asked, is_train=False)
    path = mx.export_saved_model(
        lambda ids: mx.sparse_lookup(made, ids, is_train=False),
        tmp_path / "m",
        inputs=tf.TensorSpec([None], tf.int64),
        tables=mode,
    )
    same(load(path)(asked), wanted)


def test_small_tables_go_into_the_graph(start, rng, tmp_path):
    start()
    small, large = filled(rng, range(10), name="small"), filled(rng, range(11), name="large")

    def predict(ids: Any) -> Any:
        return [mx.sparse_lookup(each, ids, is_train=False) for each in (small, large)]

    spec = tf.TensorSpec([None], tf.int64)
    path = mx.export_saved_model(predict, tmp_path / "m", inputs=[spec], in_graph_bytes=10 * 20)
    assert os.listdir(os.path.join(path, freezer.TABLES_FOLDER)) == ["large"]
    marker = json.loads((tmp_path / "m" / "assets" / freezer.MARKER_NAME).read_text())
    assert list(marker["tables"]) == ["large"]
    wanted = predict(tf.range(20, dtype=tf.int64))
    for found, value in zip(load(path)(tf.range(20, dtype=tf.int64)), wanted, strict=True):
        same(found, value)


def test_versions_of_a_model_side_by_side(start, rng, tmp_path):
    """Tables of models have nothing to do with one another, nor with those of the process."""
    start()
    made = filled(rng, range(10))
    asked = tf.range(12, dtype=tf.int64)
    paths, wanted = [], []
    for number in range(2):
        paths.append(
            mx.export_saved_model(
                lambda ids: mx.sparse_lookup(made, ids, is_train=False),
                tmp_path / str(number),
                inputs=tf.TensorSpec([None], tf.int64),
                tables="directory",
            )
        )
        wanted.append(mx.sparse_lookup(made, asked, is_train=False))
        made.engine.assign(np.arange(10), np.full((10, 3), number, np.float32))
    loaded = [tf.saved_model.load(path) for path in paths]
    for _ in range(2):
        for model, value in zip(loaded, wanted, strict=True):
            same(model(asked), value)


def test_models_with_other_resources(start, rng, tmp_path):
    """Vocabularies, and variables that are no weights of layers."""
    start()
    words = K.Input((2,), dtype="string", name="words")
    ids = K.layers.StringLookup(vocabulary=["a", "b", "c"])(words)
    rows = mx.Embedding("t", 3, optimizer="sgd")(ids)
    model = K.Model(words, rows)
    asked = tf.constant([["a", "c"], ["b", "x"]])
    model(asked, training=True)
    wanted = model(asked)
    found = load(mx.export_saved_model(model, tmp_path / "m"))(asked)
    same(found, wanted)


class Scores(K.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.Embedding("t", 3, optimizer="sgd", combiner="sum")
        self.dense = K.layers.Dense(1)

    def call(self, inputs: Any, training: Any = None) -> Any:
        return {"score": self.dense(self.embedding(inputs["bag"], training=training))}


@pytest.mark.parametrize("mode", MODES)
def test_subclassed_models(start, tmp_path, mode):
    start()
    model = Scores()
    given = {"bag": tf.ragged.constant([[1, 2], [], [3]], dtype=tf.int64)}
    model(given, training=True)
    wanted = model(given)["score"]
    with pytest.raises(ValueError, match="inputs must be given"):
        mx.export_saved_model(model, tmp_path / "m")
    specs = {"bag": tf.RaggedTensorSpec([None, None], tf.int64)}
    path = mx.export_saved_model(model, tmp_path / "m", inputs=specs, tables=mode)
    loaded = load(path)
    same(loaded(given)["score"], wanted)
    bag = given["bag"]
    found = loaded.signatures["serving_default"](
        bag_values=bag.values, bag_row_splits=bag.row_splits
    )
    same(found["score"], wanted)


def test_an_exported_table_cannot_be_exchanged(start, rng, tmp_path):
    start()
    spec = tf.TensorSpec([None], tf.int64)
    made = filled(rng, range(4))

    def export(name: str) -> str:
        return mx.export_saved_model(
            lambda ids: mx.sparse_lookup(made, ids, is_train=False),
            tmp_path / name,
            inputs=spec,
            tables="directory",
        )

    first, second = export("first"), export("second")
    tables = [os.path.join(path, freezer.TABLES_FOLDER) for path in (first, second)]
    os.rename(tables[0], tmp_path / "away")
    with pytest.raises(tf.errors.NotFoundError, match=r"assets\.extra/mxrec/t"):
        load(first)(tf.constant([1], tf.int64))
    os.rename(tables[1], tables[0])
    with pytest.raises(tf.errors.FailedPreconditionError, match="copy the whole exported model"):
        load(first)(tf.constant([1], tf.int64))


def test_a_table_that_changes_meanwhile_is_an_error(start, rng, tmp_path, monkeypatch):
    start()
    made = filled(rng, range(4))

    class Changing:
        version = property(lambda self: rng.integers(2**60))

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

    engine, made.engine = made.engine, Changing()
    for mode in MODES:
        with pytest.raises(RuntimeError, match="'t' changed while it was exported"):
            mx.export_saved_model(
                lambda ids: mx.sparse_lookup(made, ids, is_train=False),
                tmp_path / "m",
                inputs=tf.TensorSpec([None], tf.int64),
                tables=mode,
            )
    assert not list(tmp_path.iterdir())


def test_rejected_arguments(start, tmp_path):
    start()
    path = tmp_path / "m"
    spec = tf.TensorSpec([None], tf.int64)

    def predict(ids: Any) -> Any:
        return ids

    for args, kwargs, error, text in [
        ((5,), {}, TypeError, "model must be"),
        ((predict,), {}, ValueError, "inputs must be given"),
        ((predict,), {"inputs": tf.constant([1])}, TypeError, "inputs must be tf.TypeSpecs"),
        ((predict,), {"inputs": spec, "outputs": {}}, TypeError, "outputs does not go with"),
        ((predict,), {"inputs": spec, "tables": "disk"}, ValueError, "tables"),
        ((predict,), {"inputs": spec, "in_graph_bytes": -1}, ValueError, "in_graph_bytes"),
    ]:
        with pytest.raises(error, match=text):
            mx.export_saved_model(*args, path, **kwargs)
    path.mkdir()
    (path / "x").touch()
    with pytest.raises(ValueError, match="not an empty directory"):
        mx.export_saved_model(predict, path, inputs=spec)
    with pytest.raises(ValueError, match="local file systems"):
        mx.export_saved_model(predict, "gs://bucket/m", inputs=spec)
