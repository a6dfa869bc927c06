"""TensorFlow 1 graphs that several sides share: the training step's model, and a fed lookup."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.bench import timing, workload
from mxrec.bench.workload import Config

tf1 = tf.compat.v1
tf1.disable_v2_behavior()


def placeholders(config: Config) -> tuple[Any, Any]:
    """Ids [batch, slots] and labels [batch, 1] of a step."""
    ids = tf1.placeholder(tf.int64, [None, config.slots], "ids")
    return ids, tf1.placeholder(tf.float32, [None, 1], "labels")


def loss(config: Config, embeddings: Any, labels: Any) -> Any:
    """Mean log loss of embeddings [batch, slots, dim]: one hidden layer, one logit."""
    width = config.slots * config.step_dim
    hidden = tf1.get_variable("hidden", [width, 16])
    output = tf1.get_variable("output", [16, 1])
    logits = tf.nn.relu(tf.reshape(embeddings, [-1, width]) @ hidden) @ output
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def measure_steps(
    config: Config, ids: Any, labels: Any, train: Any, feeds: list[workload.Keys]
) -> timing.Measurement:
    """Steps per second of ``train`` in a fresh Session on the current graph."""
    target = workload.step_labels(config)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        return timing.steps(
            lambda feed: session.run(train, {ids: feed, labels: target}), feeds, config.warmup_steps
        )


def measure_lookups(
    config: Config, session: Any, ids: Any, embeddings: Any, batches: list[workload.Keys]
) -> timing.Measurement:
    """Million keys per second of a lookup of fed ids in a Session.

    The op is run and its result stays in TensorFlow; aligned ids are fed without a copy. What is
    left besides the op is what every ``Session.run`` costs.
    """
    run = session.make_callable(embeddings.op, feed_list=[ids])
    fed = [workload.aligned(batch) for batch in batches]
    return timing.throughput(config, run, fed, config.batch)
