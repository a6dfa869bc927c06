"""Estimators whose graphs are rewritten train, evaluate and predict as those of others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import BATCH, dataset, elements, lookup, loss_of, train_op_of, warnings_of

import mxrec.tf as mx
from mx_rec.core.embedding import create_table
from mx_rec.graph import GraphModifierHook
from tf_adapter import NPUEstimator, NPURunConfig

v1 = tf.compat.v1
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


def as_dataset(steps: int, seed: int) -> Any:
    def input_fn() -> Any:
        return dataset(steps, seed).map(lambda d: (d, d["label"]))

    return input_fn


def as_one_shot(steps: int, seed: int) -> Any:
    def input_fn() -> Any:
        data = dataset(steps, seed).map(lambda d: (d, d["label"]))
        return v1.data.make_one_shot_iterator(data).get_next()

    return input_fn


def as_initializable(steps: int, seed: int) -> Any:
    def input_fn() -> Any:
        data = dataset(steps, seed).map(lambda d: (d, d["label"]))
        iterator = v1.data.make_initializable_iterator(data)
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        return iterator.get_next()

    return input_fn


INPUTS = [as_dataset, as_one_shot, as_initializable]


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    training = mode == tf.estimator.ModeKeys.TRAIN
    access = {"access_threshold": params["threshold"]}
    rows = []
    for name, ids in (
        ("words", tf.strings.to_hash_bucket_fast(features["word"], 300)),
        ("items", features["id"]),
        ("numbers", tf.strings.to_number(features["number"], tf.int64) % 77),
    ):
        table = create_table(
            tf.int64, 4, name, v1.random_normal_initializer(seed=2), device_vocabulary_size=10_000
        )
        rows.append(lookup(table, ids, is_train=training, access_and_evict_config=access))
    loss = loss_of(rows, features["label"])
    # Raw features too: their iterator is another one after rewriting.
    predictions = {"sum": tf.reduce_sum(rows[0], 1), "price": features["price"]}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    if not training:
        metrics = {"price": v1.metrics.mean(features["price"])}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    step = v1.assign_add(v1.train.get_or_create_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op_of(loss), step))


def estimator(folder: Path, threshold: int = -1, **options: Any) -> Any:
    return NPUEstimator(
        model_fn=model_fn,
        model_dir=str(folder),
        config=NPURunConfig(tf_random_seed=1, **options),
        params={"threshold": threshold},
    )


def hooks(rewritten: bool) -> list[Any]:
    return [GraphModifierHook(dump_graph=False, modify_graph=rewritten)]


@needs_estimator
@pytest.mark.parametrize("threshold", [-1, 3])
@pytest.mark.parametrize("inputs", INPUTS)
def test_train_evaluate_predict(tmp_path: Path, start: Any, inputs: Any, threshold: int) -> None:
    results = []
    for rewritten in (False, True):
        start()
        model = estimator(tmp_path / str(rewritten), threshold)
        with warnings_of() as warnings:
            seen = []
            for part in range(2):
                model.train(inputs(15, part), hooks=hooks(rewritten))
                seen.append(model.evaluate(inputs(4, 9), hooks=hooks(rewritten)))
            predicted = list(model.predict(inputs(3, 8), hooks=hooks(rewritten)))
        assert not [w for w in warnings if "rewriting" in w]
        prices = np.array([each["price"] for each in predicted])
        np.testing.assert_array_equal(prices, elements(3, 8)["price"])
        sizes = {t.table_name: t.size() for t in mx.registered_tables()}
        results.append((seen, [each["sum"] for each in predicted], sizes))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2] and min(results[0][2].values()) > 0


@needs_estimator
@pytest.mark.parametrize("inputs", INPUTS)
def test_train_and_evaluate(tmp_path: Path, start: Any, inputs: Any) -> None:
    losses: dict[bool, list[float]] = {}
    for rewritten in (False, True):
        start()
        here = losses.setdefault(rewritten, [])
        model = estimator(tmp_path / str(rewritten), save_checkpoints_steps=4)

        class KeepStep(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
            kept = here

            def end(self, session: Any) -> None:
                self.kept.append(int(session.run(v1.train.get_global_step())))

        tf.estimator.train_and_evaluate(
            model,
            tf.estimator.TrainSpec(inputs(40, 0), max_steps=40, hooks=hooks(rewritten)),
            tf.estimator.EvalSpec(
                inputs(3, 1),
                throttle_secs=0,
                start_delay_secs=0,
                hooks=[*hooks(rewritten), KeepStep()],
            ),
        )
        here.append(model.evaluate(inputs(3, 1), hooks=hooks(rewritten))["loss"])
    assert losses[True][:-1] == list(range(4, 44, 4))
    assert losses[False] == losses[True]


@needs_estimator
def test_one_hook_for_all(tmp_path: Path, start: Any) -> None:
    start()
    model = estimator(tmp_path)
    hook = GraphModifierHook()
    for part in range(3):
        model.train(as_dataset(3, part), hooks=[hook])
        model.evaluate(as_dataset(2, 9), hooks=[hook])
    assert len(list(model.predict(as_dataset(2, 9), hooks=[hook]))) == 2 * BATCH
