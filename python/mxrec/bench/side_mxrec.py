"""mxrec: the engine through ``mxrec.Table``, lookups and training steps through TensorFlow."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import mxrec
from mxrec.bench import timing, workload
from mxrec.bench.timing import Cases, Measurement
from mxrec.bench.workload import Config

Make = Callable[[], Any]


def version() -> str:
    """Name and version of the side."""
    return f"mxrec {mxrec.__version__}"


def _new_table(config: Config, use_hot: bool) -> mxrec.Table:
    return mxrec.Table("bench", config.dim, initializer=mxrec.Normal(0.0, 0.01), use_hot=use_hot)


def table_cases(config: Config) -> Cases:
    """Lookups of present keys, with hot keys and without, and growth."""
    out = np.empty((config.batch, config.dim), np.float32)
    values = np.random.default_rng(3).standard_normal(out.shape, np.float32)
    tables: list[mxrec.Table] = []  # with hot keys and without
    measured: set[tuple[str, bool]] = set()

    def tables_of_the_round(law: str, train: bool) -> Sequence[mxrec.Table]:
        # Where a table's pages lie in physical memory moves its figures by some percent, as much as
        # hot keys gain: every round has tables of its own.
        if not tables or (law, train) in measured:
            measured.clear()
            while tables:
                tables.pop().close()
            for use_hot in (True, False):
                tables.append(_new_table(config, use_hot))
                for keys in workload.all_keys(config):
                    tables[-1].assign(keys, values[: len(keys)])
        measured.add((law, train))
        return tables

    def reader(table: mxrec.Table, train: bool) -> Callable[[workload.Keys], object]:
        return lambda keys: table.lookup_into(keys, out, train=train)

    def lookup(law: str) -> Measurement:
        on, off = (reader(table, False) for table in tables_of_the_round(law, False))
        batches = [workload.keys_of(r) for r in workload.lookup_ranks(config, law)]
        rate, rate_off, gain = timing.compared(config, on, off, batches, config.batch)
        return Measurement(
            {timing.THROUGHPUT: rate, timing.HOT_OFF: rate_off, timing.HOT_GAIN: gain}
        )

    def training_lookup(law: str) -> Measurement:
        table, _ = tables_of_the_round(law, True)
        batches = [workload.keys_of(r) for r in workload.lookup_ranks(config, law)]
        training, reading = reader(table, True), reader(table, False)
        rate, _, share = timing.compared(config, training, reading, batches, config.batch)
        return Measurement({timing.THROUGHPUT: rate, timing.TRAINING_SHARE: share})

    def grow(by_lookup: bool) -> Measurement:
        batches = [(keys, len(keys)) for keys in workload.all_keys(config)]
        with _new_table(config, True) as fresh:

            def insert(keys: workload.Keys) -> None:
                if by_lookup:
                    fresh.lookup_into(keys, out[: len(keys)], train=True)
                else:
                    fresh.assign(keys, values[: len(keys)])

            measured = timing.growth(config, insert, batches)
            if len(fresh) != config.rows:
                raise RuntimeError(f"{len(fresh)} rows after inserting {config.rows} keys")
        return measured

    cases: Cases = {f"lookup {law}": partial(lookup, law) for law in workload.LAWS}
    cases |= {
        f"training lookup {law}": partial(training_lookup, law) for law in workload.TRAINING_LAWS
    }
    return cases | {"insert": partial(grow, False), "insert by lookup": partial(grow, True)}


def session_cases(config: Config) -> Cases:
    """Read-only lookups through the TensorFlow op."""
    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.util.initialize import init, terminate_config_initializer
    from mxrec.bench import tower
    from mxrec.bench.tower import tf1

    init(train_steps=-1, use_dynamic_expansion=True)
    atexit.register(terminate_config_initializer)
    graph = tf1.Graph()
    with graph.as_default():
        ids = tf1.placeholder(tf1.int64, [None], "ids")
        table = create_table(
            tf1.int64, config.dim, "bench", tf1.random_normal_initializer(stddev=0.01)
        )
        embeddings = sparse_lookup(table, ids, is_train=False)
        session = tf1.Session()
        session.run(tf1.global_variables_initializer())
        for keys in workload.all_keys(config):
            table.engine.lookup(keys)

    def lookup(law: str) -> Measurement:
        batches = [workload.keys_of(r) for r in workload.lookup_ranks(config, law)]
        return tower.measure_lookups(config, session, ids, embeddings, batches)

    return {f"session lookup {law}": partial(lookup, law) for law in workload.SESSION_LAWS}


def step_cases(config: Config) -> Cases:
    """The tower of side_tf with a growing table in a Session."""
    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.optimizers import adagrad, lazy_adam
    from mx_rec.util.initialize import init, terminate_config_initializer
    from mx_rec.util.variable import get_dense_and_sparse_variable
    from mxrec.bench import tower
    from mxrec.bench.tower import tf1

    feeds = [workload.keys_of(r) for r in workload.step_ranks(config)]

    def run(sparse: Make, dense: Make, filled: bool = True) -> Measurement:
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
                return tower.measure_steps(config, ids, labels, train, feeds)
        finally:
            terminate_config_initializer()

    sparse_adagrad = partial(adagrad.create_hash_optimizer, 1e-2, initial_accumulator_value=0.1)
    dense_adagrad = partial(tf1.train.AdagradOptimizer, 1e-2)
    sparse_adam = partial(lazy_adam.create_hash_optimizer, 1e-3)
    dense_adam = partial(tf1.train.AdamOptimizer, 1e-3)
    return {
        "step adagrad": partial(run, sparse_adagrad, dense_adagrad),
        "step adam": partial(run, sparse_adam, dense_adam),
        "step adagrad, growing from empty": partial(run, sparse_adagrad, dense_adagrad, False),
    }
