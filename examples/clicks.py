"""Synthetic clicks and a small model, for the sample programs beside this file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorflow as tf

from mx_rec.optimizers.adagrad import create_hash_optimizer
from mx_rec.util.variable import get_dense_and_sparse_variable

BATCH, STEPS = 64, 50
USERS, ITEMS = 400, 150
DIM = 8


def columns(steps: int = STEPS, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns steps x 64 impressions; whether one is clicked depends on its user and its items.

    ``user_ids`` and ``item_ids`` are int64 [n, 1] and [n, 3], ``label`` is float32 [n], and
    ``timestamp`` int64 [n]: ten seconds for each batch.
    """
    rng = np.random.default_rng(seed)
    rows = steps * BATCH
    users = rng.zipf(1.2, (rows, 1)) % USERS * 2**33  # ids may be any int64
    items = rng.zipf(1.2, (rows, 3)) % ITEMS
    taste = np.sin(users[:, 0] % 101) + np.cos(items).sum(axis=1)
    return {
        "user_ids": users,
        "item_ids": items,
        "label": (taste > 0).astype(np.float32),
        "timestamp": 1_700_000_000 + np.arange(rows) // BATCH * 10,
    }


def distinct(*ids: np.ndarray) -> int:
    """Counts the keys that a table has when it has seen these ids."""
    return len(np.unique(np.concatenate([each.reshape(-1) for each in ids])))


def dataset(data: dict[str, np.ndarray]) -> Any:
    """Returns batches of dicts."""
    return tf.data.Dataset.from_tensor_slices(data).batch(BATCH)


def initializer() -> Any:
    """Returns the initializer of the tables: the same rows in every program."""
    return tf.compat.v1.truncated_normal_initializer(stddev=0.05, seed=7)


def logits_of(*embeddings: Any) -> Any:
    """Returns the log odds, [batch], of embeddings [batch, ids, 8]."""
    with tf.compat.v1.variable_scope("tower", reuse=tf.compat.v1.AUTO_REUSE):
        pooled = tf.concat([tf.reduce_sum(each, axis=1) for each in embeddings], axis=1)
        kernel = tf.compat.v1.get_variable(
            "kernel",
            [len(embeddings) * DIM, 1],
            initializer=tf.compat.v1.random_normal_initializer(stddev=0.5, seed=3),
        )
        bias = tf.compat.v1.get_variable("bias", [1], initializer=tf.zeros_initializer())
        return tf.squeeze(tf.matmul(pooled, kernel) + bias, axis=1)


def loss_of(labels: Any, logits: Any) -> Any:
    """Returns the mean cross entropy."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def train_op(loss: Any, learning_rate: float = 0.1) -> Any:
    """Returns the op of a step: a dense optimizer for the tower, a sparse one for the tables."""
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    dense = tf.compat.v1.train.AdagradOptimizer(learning_rate)
    sparse = create_hash_optimizer(learning_rate, initial_accumulator_value=0.1)
    return tf.group(
        dense.minimize(
            loss,
            global_step=tf.compat.v1.train.get_or_create_global_step(),
            var_list=dense_variables,
        ),
        sparse.apply_gradients(
            zip(tf.gradients(loss, sparse_variables), sparse_variables, strict=True)
        ),
    )


def train(session: Any, step: Any, loss: Any) -> list[float]:
    """Runs steps until the data ends, and returns their losses."""
    losses = []
    while True:
        try:
            losses.append(float(session.run([step, loss])[1]))
        except tf.errors.OutOfRangeError:
            return losses


def report(**values: Any) -> None:
    """Prints the results of a program as one line of JSON."""
    print(json.dumps(values))
