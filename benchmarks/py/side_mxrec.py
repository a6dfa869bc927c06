"""mxrec: the engine through `mxrec.Table`, the training step through the TensorFlow level."""

from __future__ import annotations

from functools import partial

import numpy as np
import timing
import workload
from worker import Cases, Figures
from workload import Config

import mxrec


def version() -> str:
    return f"mxrec {mxrec.__version__}"


def _new_table(config: Config) -> mxrec.Table:
    return mxrec.Table("bench", config.dim, initializer=mxrec.Normal(0.0, 0.01))


def table_cases(config: Config) -> Cases:
    """Lookups that change nothing, and growth by assigned and by initialised rows."""
    table = _new_table(config)
    out = np.empty((config.batch, config.dim), np.float32)
    values = np.random.default_rng(3).standard_normal(out.shape, np.float32)
    for keys in workload.all_keys(config):
        table.assign(keys, values[: len(keys)])

    def lookup(distribution: str) -> Figures:
        ranks = workload.lookup_ranks(config, distribution)
        batches = [workload.keys_of(r) for r in ranks]
        return timing.throughput(
            lambda keys: table.lookup_into(keys, out, train=False), batches, config.batch
        )

    def grow(by_lookup: bool) -> Figures:
        batches = [(keys, len(keys)) for keys in workload.all_keys(config)]
        with _new_table(config) as fresh:

            def insert(keys: workload.Keys) -> None:
                if by_lookup:
                    fresh.lookup_into(keys, out[: len(keys)], train=True)
                else:
                    fresh.assign(keys, values[: len(keys)])

            figures = timing.growth(insert, batches)
            if len(fresh) != config.rows:
                raise RuntimeError(f"{len(fresh)} rows after inserting {config.rows} keys")
        return figures

    return {
        "lookup zipf": partial(lookup, "zipf"),
        "lookup uniform": partial(lookup, "uniform"),
        "insert": partial(grow, False),
        "insert by lookup": partial(grow, True),
    }


def step_cases(config: Config) -> Cases:
    """The tower of side_tf with a growing table in a Session."""
    import tower
    from tower import tf1

    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.optimizers import adagrad, lazy_adam
    from mx_rec.util.initialize import init, terminate_config_initializer
    from mx_rec.util.variable import get_dense_and_sparse_variable

    feeds = [workload.keys_of(r) for r in workload.step_ranks(config)]

    def run(sparse: partial, dense: partial, filled: bool = True) -> Figures:
        # A table and a graph of its own for each round: every round does the same work. Filled, it
        # has all the rows that the static variable has from the start.
        init(train_steps=-1, use_dynamic_expansion=True)
        try:
            with tf1.Graph().as_default():
                ids, labels = tower.placeholders(config)
                table = create_table(
                    tf1.int64, config.step_dim, "bench", tf1.random_normal_initializer(stddev=0.01)
                )
                embeddings = sparse_lookup(table, ids, modify_graph=True)
                loss = tower.loss(config, embeddings, labels)
                dense_variables, sparse_variables = get_dense_and_sparse_variable()
                gradients = tf1.gradients(loss, [*dense_variables, *sparse_variables])
                dense_gradients = gradients[: len(dense_variables)]
                sparse_gradients = gradients[len(dense_variables) :]
                dense_pairs = zip(dense_gradients, dense_variables, strict=True)
                sparse_pairs = zip(sparse_gradients, sparse_variables, strict=True)
                train = tf1.group(
                    dense().apply_gradients(dense_pairs),
                    sparse().apply_gradients(sparse_pairs),
                )
                for first in range(0, config.step_rows if filled else 0, config.batch):
                    last = min(first + config.batch, config.step_rows)
                    table.engine.lookup(workload.keys_of(np.arange(first, last)))
                return tower.measure(config, ids, labels, train, feeds)
        finally:
            terminate_config_initializer()

    return {
        "step adagrad": partial(
            run,
            partial(adagrad.create_hash_optimizer, 1e-2, initial_accumulator_value=0.1),
            partial(tf1.train.AdagradOptimizer, 1e-2),
        ),
        "step adagrad, table growing from empty": partial(
            run,
            partial(adagrad.create_hash_optimizer, 1e-2, initial_accumulator_value=0.1),
            partial(tf1.train.AdagradOptimizer, 1e-2),
            filled=False,
        ),
        "step adam": partial(
            run,
            partial(lazy_adam.create_hash_optimizer, 1e-3),
            partial(tf1.train.AdamOptimizer, 1e-3),
        ),
    }
