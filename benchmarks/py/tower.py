"""The training step's model in a TensorFlow 1 graph: 26 slots, one hidden layer, one logit."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import timing
import workload
from workload import Config

tf1 = tf.compat.v1
tf1.disable_v2_behavior()


def placeholders(config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    ids = tf1.placeholder(tf.int64, [None, config.slots], "ids")
    return ids, tf1.placeholder(tf.float32, [None, 1], "labels")


def loss(config: Config, embeddings: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean log loss of embeddings [batch, slots, dim]."""
    width = config.slots * config.step_dim
    hidden = tf1.get_variable("hidden", [width, 16])
    output = tf1.get_variable("output", [16, 1])
    logits = tf.nn.relu(tf.reshape(embeddings, [-1, width]) @ hidden) @ output
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def measure(
    config: Config, ids: tf.Tensor, labels: tf.Tensor, train: Any, feeds: list[workload.Keys]
) -> dict[str, float]:
    """Steps per second of `train` in a fresh Session on the current graph."""
    target = workload.step_labels(config)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        return timing.steps(
            lambda feed: session.run(train, {ids: feed, labels: target}), feeds, config.warmup_steps
        )
