"""Stock TensorFlow with a static variable: no keys, no growth, the row numbers are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from mxrec.bench import timing, workload
from mxrec.bench.timing import Cases, Measurement
from mxrec.bench.workload import Config


def version() -> str:
    """Name and version of the side."""
    return f"TensorFlow {tf.__version__}"


def _rows(config: Config, law: str) -> list[workload.Keys]:
    ranks = workload.lookup_ranks(config, law)
    return [workload.static_rows_of(r, config.rows) for r in ranks]


def table_cases(config: Config) -> Cases:
    """Gathers from a static variable in a ``tf.function``."""
    variable = tf.Variable(tf.random.normal([config.rows, config.dim]))
    gather = tf.function(lambda rows: tf.nn.embedding_lookup(variable, rows))

    def lookup(law: str) -> Measurement:
        batches = [tf.constant(rows) for rows in _rows(config, law)]
        return timing.throughput(config, gather, batches, config.batch)

    return {f"lookup {law}": partial(lookup, law) for law in workload.LAWS}


def session_cases(config: Config) -> Cases:
    """The same gathers in a Session."""
    from mxrec.bench import tower
    from mxrec.bench.tower import tf1

    with tf1.Graph().as_default():
        ids = tf1.placeholder(tf.int64, [None], "ids")
        variable = tf1.get_variable(
            "table",
            [config.rows, config.dim],
            initializer=tf1.random_normal_initializer(stddev=0.01),
            use_resource=True,
        )
        embeddings = tf.nn.embedding_lookup(variable, ids)
        session = tf1.Session()
        session.run(tf1.global_variables_initializer())

    def lookup(law: str) -> Measurement:
        return tower.measure_lookups(config, session, ids, embeddings, _rows(config, law))

    return {f"session lookup {law}": partial(lookup, law) for law in workload.SESSION_LAWS}


def step_cases(config: Config) -> Cases:
    """The training step on a static variable in a Session."""
    from mxrec.bench import tower
    from mxrec.bench.tower import tf1

    ranks = workload.step_ranks(config)
    feeds = [workload.static_rows_of(r, config.step_rows) for r in ranks]

    def run(optimizer: Callable[[], Any]) -> Measurement:
        with tf1.Graph().as_default():
            ids, labels = tower.placeholders(config)
            variable = tf1.get_variable(
                "table",
                [config.step_rows, config.step_dim],
                initializer=tf1.random_normal_initializer(stddev=0.01),
                use_resource=True,
            )
            loss = tower.loss(config, tf.nn.embedding_lookup(variable, ids), labels)
            return tower.measure_steps(config, ids, labels, optimizer().minimize(loss), feeds)

    return {
        "step adagrad": partial(run, partial(tf1.train.AdagradOptimizer, 1e-2)),
        "step adam": partial(run, partial(tf1.train.AdamOptimizer, 1e-3)),
    }
