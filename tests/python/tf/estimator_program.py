"""A small click model for the Estimator tests, also run as a process of its own.

Usage: estimator_program.py MODEL_DIR: restores the newest checkpoint and prints its evaluation.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.optimizers.adagrad import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from tf_adapter import NPUEstimator, NPURunConfig

DIM = 8
BATCH = 64
KEYS = 200


def input_fn(first_batch: int, batches: int) -> Any:
    """Batches of keys whose click depends on the key alone."""

    def make_dataset() -> Any:
        rng = np.random.default_rng(first_batch)
        ids = rng.integers(0, KEYS, size=(batches * BATCH, 2))
        clicks = (ids.sum(axis=1) % 7 < 3).astype(np.float32)
        return tf.data.Dataset.from_tensor_slices(({"ids": ids}, clicks)).batch(BATCH)

    return make_dataset


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    """Sums two embeddings and a bias."""
    training = mode == tf.estimator.ModeKeys.TRAIN
    table = create_table(
        key_dtype=tf.int64,
        dim=DIM,
        name="clicks",
        emb_initializer=tf.compat.v1.random_normal_initializer(stddev=0.05, seed=3),
    )
    rows = sparse_lookup(table, features["ids"], is_train=training)
    bias = tf.compat.v1.get_variable("bias", [], initializer=tf.zeros_initializer)
    logits = tf.reduce_sum(rows, axis=[1, 2]) + bias
    predictions = {"probability": tf.sigmoid(logits)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    if not training:
        return tf.estimator.EstimatorSpec(mode, loss=loss, predictions=predictions)
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    sparse = create_hash_optimizer(learning_rate=params["learning_rate"])
    dense = tf.compat.v1.train.AdagradOptimizer(params["learning_rate"])
    train_op = tf.group(
        sparse.apply_gradients(
            zip(tf.gradients(loss, sparse_variables), sparse_variables, strict=True)
        ),
        dense.minimize(
            loss,
            var_list=dense_variables,
            global_step=tf.compat.v1.train.get_or_create_global_step(),
        ),
    )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def estimator(model_dir: str, warm_start_from: Any = None, **options: Any) -> Any:
    """The model's NPUEstimator."""
    return NPUEstimator(
        model_fn=model_fn,
        model_dir=model_dir,
        config=NPURunConfig(tf_random_seed=1, **options),
        params={"learning_rate": 0.1},
        warm_start_from=warm_start_from,
    )


def start() -> None:
    """Starts the library, whatever ran before."""
    terminate_config_initializer()
    init(use_dynamic_expansion=True)


if __name__ == "__main__":
    start()
    metrics = estimator(sys.argv[1]).evaluate(input_fn(1000, 5))
    print(json.dumps({name: value.item() for name, value in metrics.items()}))
