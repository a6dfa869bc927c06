"""Models over datasets that are trained with and without graph rewriting."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from graph_runs import contents

import mxrec.tf as mx
from mx_rec.optimizers.adagrad import create_hash_optimizer
from mxrec.tf.log import logger

v1 = tf.compat.v1
BATCH = 8
REFUSED = -1.0  # what stands for the loss of a step whose keys did not fit


class Trained(NamedTuple):
    """What training leaves behind, exactly."""

    losses: list[float]
    tables: dict[str, list[Any]]


def elements(steps: int, seed: int = 0, keys: int = 500) -> dict[str, np.ndarray]:
    """A dataset's columns: ids, numbers as text, words, floats and labels."""
    rng = np.random.default_rng(seed)
    rows = steps * BATCH
    ids = rng.zipf(1.3, size=(rows, 4)) % keys
    return {
        "id": ids.astype(np.int64),
        "small": (ids[:, 0] % 100).astype(np.int32),
        "number": np.array([str(i) for i in ids[:, 1]]),
        "word": np.array([f"word{i}" for i in ids[:, 2]]),
        "price": rng.normal(size=rows).astype(np.float32),
        "label": (ids.sum(axis=1) % 2).astype(np.float32),
    }


def dataset(steps: int, seed: int = 0) -> Any:
    """Batches of ``elements`` as dicts."""
    return v1.data.Dataset.from_tensor_slices(elements(steps, seed)).batch(BATCH, True)


class Feed(NamedTuple):
    """A batch, and how the iterator that gives it is started."""

    batch: Any
    initializers: list[Any]


def one_shot(data: Any) -> Feed:
    return Feed(v1.data.make_one_shot_iterator(data).get_next(), [])


def initializable(data: Any) -> Feed:
    iterator = v1.data.make_initializable_iterator(data)
    return Feed(iterator.get_next(), [iterator.initializer])


def reinitializable(data: Any) -> Feed:
    iterator = v1.data.Iterator.from_structure(
        v1.data.get_output_types(data),
        v1.data.get_output_shapes(data),
        output_classes=v1.data.get_output_classes(data),
    )
    start = iterator.make_initializer(data)
    iterator.make_initializer(data.take(1))  # another one, for whatever
    return Feed(iterator.get_next(), [start])


ITERATORS = [one_shot, initializable, reinitializable]


def create(name: str, dim: int = 4, **kwargs: Any) -> Any:
    initializer = v1.random_normal_initializer(seed=len(name))
    kwargs.setdefault("device_vocabulary_size", 100_000)
    return mx.create_table(tf.int64, dim, name, initializer, **kwargs)


def train_op_of(loss: Any) -> Any:
    """Trains the tables of the graph."""
    _, sparse = mx.get_dense_and_sparse_variable()
    gradients = tf.gradients(loss, sparse)
    return create_hash_optimizer(0.05).apply_gradients(list(zip(gradients, sparse, strict=True)))


def loss_of(rows: list[Any], label: Any) -> Any:
    """Logistic loss of the sum of all embeddings."""
    flat = [tf.reshape(each, [tf.shape(label)[0], -1]) for each in rows]
    logits = tf.add_n([tf.reduce_sum(each, 1) for each in flat])
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits))


Rows = Callable[[Any, dict[str, Any]], list[Any]]


def train(
    data: Callable[[], Any],
    rows_of: Rows,
    tables: tuple[str, ...] = ("t",),
    make_iterator: Callable[[Any], Feed] = initializable,
    steps: int | None = None,
    rewritten: bool = True,
    label_of: Callable[[Any], Any] = lambda batch: batch["label"],
    start: dict[str, Any] | None = None,
    between: Callable[[int, Any, dict[str, Any]], None] | None = None,
    **table_options: Any,
) -> Trained:
    """Trains until the data ends, or so many steps.

    Args:
        data: makes the dataset.
        rows_of: lookups of a batch, given the tables by name.
        tables: names of the tables.
        make_iterator: over the dataset.
        steps: None: until the data ends.
        rewritten: whether the graph is.
        label_of: the labels in a batch.
        start: arguments of ``init``.
        between: called after each step with its number, from 1, the session and the tables.
        **table_options: of the tables.
    """
    mx.terminate_config_initializer()
    mx.init(**(start or {}))
    with tf.Graph().as_default():
        made = {name: create(name, **table_options) for name in tables}
        feed = make_iterator(data())
        loss = loss_of(rows_of(feed.batch, made), label_of(feed.batch))
        train_op = train_op_of(loss)
        if rewritten:
            mx.modify_graph_and_start_emb_cache()
        losses: list[float] = []
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            with contextlib.suppress(tf.errors.OutOfRangeError):
                while steps is None or len(losses) < steps:
                    try:
                        losses.append(session.run([loss, train_op])[0])
                    except tf.errors.ResourceExhaustedError:
                        losses.append(REFUSED)
                    if between is not None:
                        between(len(losses), session, made)
        return Trained(losses, {name: contents(table) for name, table in made.items()})


def assert_equal(first: Trained, second: Trained) -> None:
    """Both trained to the same bits."""
    assert len(first.losses) > 0
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.tables.keys() == second.tables.keys()
    for name, parts in first.tables.items():
        for one, other in zip(parts, second.tables[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def assert_same_training(data: Callable[[], Any], rows_of: Rows, **options: Any) -> Trained:
    """Trains with and without rewriting, which makes no difference."""
    plain = train(data, rows_of, rewritten=False, **options)
    moved = train(data, rows_of, rewritten=True, **options)
    assert_equal(plain, moved)
    return moved


def lookup(table: Any, ids: Any, **kwargs: Any) -> Any:
    kwargs.setdefault("modify_graph", True)
    return mx.sparse_lookup(table, ids, **kwargs)


@contextlib.contextmanager
def warnings_of() -> Iterator[list[str]]:
    """The warnings of the library."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                records.append(record.getMessage())

    handler = Keep()
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


def keys_of(rows: Any) -> Any:
    """The keys that the lookup behind its rows takes now."""
    op = rows.op
    while not op.type.startswith(("MxrecLookup", "MxrecPooledLookup", "MxrecRead")):
        op = op.inputs[0].op
    return op.inputs[[argument.name for argument in op.op_def.input_arg].index("ids")]


def op_between(tensor: Any, source_type: str = "IteratorGetNext") -> list[str]:
    """Types of the ops between a tensor and its iterator."""
    types, pending, seen = [], [tensor.op], set()
    while pending:
        op = pending.pop()
        if op.type == source_type or op.name in seen:
            continue
        seen.add(op.name)
        types.append(op.type)
        pending += [each.op for each in op.inputs]
    return types
