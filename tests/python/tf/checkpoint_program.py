"""A small training program on two tables, run by the checkpoint tests, also as a process.

Usage: checkpoint_program.py DIR first|second. `first` trains to step 6 and saves at step 3;
`second`, another process, restores that checkpoint and repeats steps 4 to 6. Both leave what the
tables then hold in DIR/<phase>.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable

DIM = 4
SAVED_STEP = 3
LAST_STEP = 6
QUERY = np.arange(-5, 60, dtype=np.int64)


class Program:
    """One graph with two tables and a dense variable, and its session."""

    def __init__(
        self,
        max_to_keep: int = 5,
        table_names: tuple[str, ...] = ("user", "item"),
        sizes: dict[str, Any] | None = None,
    ):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.ids = tf.compat.v1.placeholder(tf.int64, [None])
            self.step = tf.compat.v1.train.get_or_create_global_step()
            self.dense = tf.compat.v1.get_variable("dense", [DIM], initializer=tf.ones_initializer)
            self.tables = {}
            self.lookups = {}
            reads = []
            for name in table_names:
                table = create_table(
                    key_dtype=tf.int64,
                    dim=DIM,
                    name=name,
                    emb_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.1, seed=7),
                    **(sizes or {}),
                )
                self.tables[name] = table
                reads.append(sparse_lookup(table, self.ids, is_train=True))
                self.lookups[name] = sparse_lookup(table, tf.constant(QUERY), is_train=False)
            loss = tf.add_n([tf.reduce_sum(tf.square(r * self.dense - 0.5)) for r in reads])
            dense_variables, sparse_variables = get_dense_and_sparse_variable()
            optimizer = create_hash_optimizer(learning_rate=0.01)
            grads = tf.gradients(loss, sparse_variables)
            dense_optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.01)
            self.train_op = tf.group(
                optimizer.apply_gradients(zip(grads, sparse_variables, strict=True)),
                dense_optimizer.minimize(loss, var_list=dense_variables),
                tf.compat.v1.assign_add(self.step, 1),
            )
            self.saver = tf.compat.v1.train.Saver(max_to_keep=max_to_keep)
            initializer = tf.compat.v1.global_variables_initializer()
        self.session = tf.compat.v1.Session(graph=self.graph)
        self.session.run(initializer)

    def train(self, first: int, last: int) -> None:
        """Runs the steps first..last; the batch depends on the step alone."""
        for step in range(first, last + 1):
            batch = np.random.default_rng(step).integers(0, 10 * step, size=32)
            self.session.run(self.train_op, {self.ids: batch})

    def save(self, prefix: str | Path, saver: Any = None, **options: Any) -> str:
        """Saves tables and variables; Saver needs the graph to be the default one."""
        with self.graph.as_default():
            return (saver or self.saver).save(self.session, str(prefix), **options)

    def restore(self, prefix: str | Path, saver: Any = None) -> None:
        """Restores tables and variables."""
        with self.graph.as_default():
            (saver or self.saver).restore(self.session, str(prefix))

    def state(self) -> dict[str, Any]:
        """What evaluation reads, every row with its slots, and Adam's step count."""
        found = {"dense": self.session.run(self.dense)}
        for name, table in self.tables.items():
            found[f"{name}/lookup"] = self.session.run(self.lookups[name])
            found.update({f"{name}/{k}": v for k, v in rows_of(table.engine).items()})
        return found


def rows_of(engine: Any) -> dict[str, Any]:
    """All rows of an engine table, sorted by key."""
    cursor, *block = engine.scan((0, 0), 1 << 20)
    blocks = [block]
    while len(block[0]):
        cursor, *block = engine.scan(cursor, 1 << 20)
        blocks.append(block)
    keys, values, slots = (np.concatenate([b[i] for b in blocks]) for i in range(3))
    order = np.argsort(keys)
    return {
        "keys": keys[order],
        "values": values[order],
        "slots": slots[order],
        "optimizer_step": np.int64(engine.optimizer_step),
    }


def start() -> None:
    """Starts the library, whatever ran before."""
    terminate_config_initializer()
    init(use_dynamic_expansion=True)


def main(directory: Path, phase: str) -> None:
    start()
    program = Program()
    if phase == "first":
        program.train(1, SAVED_STEP)
        program.save(directory / "model", global_step=program.step)
        np.savez(directory / "saved.npz", **program.state())
    else:
        program.restore(tf.train.latest_checkpoint(str(directory)))
        np.savez(directory / "restored.npz", **program.state())
    program.train(SAVED_STEP + 1, LAST_STEP)
    np.savez(directory / f"{phase}.npz", **program.state())
    terminate_config_initializer()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
