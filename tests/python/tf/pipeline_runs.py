"""A model of five tables, with ids of all kinds, that is trained from a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from admission_runs import train_op
from graph_runs import contents

import mxrec.tf as mx

v1 = tf.compat.v1
BATCH = 8
KEYS = 300
TABLES = ("user", "item", "price", "tags", "words")
AGE = {"eviction_threshold": 40}
Insert = Callable[[Any], Any]


class Trained(NamedTuple):
    """Losses of the steps, contents of the tables, and how many lookups were prepared in each."""

    losses: list[float]
    contents: list[Any]
    prepared: list[int]


def specs(**access: Any) -> list[mx.FeatureSpec]:
    """A feature of each table, and the timestamp."""
    features = [mx.FeatureSpec(f"{name}_ids", name, **access) for name in TABLES]
    return [*features, mx.FeatureSpec("time", is_timestamp=True)]


def elements(steps: int, seed: int) -> Any:
    """A dataset of dicts; batch b is of second b."""
    rng = np.random.default_rng(seed)
    rows = steps * BATCH

    def ids(*shape: int) -> np.ndarray:
        return rng.zipf(1.2, (rows, *shape)) % KEYS + 1

    columns = {
        "user_ids": ids(2).astype(np.int64) * 2**40,
        "item_ids": ids().astype(np.int32),
        "price_ids": ids(1).astype(np.float32) + 0.5,
        "tags_ids": ids(3) * rng.integers(0, 2, (rows, 3)),
        "words_ids": ids(3) * rng.integers(0, 2, (rows, 3)),
        "time": np.arange(rows) // BATCH + 1000,
        "label": rng.integers(0, 2, rows).astype(np.float32),
    }

    def with_structure(batch: dict[str, Any]) -> dict[str, Any]:
        batch["tags_ids"] = tf.sparse.from_dense(batch["tags_ids"])
        words = batch["words_ids"]
        batch["words_ids"] = tf.ragged.boolean_mask(words, words > 0)
        return batch

    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH).map(with_structure)


def tables(**sizes: Any) -> dict[str, Any]:
    sizes = sizes or {"device_vocabulary_size": 10_000}
    initializer = v1.random_normal_initializer(stddev=0.1, seed=5)
    return {
        name: mx.create_table(
            tf.int32 if name == "item" else tf.int64,
            3 + i,
            name,
            initializer,
            **sizes,
        )
        for i, name in enumerate(TABLES)
    }


def loss_of(by_name: dict[str, Any], features: list[mx.FeatureSpec], batch: Any) -> Any:
    combiners = {"tags": {"combiner": "mean"}, "words": {"combiner": "sum"}}
    logits = 0.0
    for spec in features:
        if spec.is_timestamp:
            continue
        name = spec.table_name
        rows = mx.sparse_lookup(by_name[name], spec, batch=batch, **combiners.get(name, {}))
        logits += tf.reduce_sum(tf.reshape(rows, [BATCH, -1]), axis=1)
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)
    )


def trained(
    insert: Callable[[list[mx.FeatureSpec]], Insert] | None,
    depth: int = 0,
    steps: int = 300,
    seed: int = 0,
    evict_every: int | None = None,
    sizes: dict[str, Any] | None = None,
    at_end: Callable[[dict[str, Any]], None] | None = None,
    **access: Any,
) -> Trained:
    """Trains the model in a new start of the library.

    Args:
        insert: makes the function for ``dataset.map``; None: there is none.
        depth: of the prefetch buffer.
        steps: length of the dataset.
        seed: of the dataset.
        evict_every: steps between evictions of all tables.
        sizes: of the tables, options of ``create_table``; None: large enough.
        at_end: called at the end with the tables.
        **access: of the FeatureSpecs.
    """
    mx.terminate_config_initializer()
    mx.init()
    with tf.Graph().as_default(), v1.Session() as session:
        features = specs(**access)
        dataset = elements(steps, seed)
        if insert is not None:
            dataset = dataset.map(insert(features))
        if depth:
            dataset = dataset.prefetch(depth)
        iterator = v1.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
        by_name = tables(**(sizes or {}))
        loss = loss_of(by_name, features, batch)
        train = train_op(loss)
        mx.start_asc_pipeline()
        session.run([iterator.initializer, v1.global_variables_initializer()])
        losses = []
        for step in range(1, steps + 1):
            losses.append(session.run([loss, train])[0])
            if evict_every and step % evict_every == 0:
                for table in by_name.values():
                    table.evict()
        if at_end is not None:
            at_end(by_name)
        return Trained(
            losses,
            [part for table in by_name.values() for part in contents(table)],
            [table.stats()["prepared_lookups"] for table in by_name.values()],
        )


def assert_equal(
    some: tuple[list[float], list[Any]], others: tuple[list[float], list[Any]]
) -> None:
    np.testing.assert_array_equal(some.losses, others.losses)
    for mine, theirs in zip(some.contents, others.contents, strict=True):
        np.testing.assert_array_equal(mine, theirs)
