"""SavedModels as scripts write them: Estimators, exporters, simple_save, builders."""

from __future__ import annotations

import importlib
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
from mxrec.tf.estimator import NPUEstimator
from mxrec.tf.serving import builders, freezer

v1 = tf.compat.v1
opt = mx.optimizers
PLACES = {"in_graph": 1 << 20, "directory": 0}
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


def make(name: str = "user", dim: int = 4) -> Any:
    return mx.create_table(tf.int64, dim, name, v1.random_normal_initializer(seed=3), 1000)


def place(monkeypatch: Any, where: str) -> None:
    monkeypatch.setattr(builders, "IN_GRAPH_BYTES", PLACES[where])


def predict(path: Any, **inputs: Any) -> dict[str, Any]:
    """Loads a model when the tables that it was made of are gone, and predicts."""
    mx.terminate_config_initializer()
    loaded = tf.saved_model.load(tf.compat.as_str_any(path)).signatures["serving_default"]
    found = loaded(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


def same(found: Any, wanted: Any) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    training = mode == tf.estimator.ModeKeys.TRAIN
    ids = features["ids"]
    rows = mx.sparse_lookup(
        make(), ids, is_train=training, serving_default_value=[1.0, 2, 3, 4], name="rows"
    )
    bags = mx.sparse_lookup(make("item", 2), ids[:, tf.newaxis], is_train=training)
    both = tf.concat([rows, tf.reshape(bags, [-1, 2])], axis=1)
    weights = v1.get_variable("dense/kernel", [6], initializer=v1.ones_initializer())
    bias = v1.get_variable("dense/bias", initializer=0.0)
    score = tf.add(tf.linalg.matvec(both, weights), bias, name="score")
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"score": score})
    labels = tf.cast(labels, tf.float32)
    loss = tf.reduce_mean(tf.square(score - labels))
    step = v1.train.get_or_create_global_step()
    train = tf.group(
        v1.train.GradientDescentOptimizer(0.1).minimize(loss, step),
        opt.adagrad.create_hash_optimizer(0.1).minimize(loss),
    )
    metrics = {"error": v1.metrics.mean_absolute_error(labels, score)}
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train, eval_metric_ops=metrics)


def dataset(keys: Any = range(40)) -> Any:
    ids = tf.data.Dataset.from_tensor_slices(np.array(keys, np.int64)).batch(8)
    return ids.map(lambda k: ({"ids": k}, k % 2))


def receiver() -> Any:
    ids = v1.placeholder(tf.int64, [None], "asked")
    return tf.estimator.export.ServingInputReceiver({"ids": ids}, {"ids": ids})


def supervised() -> Any:
    ids, labels = (v1.placeholder(tf.int64, [None], name) for name in ("asked", "labels"))
    # No public name of TensorFlow 2 makes one of raw tensors that are placeholders.
    module = importlib.import_module("tensorflow_estimator.python.estimator.export.export")
    return module.SupervisedInputReceiver({"ids": ids}, labels, {"ids": ids, "labels": labels})


def trained(kind: Any, model_dir: Path) -> Any:
    estimator = kind(model_fn, str(model_dir))
    estimator.train(dataset)
    return estimator


def scores(estimator: Any, asked: Any) -> Any:
    features = lambda: tf.data.Dataset.from_tensors({"ids": np.array(asked)})  # noqa: E731
    return np.array([each["score"] for each in estimator.predict(features)], np.float32)


@needs_estimator
def test_an_estimators_model_serves_in_a_new_process(start, tmp_path, monkeypatch):
    start()
    asked = np.array([3, 39, 1000])
    folder = tmp_path / "here"
    cases = {"ids": asked}
    kinds = {"in_graph": tf.estimator.Estimator, "directory": NPUEstimator}
    for where, kind in kinds.items():
        place(monkeypatch, where)
        estimator = trained(kind, tmp_path / where)
        cases[f"{where}_wanted"] = scores(estimator, asked)
        made = estimator.export_saved_model(str(folder / "made"), receiver)
        os.rename(made, folder / where)
    np.savez(folder / "cases.npz", **cases)
    os.rename(folder, tmp_path / "there")  # models may be moved
    program = Path(__file__).with_name("serving_program.py")
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "there"), "in_graph", "--", "directory"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("predicts the same") == 2


@needs_estimator
def test_options_of_an_estimators_export(start, tmp_path, monkeypatch):
    """Extra assets, text, the checkpoint; variables that TensorFlow and warm starts find."""
    start()
    place(monkeypatch, "directory")
    estimator = trained(tf.estimator.Estimator, tmp_path / "model")
    first = estimator.latest_checkpoint()
    asked = np.array([5, 6, -1])
    wanted = scores(estimator, asked)
    weights = estimator.get_variable_value("dense/kernel")
    estimator.train(dataset)
    (tmp_path / "words.txt").write_text("a\nb\n")
    made = estimator.export_saved_model(
        str(tmp_path / "e"),
        receiver,
        assets_extra={"more/words.txt": str(tmp_path / "words.txt")},
        as_text=True,
        checkpoint_path=first,
    )
    path = Path(made.decode())
    assert (path / "saved_model.pbtxt").exists()
    assert (path / "assets.extra" / "more" / "words.txt").read_text() == "a\nb\n"
    assert sorted(each.name for each in (path / freezer.TABLES_FOLDER).iterdir()) == [
        "item",
        "user",
    ]
    variables = str(path / "variables" / "variables")
    same(tf.train.load_variable(variables, "dense/kernel"), weights)
    mx.terminate_config_initializer()
    with tf.Graph().as_default(), v1.Session() as session:  # by the names in the script
        v1.saved_model.load(session, ["serve"], str(path))
        same(session.run("score:0", {"asked:0": asked}), wanted)
        assert [v.op.name for v in v1.trainable_variables()] == ["dense/kernel", "dense/bias"]
    same(predict(path, ids=asked)["score"], wanted)


@needs_estimator
def test_exporters_of_train_and_evaluate(start, tmp_path, monkeypatch):
    """What they write predicts as the checkpoint does, and training goes on as without them."""
    place(monkeypatch, "directory")
    asked = np.array([0, 7, 77])
    found, states = {}, []
    for exporting in (False, True):
        start()
        model_dir = tmp_path / f"model{exporting}"
        config = tf.estimator.RunConfig(str(model_dir), save_checkpoints_steps=5, tf_random_seed=1)
        estimator = tf.estimator.Estimator(model_fn, config=config)
        exporters = [
            tf.estimator.LatestExporter("latest", receiver, exports_to_keep=1),
            tf.estimator.BestExporter("best", receiver, exports_to_keep=1),
            tf.estimator.FinalExporter("final", receiver),
        ]
        tf.estimator.train_and_evaluate(
            estimator,
            tf.estimator.TrainSpec(lambda: dataset().repeat(), max_steps=10),
            tf.estimator.EvalSpec(
                dataset, steps=None, exporters=exporters * exporting, throttle_secs=0
            ),
        )
        wanted = scores(estimator, asked)
        states.append((wanted, estimator.get_variable_value("dense/kernel")))
        if exporting:
            for name in ("latest", "best", "final"):
                (found[name],) = (model_dir / "export" / name).iterdir()
        else:
            mx.terminate_config_initializer()
    for one, other in zip(*states, strict=True):
        same(one, other)
    for name in ("latest", "final"):
        same(predict(found[name], ids=asked)["score"], wanted)
    assert predict(found["best"], ids=asked)["score"].shape == (3,)


@needs_estimator
@pytest.mark.parametrize("where", PLACES)
def test_modes(start, tmp_path, monkeypatch, where):
    """Evaluation is exported with its metrics, beside predictions; training is refused."""
    start()
    place(monkeypatch, where)
    estimator = trained(tf.estimator.Estimator, tmp_path / "model")
    modes = tf.estimator.ModeKeys
    with pytest.raises(ValueError, match=r"cannot train the tables .*'item', 'user'.*PREDICT"):
        estimator.experimental_export_all_saved_models(
            str(tmp_path / "e"), {modes.TRAIN: supervised, modes.PREDICT: receiver}
        )
    assert not list((tmp_path / "e").iterdir())
    wanted = estimator.evaluate(dataset)
    made = estimator.experimental_export_all_saved_models(
        str(tmp_path / "e"), {modes.EVAL: supervised, modes.PREDICT: receiver}
    ).decode()
    asked = np.array([1, 2, 500])
    answers = scores(estimator, asked)
    mx.terminate_config_initializer()
    with tf.Graph().as_default(), v1.Session() as session:
        graph = v1.saved_model.load(session, ["eval"], made)
        (signature,) = graph.signature_def.values()
        given, metrics = signature.inputs, signature.outputs
        for start_at in range(0, 40, 8):
            ids = np.arange(start_at, start_at + 8)
            feed = {given["ids"].name: ids, given["labels"].name: ids % 2}
            session.run(metrics["metrics/error/update_op"].name, feed)
        error = session.run(metrics["metrics/error/value"].name)
    np.testing.assert_allclose(error, wanted["error"], rtol=1e-6)
    with tf.Graph().as_default(), v1.Session() as session:
        graph = v1.saved_model.load(session, ["serve"], made)
        (signature,) = graph.signature_def.values()
        output = signature.outputs["score"].name
        same(session.run(output, {signature.inputs["ids"].name: asked}), answers)


@pytest.mark.parametrize("where", PLACES)
def test_simple_save(start, tmp_path, monkeypatch, where):
    """Also TensorFlow's own lookup tables, whose files become assets."""
    start()
    place(monkeypatch, where)
    words = tmp_path / "words.txt"
    words.write_text("a\nb\nc\n")
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        text = v1.placeholder(tf.string, [None], "text")
        numbers = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                str(words),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            2,
        ).lookup(text)
        rows = mx.sparse_lookup(table, numbers)
        scale = v1.get_variable("scale", initializer=2.0, use_resource=False)
        scaled = tf.multiply(rows, scale, name="scaled")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        asked = np.array([b"b", b"zzz", b"c"])
        wanted = session.run(scaled, {text: asked})
        v1.saved_model.simple_save(
            session,
            str(tmp_path / "m"),
            {"text": text},
            {"rows": scaled},
            legacy_init_op=v1.tables_initializer(),
        )
    words.unlink()
    same(predict(tmp_path / "m", text=asked)["rows"], wanted)


def test_two_graphs_of_one_model(start, tmp_path, monkeypatch):
    """They share the directories of tables, and the file that lists them."""
    start()
    place(monkeypatch, "directory")
    builder = v1.saved_model.Builder(str(tmp_path / "m"))
    asked = np.array([1, 2, 3])
    wanted = {}
    for tag, names in (("a", ["user"]), ("b", ["user", "item"])):
        with tf.Graph().as_default(), v1.Session() as session:
            ids = v1.placeholder(tf.int64, [None], "ids")
            rows = {name: mx.sparse_lookup(make(name), ids) for name in names}
            signature = v1.saved_model.predict_signature_def({"ids": ids}, rows)
            session.run(v1.global_variables_initializer())
            wanted[tag] = session.run(rows, {ids: asked})
            if tag == "a":
                builder.add_meta_graph_and_variables(session, [tag], {"s": signature})
            else:
                builder.add_meta_graph([tag], {"s": signature})
    builder.save()
    marker = json.loads((tmp_path / "m" / "assets" / freezer.MARKER_NAME).read_text())
    assert sorted(marker["tables"]) == ["item", "user"]
    mx.terminate_config_initializer()
    for tag, rows in wanted.items():
        with tf.Graph().as_default(), v1.Session() as session:
            graph = v1.saved_model.load(session, [tag], str(tmp_path / "m"))
            outputs = graph.signature_def["s"].outputs
            for name, values in rows.items():
                same(session.run(outputs[name].name, {"ids:0": asked}), values)


def test_what_is_refused_leaves_nothing(start, tmp_path, monkeypatch):
    start()
    place(monkeypatch, "directory")
    path = tmp_path / "m"
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = v1.placeholder(tf.int64, [None])
        rows = mx.sparse_lookup(table, ids)
        (gradient,) = tf.gradients(tf.reduce_sum(rows), table.nodes().proxy)
        session.run(v1.global_variables_initializer())
        session.run(rows, {ids: [1, 2]})

        def signatures(**outputs: Any) -> Any:
            made = v1.saved_model.predict_signature_def({"ids": ids}, outputs)
            return {"serving_default": made}

        wrong = [
            (["serve"], None, "signature_def_map must be given .*'user'.*predict_signature_def"),
            (["train"], signatures(r=rows), r"tags=\['train'\].*cannot train the tables"),
            (["serve"], signatures(r=rows, g=gradient.values), "cannot be frozen"),
        ]
        for tags, map_, text in wrong:
            builder = v1.saved_model.Builder(str(path))
            with pytest.raises(ValueError, match=text):
                builder.add_meta_graph_and_variables(session, tags, map_)
            assert not list(tmp_path.iterdir())
        given = signatures(r=rows)
        before = given["serving_default"].SerializeToString()
        builder.add_meta_graph_and_variables(session, ["serve"], given)  # the same one again
        builder.save()
        assert given["serving_default"].SerializeToString() == before
        wanted = session.run(rows, {ids: [1, 2]})
    same(predict(path, ids=np.array([1, 2]))["r"], wanted)


def test_graphs_without_tables_are_tensorflows_own(start, tmp_path):
    start()
    make("elsewhere")
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("w", initializer=3.0, use_resource=False)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.save()
        ops = {op.name for op in session.graph.get_operations()}
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, ["train"], str(tmp_path / "m"))
        assert {op.name for op in session.graph.get_operations()} >= ops
        assert session.run(variable.name) == 3.0
