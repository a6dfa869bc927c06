"""TFRA's dynamic embedding. Training in a Session fails on TF 2.16: its step is a tf.function."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tensorflow_recommenders_addons as tfra
import tf_keras

from mxrec.bench import timing, workload
from mxrec.bench.timing import Cases, Measurement
from mxrec.bench.workload import Config

tf.get_logger().setLevel("ERROR")
dynamic = tfra.dynamic_embedding
_numbers = itertools.count()


def version() -> str:
    """Name and version of the side."""
    return f"TFRA {tfra.__version__} (TensorFlow {tf.__version__})"


def _new_table(config: Config) -> Any:
    return dynamic.get_variable(
        f"bench{next(_numbers)}",
        key_dtype=tf.int64,
        value_dtype=tf.float32,
        dim=config.dim,
        init_size=8192,
    )


def table_cases(config: Config) -> Cases:
    """Lookups in a ``tf.function``, and inserts."""
    values = tf.random.normal([config.batch, config.dim])

    def batches() -> list[tuple[tuple[Any, Any], int]]:
        keys = workload.all_keys(config)
        return [((tf.constant(k), values[: len(k)]), len(k)) for k in keys]

    table = _new_table(config)
    for pair, _ in batches():
        table.upsert(*pair)
    find = tf.function(lambda keys: table.lookup(keys))

    def lookup(law: str) -> Measurement:
        ranks = workload.lookup_ranks(config, law)
        prepared = [tf.constant(workload.keys_of(r)) for r in ranks]
        return timing.throughput(config, find, prepared, config.batch)

    def grow() -> Measurement:
        fresh = _new_table(config)
        measured = timing.growth(config, lambda pair: fresh.upsert(*pair), batches())
        if int(fresh.size()) != config.rows:
            raise RuntimeError(f"{int(fresh.size())} rows after inserting {config.rows} keys")
        fresh.clear()
        return measured

    cases: Cases = {f"lookup {law}": partial(lookup, law) for law in workload.LAWS}
    cases["insert"] = grow
    return cases


def session_cases(config: Config) -> Cases:
    """Lookups in a Session."""
    from mxrec.bench import tower
    from mxrec.bench.tower import tf1

    with tf1.Graph().as_default():
        ids = tf1.placeholder(tf.int64, [None], "ids")
        table = _new_table(config)
        values = tf1.random_normal([tf.size(ids), config.dim], stddev=0.01)
        insert, embeddings = table.upsert(ids, values), table.lookup(ids)
        session = tf1.Session()
        session.run(tf1.global_variables_initializer())
        for keys in workload.all_keys(config):
            session.run(insert, {ids: keys})

    def lookup(law: str) -> Measurement:
        batches = [workload.keys_of(r) for r in workload.lookup_ranks(config, law)]
        return tower.measure_lookups(config, session, ids, embeddings, batches)

    return {f"session lookup {law}": partial(lookup, law) for law in workload.SESSION_LAWS}


def step_cases(config: Config) -> Cases:
    """The training step in a ``tf.function``."""
    feeds = [tf.constant(workload.keys_of(r)) for r in workload.step_ranks(config)]
    labels = tf.constant(workload.step_labels(config))
    width = config.slots * config.step_dim

    def run(optimizer: Callable[[], Any]) -> Measurement:
        embedding = dynamic.keras.layers.Embedding(
            embedding_size=config.step_dim,
            key_dtype=tf.int64,
            value_dtype=tf.float32,
            initializer=tf_keras.initializers.RandomNormal(stddev=0.01),
            init_capacity=8192,
            name=f"step{next(_numbers)}",
        )
        hidden = tf.Variable(tf.random.normal([width, 16], stddev=0.05))
        output = tf.Variable(tf.random.normal([16, 1]))
        update = dynamic.DynamicEmbeddingOptimizer(optimizer())

        @tf.function  # type: ignore[untyped-decorator]
        def step(ids: Any) -> Any:
            with tf.GradientTape() as tape:
                flat = tf.reshape(embedding(ids), [-1, width])
                logits = tf.nn.relu(flat @ hidden) @ output
                losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
                loss = tf.reduce_mean(losses)
            variables = [*embedding.trainable_variables, hidden, output]
            update.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        return timing.steps(step, feeds, config.warmup_steps)

    legacy = tf_keras.optimizers.legacy
    return {
        "step adagrad": partial(run, partial(legacy.Adagrad, 1e-2)),
        "step adam": partial(run, partial(legacy.Adam, 1e-3)),
    }
