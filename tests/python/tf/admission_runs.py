"""A table whose new rows are ones, trained by SGD, for the tests of admission and eviction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt

v1 = tf.compat.v1
RATE = 0.5


def make(name: str = "t", dim: int = 2, initializer: Any = None, **kwargs: Any) -> Any:
    kwargs.setdefault("device_vocabulary_size", 100_000)
    return mx.create_table(tf.int64, dim, name, initializer or v1.ones_initializer(), **kwargs)


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def train_op(loss: Any, optimizer: Any = None) -> Any:
    """One step, of SGD by default, on the tables of the graph."""
    _, sparse = mx.get_dense_and_sparse_variable()
    optimizer = optimizer or opt.gradient_descent.create_hash_optimizer(RATE)
    return optimizer.apply_gradients(zip(tf.gradients(loss, sparse), sparse, strict=True))


class Run:
    """A session on a graph with one table, whose ids, timestamps and gradients are fed.

    Args:
        lookup: gives the embeddings of a batch ``{"ids": ..., "time": ...}`` in a table.
        ids: placeholder of the ids; by default int64 [n].
        **options: of ``create_table``.
    """

    def __init__(
        self, lookup: Callable[[Any, dict[str, Any]], Any], ids: Any = None, **options: Any
    ) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.table = make(**options)
            self.batch = {
                "ids": v1.placeholder(tf.int64, [None]) if ids is None else ids(),
                "time": v1.placeholder_with_default(np.zeros(0, np.int64), [None]),
            }
            self.rows = lookup(self.table, self.batch)
            # The gradient of every embedding is what is fed.
            self.grads = v1.placeholder_with_default(1.0, None)
            loss = tf.reduce_sum(self.rows * self.grads)
            self.train_op = train_op(loss)
            self.read_ids = v1.placeholder(tf.int64, [None])
            self.read_rows = mx.sparse_lookup(self.table, self.read_ids, is_train=False)
            self.saver = v1.train.Saver()
            initializer = v1.global_variables_initializer()
        self.session = v1.Session(graph=self.graph)
        self.session.run(initializer)

    def feed(self, ids: Any, time: Any = None, grads: Any = None) -> dict[Any, Any]:
        values = {self.batch["ids"]: ids}
        if time is not None:
            values[self.batch["time"]] = np.atleast_1d(time)
        if grads is not None:
            values[self.grads] = grads
        return values

    def look(self, *ids: int, **more: Any) -> Any:
        """What a training lookup reads, without an update."""
        return self.session.run(self.rows, self.feed(keys(*ids), **more))

    def train(self, *ids: int, **more: Any) -> Any:
        return self.session.run([self.rows, self.train_op], self.feed(keys(*ids), **more))[0]

    def read(self, *ids: int) -> Any:
        return self.session.run(self.read_rows, {self.read_ids: keys(*ids)})


def by_spec(**access: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """A lookup of a FeatureSpec that has thresholds."""

    def lookup(table: Any, batch: dict[str, Any]) -> Any:
        return mx.sparse_lookup(table, mx.FeatureSpec("ids", "t", **access), batch=batch)

    return lookup


def by_config(**access: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """A lookup of a plain tensor with ``access_and_evict_config``."""

    def lookup(table: Any, batch: dict[str, Any]) -> Any:
        return mx.sparse_lookup(
            table, batch["ids"], modify_graph=True, access_and_evict_config=access
        )

    return lookup


WAYS = {"spec": by_spec, "config": by_config}
