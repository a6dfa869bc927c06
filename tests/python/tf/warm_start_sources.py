"""Checkpoints with tables and variables to warm-start from, and their contents as dicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from table_rows import Rows, rows_of

import mxrec.tf as mx
from mxrec import SGD, Adagrad, LazyAdam

DIM = 3
OPTIMIZERS = {"Adagrad": Adagrad(0.1), "LazyAdam": LazyAdam(0.1), "SGD": SGD(0.1), "None": None}


@dataclasses.dataclass
class Saved:
    """What a checkpoint holds.

    Attributes:
        prefix: of its files.
        tables: rows by table.
        steps: optimizer step by table.
        dense: values by variable.
        optimizer: kind, of all tables.
    """

    prefix: str
    tables: dict[str, Rows]
    steps: dict[str, int]
    dense: dict[str, Any]
    optimizer: str


def make_table(name: str, dim: int = DIM, **options: Any) -> mx.SparseTable:
    """A table of the default graph."""
    options.setdefault("key_dtype", tf.int64)
    initializer = tf.compat.v1.zeros_initializer()
    return mx.create_table(dim=dim, name=name, emb_initializer=initializer, **options)


def bind(table: mx.SparseTable, optimizer: str) -> None:
    """Gives a table the optimizer of this kind; "None": none."""
    chosen = OPTIMIZERS[optimizer]
    if chosen is not None:
        table.engine.bind_optimizer(chosen.to_options())


def fill(table: mx.SparseTable, keys: Any, rng: np.random.Generator, steps: int = 2) -> None:
    """Gives keys random rows; with an optimizer also slots, in so many steps."""
    keys = np.asarray(keys, np.int64)
    table.engine.assign(keys, rng.normal(size=(len(keys), table.dim)).astype(np.float32))
    if table.engine.optimizer.kind != "None":
        for _ in range(steps):
            grads = rng.normal(size=(len(keys), table.dim)).astype(np.float32)
            table.engine.apply_gradients(keys, grads)


def make_variables(shapes: dict[str, list[int]], rng: np.random.Generator) -> dict[str, Any]:
    """Trainable variables of the default graph with random initial values, by name."""
    return {
        name: tf.compat.v1.get_variable(
            name, initializer=rng.normal(size=shape).astype(np.float32), use_resource=True
        )
        for name, shape in shapes.items()
    }


def save(
    prefix: Path,
    tables: dict[str, Any],
    shapes: dict[str, list[int]],
    rng: np.random.Generator,
    optimizer: str = "Adagrad",
    **options: Any,
) -> Saved:
    """Saves a model: tables with random rows of these keys, and random variables."""
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = {name: make_table(name, **options) for name in tables}
        for name, keys in tables.items():
            bind(made[name], optimizer)
            fill(made[name], keys, rng, steps=1 + int(rng.integers(4)))
        variables = make_variables(shapes, rng)
        session.run(tf.compat.v1.global_variables_initializer())
        path = tf.compat.v1.train.Saver().save(session, str(prefix))
        saved = Saved(
            prefix=path,
            tables={name: rows_of(table.engine) for name, table in made.items()},
            steps={name: table.engine.optimizer_step for name, table in made.items()},
            dense=session.run(variables),
            optimizer=optimizer,
        )
    mx.terminate_config_initializer()
    return saved


def fresh_slots(optimizer: str, dim: int = DIM) -> bytes:
    """Slots of a row that has not been updated."""
    firsts = {"Adagrad": [0.1], "LazyAdam": [0.0, 0.0], "SGD": [], "None": []}[optimizer]
    return np.repeat(np.float32(firsts), dim).tobytes()
