"""Exported graphs of TensorFlow 1: Sessions and Estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf.estimator import NPUEstimator

v1 = tf.compat.v1
opt = mx.optimizers
MODES = ["in_graph", "directory"]
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


def make(name: str, dim: int = 4) -> Any:
    initializer = v1.random_normal_initializer(seed=3)
    return mx.create_table(tf.int64, dim, name, initializer, 1000)


def predict(path: str, **inputs: Any) -> dict[str, Any]:
    """Loads a model when the tables that it was made of are gone, and predicts."""
    mx.terminate_config_initializer()
    loaded = tf.saved_model.load(path).signatures["serving_default"]
    return {name: value.numpy() for name, value in loaded(**inputs).items()}


def same(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("expansion", [False, True])
def test_training_graphs_are_exported_as_they_predict(start, rng, tmp_path, mode, expansion):
    """Lookups that train become lookups that read; so do merged ones."""
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        user, item = make("user"), make("item")
        ids = v1.placeholder(tf.int64, [None, 3])
        bag = v1.sparse_placeholder(tf.int64, [None, None])
        weights = v1.sparse_placeholder(tf.float32, [None, None])
        rows = [
            tf.reshape(mx.sparse_lookup(user, ids, serving_default_value=0.5), [-1, 12]),
            mx.sparse_lookup(user, ids[:, 1]),
            mx.sparse_lookup(item, bag, combiner="mean"),
            mx.sparse_lookup(item, bag, sp_weights=weights, combiner="sqrtn"),
        ]
        if not expansion:
            mx.do_merge_lookup(True)
        kernel = v1.get_variable("w", initializer=np.linspace(-1, 1, 24, dtype="f")[:, None])
        score = tf.matmul(tf.concat(rows, axis=1), kernel)
        loss = tf.reduce_mean(tf.square(score - 1.0))
        train = tf.group(
            opt.adagrad.create_hash_optimizer(0.1).minimize(loss),
            v1.train.GradientDescentOptimizer(0.1).minimize(loss),
        )
        session.run(v1.global_variables_initializer())

        def feed(low: int, high: int) -> dict[Any, Any]:
            lengths = rng.integers(0, 4, 8)
            values = rng.integers(low, high, lengths.sum())
            places = [(i, j) for i, n in enumerate(lengths) for j in range(n)]
            indices = np.array(places, np.int64).reshape(-1, 2)
            shape = (8, max(int(lengths.max()), 1))
            return {
                ids: rng.integers(low, high, (8, 3)),
                bag: v1.SparseTensorValue(indices, values, shape),
                weights: v1.SparseTensorValue(
                    indices, rng.normal(size=len(values)).astype("f"), shape
                ),
            }

        for _ in range(3):
            session.run(train, feed(0, 30))
        path = mx.export_saved_model(
            session,
            tmp_path / "m",
            inputs={"ids": ids, "bag": bag, "weights": weights},
            outputs={"score": score, "loss": loss},
            tables=mode,
        )
        asked = feed(0, 30)
        # Keys that are there: training lookups would insert others, now.
        known = np.intersect1d(*(each.engine.scan((0, 0), 100)[1] for each in (user, item)))
        asked[ids] = rng.choice(known, (8, 3))
        values = rng.choice(known, len(asked[bag].values))
        asked[bag] = v1.SparseTensorValue(asked[bag].indices, values, asked[bag].dense_shape)
        wanted_score, wanted_loss = session.run([score, loss], asked)
    given = {"ids": asked[ids]}
    for name, placeholder in (("bag", bag), ("weights", weights)):
        value = asked[placeholder]
        given[f"{name}_indices"] = value.indices
        given[f"{name}_values"] = value.values
        given[f"{name}_dense_shape"] = np.array(value.dense_shape, np.int64)
    found = predict(path, **{name: tf.constant(value) for name, value in given.items()})
    same(found["score"], wanted_score)
    same(found["loss"], wanted_loss)


@pytest.mark.parametrize("mode", MODES)
def test_iterators_are_cut_off(start, tmp_path, mode):
    """A model that is fed by a dataset is served with tensors."""
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make("t")
        dataset = tf.data.Dataset.range(8).batch(4).map(lambda k: {"ids": k, "y": k + 1})
        batch = v1.data.make_one_shot_iterator(dataset).get_next()
        train = mx.sparse_lookup(table, batch["ids"])
        read = mx.sparse_lookup(table, batch["ids"], is_train=False, serving_default_value=7.0)
        words = tf.lookup.KeyValueTensorInitializer(
            tf.constant([0, 1, 9], tf.int64), tf.constant(["a", "b", "c"])
        )
        names = tf.lookup.StaticHashTable(words, "?").lookup(batch["ids"])
        session.run(v1.tables_initializer())
        session.run(train)
        path = mx.export_saved_model(
            session,
            tmp_path / "m",
            inputs={"keys": batch["ids"], "unused": batch["y"]},
            outputs={"rows": read, "names": names, "keys": batch["ids"]},
            tables=mode,
        )
        rows = table.engine.lookup(np.array([1, 9]), train=False)
    keys = tf.constant([1, 9], tf.int64)
    found = predict(path, keys=keys, unused=keys)
    rows[1] = 7.0
    same(found["rows"], rows)
    assert found["names"].tolist() == [b"b", b"c"]
    assert found["keys"].tolist() == [1, 9]


def test_what_cannot_be_frozen_is_refused(start, tmp_path):
    start()
    path = tmp_path / "m"
    with tf.Graph().as_default(), v1.Session() as session:
        table = make("t")
        ids = v1.placeholder(tf.int64, [None])
        rows = mx.sparse_lookup(table, ids)
        (gradient,) = tf.gradients(tf.reduce_sum(rows), table.nodes().proxy)
        inside = tf.function(lambda x: mx.sparse_lookup(table, x, is_train=False))(ids)
        for outputs in ({"g": gradient.values}, {"inside": inside}):
            with pytest.raises(ValueError, match="cannot be frozen"):
                mx.export_saved_model(session, path, inputs={"ids": ids}, outputs=outputs)
        for kwargs, error, text in [
            ({"inputs": {"ids": ids}}, ValueError, "outputs must be given"),
            ({"inputs": {}, "outputs": {"r": rows}}, TypeError, "inputs must be a dict"),
            ({"inputs": {"ids": 5}, "outputs": {"r": rows}}, TypeError, r"inputs\['ids'\]"),
        ]:
            with pytest.raises(error, match=text):
                mx.export_saved_model(session, path, **kwargs)
    assert not list(tmp_path.iterdir())


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    table = make("user")
    training = mode == tf.estimator.ModeKeys.TRAIN
    rows = mx.sparse_lookup(
        table, features["ids"], is_train=training, serving_default_value=[1.0, 2, 3, 4]
    )
    score = v1.layers.dense(rows, 1, name="dense")[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"score": score})
    loss = tf.reduce_mean(tf.square(score - tf.cast(labels, tf.float32)))
    step = v1.train.get_or_create_global_step()
    train = tf.group(
        v1.train.GradientDescentOptimizer(0.1).minimize(loss, step),
        opt.adagrad.create_hash_optimizer(0.1).minimize(loss),
    )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)


def input_fn() -> Any:
    ids = tf.data.Dataset.range(40).batch(8)
    return ids.map(lambda k: ({"ids": k}, k % 2))


def receiver() -> Any:
    ids = v1.placeholder(tf.int64, [None], "asked")
    return tf.estimator.export.ServingInputReceiver({"ids": ids}, {"ids": ids})


@needs_estimator
@pytest.mark.parametrize("by", ["function", "method"])
def test_estimators(start, tmp_path, by):
    start()
    estimator = (tf.estimator.Estimator if by == "function" else NPUEstimator)(
        model_fn, str(tmp_path / "model")
    )
    with pytest.raises(ValueError, match="no checkpoint"):
        mx.export_saved_model(estimator, tmp_path / "e", serving_input_receiver_fn=receiver)
    estimator.train(input_fn)
    asked = np.array([3, 39, 1000])
    features = lambda: tf.data.Dataset.from_tensors({"ids": asked})  # noqa: E731
    wanted = np.array([each["score"] for each in estimator.predict(features)], np.float32)
    if by == "function":
        path = mx.export_saved_model(
            estimator,
            tmp_path / "e",
            serving_input_receiver_fn=receiver,
            tables="directory",
        )
    else:
        path = estimator.export_saved_model(str(tmp_path / "e"), receiver).decode()
    assert Path(path).parent == tmp_path / "e" and Path(path).name.isdigit()
    assert len(list((tmp_path / "e").iterdir())) == 1
    same(predict(path, ids=tf.constant(asked))["score"], wanted)
