"""An Estimator whose table forgets keys, for the tests of hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from admission_runs import make, train_op

import mxrec.tf as mx
from mxrec.tf.estimator import NPUEstimator, NPURunConfig

v1 = tf.compat.v1
BATCH = 4


def input_fn(first: int, batches: int, seconds: int = 10) -> Any:
    """Batches of 4 new keys each; batch b is of second b * seconds and holds 4 b ... 4 b + 3."""

    def make_dataset() -> Any:
        numbers = np.arange(first * BATCH, (first + batches) * BATCH)
        elements = {"ids": numbers, "time": numbers // BATCH * seconds}
        return tf.data.Dataset.from_tensor_slices(elements).batch(BATCH)

    return make_dataset


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    del labels
    training = mode == tf.estimator.ModeKeys.TRAIN
    table = make(**params.get("table", {}))
    mx.FeatureSpec("time", is_timestamp=True)
    spec = mx.FeatureSpec("ids", "t", **params.get("access", {}))
    rows = mx.sparse_lookup(table, spec, batch=features, is_train=training)
    loss = tf.reduce_mean(rows)
    if not training:
        metrics = {"present": v1.metrics.mean(tf.cast(tf.not_equal(rows[:, 0], 0), tf.float32))}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    step = v1.train.get_or_create_global_step()
    # The run that finds no batch any more is no step.
    with tf.control_dependencies([train_op(loss)]):
        train = v1.assign_add(step, 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)


def estimator(model_dir: Any, access: Any, table: Any = None, **options: Any) -> Any:
    return NPUEstimator(
        model_fn=model_fn,
        model_dir=str(model_dir),
        config=NPURunConfig(tf_random_seed=1, **options),
        params={"access": access, "table": table or {}},
    )
