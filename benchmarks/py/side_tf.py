"""Stock TensorFlow with a static variable: no keys, no growth, the row numbers are given."""

from __future__ import annotations

from functools import partial

import tensorflow as tf
import timing
import workload
from worker import Cases, Figures
from workload import Config


def version() -> str:
    return f"TensorFlow {tf.__version__}"


def table_cases(config: Config) -> Cases:
    variable = tf.Variable(tf.random.normal([config.rows, config.dim]))
    gather = tf.function(lambda rows: tf.nn.embedding_lookup(variable, rows))

    def lookup(distribution: str) -> Figures:
        ranks = workload.lookup_ranks(config, distribution)
        batches = [tf.constant(workload.static_rows_of(r, config.rows)) for r in ranks]
        return timing.throughput(gather, batches, config.batch)

    return {
        "lookup zipf": partial(lookup, "zipf"),
        "lookup uniform": partial(lookup, "uniform"),
    }


def step_cases(config: Config) -> Cases:
    import tower
    from tower import tf1

    ranks = workload.step_ranks(config)
    feeds = [workload.static_rows_of(r, config.step_rows) for r in ranks]

    def run(optimizer: partial) -> Figures:
        with tf1.Graph().as_default():
            ids, labels = tower.placeholders(config)
            variable = tf1.get_variable(
                "table",
                [config.step_rows, config.step_dim],
                initializer=tf1.random_normal_initializer(stddev=0.01),
                use_resource=True,
            )
            loss = tower.loss(config, tf.nn.embedding_lookup(variable, ids), labels)
            return tower.measure(config, ids, labels, optimizer().minimize(loss), feeds)

    return {
        "step adagrad": partial(run, partial(tf1.train.AdagradOptimizer, 1e-2)),
        "step adam": partial(run, partial(tf1.train.AdamOptimizer, 1e-3)),
    }
