"""Random id expressions over random datasets, admission and eviction: rewriting changes no bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import (
    BATCH,
    ITERATORS,
    assert_same_training,
    elements,
    lookup,
)

import mxrec.tf as mx

v1 = tf.compat.v1
STEPS = 12
TIME = "time"


def columns_of(seed: int) -> dict[str, np.ndarray]:
    """Those of ``elements``, with the second of each batch."""
    return {**elements(STEPS, seed), TIME: np.arange(STEPS * BATCH) // BATCH + 1000}


def of_slices(rng: random.Random, nest: Any) -> Any:
    return v1.data.Dataset.from_tensor_slices(nest)


def of_generator(rng: random.Random, nest: Any) -> Any:
    def type_of(column: np.ndarray) -> Any:
        return tf.string if column.dtype.kind == "U" else tf.as_dtype(column.dtype)

    def generate() -> Iterator[Any]:
        leaves = tf.nest.flatten(nest)
        for row in zip(*leaves, strict=True):
            yield tf.nest.pack_sequence_as(nest, row)

    types = tf.nest.map_structure(type_of, nest)
    shapes = tf.nest.map_structure(lambda column: column.shape[1:], nest)
    return v1.data.Dataset.from_generator(generate, types, shapes)


def of_interleave(rng: random.Random, nest: Any) -> Any:
    """Shares of the rows by turns, several at a time."""
    data = of_slices(rng, nest)
    shares, cycle, block = (rng.randrange(2, 5) for _ in range(3))
    return v1.data.Dataset.range(shares).interleave(
        lambda i: data.shard(shares, i), cycle_length=cycle, block_length=block
    )


def of_zip(rng: random.Random, nest: Any) -> Any:
    """The nest in pairs, of which the first is taken, after what another dataset decides."""
    pairs = v1.data.Dataset.zip((of_slices(rng, nest), v1.data.Dataset.range(STEPS * BATCH)))
    kept = rng.randrange(3, 9)
    return pairs.filter(lambda element, i: i % kept > 0).map(lambda element, i: element)


def of_flat_map(rng: random.Random, nest: Any) -> Any:
    """Windows of the rows, one after the other, each in batches of its own."""
    data, size = of_slices(rng, nest), BATCH * rng.randrange(2, 4)
    return v1.data.Dataset.range(STEPS * BATCH // size).flat_map(
        lambda i: data.skip(i * size).take(size).cache()
    )


DATASETS = [of_slices, of_generator, of_interleave, of_zip, of_flat_map]


def arrange(rng: random.Random, columns: dict[str, Any]) -> Any:
    """A random nest of the columns; ``leaves_by_name`` finds them again."""
    kind = rng.choice(["dict", "tuple", "nested", "deep"])
    if kind == "dict":
        return dict(columns)
    names = list(columns)
    rng.shuffle(names)
    half = rng.randrange(1, len(names))
    first = {name: columns[name] for name in names[:half]}
    second = {name: columns[name] for name in names[half:]}
    if kind == "tuple":
        return tuple(columns[name] for name in sorted(columns))
    if kind == "nested":
        return (first, second)
    return {"left": (first,), "right": {"inner": second}}


def leaves_by_name(batch: Any) -> dict[str, Any]:
    if isinstance(batch, dict):
        found: dict[str, Any] = {}
        for name, part in batch.items():
            found.update(leaves_by_name(part) if isinstance(part, (dict, tuple)) else {name: part})
        return found
    if all(not isinstance(part, (dict, tuple)) for part in batch):
        return dict(zip(sorted(columns_of(0)), batch, strict=True))
    found = {}
    for part in batch:
        found.update(leaves_by_name(part))
    return found


def expression(rng: random.Random, columns: dict[str, Any], depth: int) -> Any:
    """A random int64 tensor [batch] of ids."""
    if depth == 0:
        which = rng.randrange(4)
        if which == 0:
            return columns["id"][:, rng.randrange(4)]
        if which == 1:
            return tf.cast(columns["small"], tf.int64)
        if which == 2:
            return tf.strings.to_number(columns["number"], tf.int64)
        return tf.strings.to_hash_bucket_fast(columns["word"], rng.randrange(10, 1000))
    one = expression(rng, columns, depth - 1)
    which = rng.randrange(9)
    if which == 0:
        return one * rng.randrange(1, 9) + rng.randrange(100)
    if which == 1:
        return tf.where(one > rng.randrange(50), one, expression(rng, columns, depth - 1))
    if which == 2:
        other = expression(rng, columns, depth - 1)
        text = tf.strings.join([tf.strings.as_string(one), tf.strings.as_string(other)], "_")
        return tf.strings.to_hash_bucket_fast(text, 5000)
    if which == 3:
        return tf.cast(tf.cast(one, tf.int32) % rng.randrange(2, 90), tf.int64)
    if which == 4:
        return tf.reverse(one, [0]) + expression(rng, columns, rng.randrange(depth))
    if which == 5:
        return tf.reshape(tf.reshape(one, [2, -1]), [-1])
    if which == 6:
        return tf.math.floormod(one, tf.cast(tf.size(one), tf.int64) + 3)
    if which == 7:
        return tf.cast(tf.math.log(tf.cast(tf.abs(one), tf.float32) + 1.0) * 10.0, tf.int64)
    return tf.gather(tf.constant(np.arange(100)[::-1] * 3, tf.int64), one % 100)


def access_of(rng: random.Random) -> dict[str, int]:
    """Random rules of a table: none, admission, eviction, or both."""
    rules = {}
    if rng.random() < 0.5:
        rules["access_threshold"] = rng.randrange(1, 5)
        rules["faae_coefficient"] = rng.randrange(1, 3)
    if rng.random() < 0.5:
        rules["eviction_threshold"] = rng.randrange(4)
    return rules


@pytest.mark.parametrize("case", range(15))
def test_random_expressions(case: int, seed: int) -> None:
    draws = random.Random(seed * 100 + case)
    names = ("a", "bb", "ccc")[: 1 + case % 3]
    make_dataset = DATASETS[case % len(DATASETS)]
    even = case % 2 == 0 or make_dataset is of_zip  # every batch has an even number of rows
    prefetch = draws.choice([None, 1, 2, 8])
    access = {name: access_of(draws) for name in names}
    evict_every = draws.randrange(2, 6)
    evicted: dict[str, int] = dict.fromkeys(names, 0)

    def data() -> Any:
        rng = random.Random(seed)
        made = make_dataset(rng, arrange(rng, columns_of(seed))).batch(BATCH, even)
        return made if prefetch is None else made.prefetch(prefetch)

    def between(step: int, session: Any, tables: dict[str, Any]) -> None:
        if step % evict_every == 0:
            for name, table in tables.items():
                if "eviction_threshold" in access[name]:
                    evicted[name] += table.evict()

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        rng = random.Random(seed)
        columns = leaves_by_name(batch)
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, columns[TIME])
        rows: list[Any] = []
        read: list[tuple[Any, Any, dict[str, Any]]] = []
        earlier: list[Any] = []
        for i in range(rng.randrange(1, 6)):
            ids = expression(rng, columns, rng.randrange(4))
            if earlier and rng.random() < 0.3:
                ids = rng.choice(earlier)
            earlier.append(ids)
            if rng.random() < 0.3:
                ids = tf.stack([ids, ids + 1], axis=1)
            name = names[i % len(names)]
            options: dict[str, Any] = {"modify_graph": rng.random() < 0.8}
            if rng.random() < 0.2:
                options["is_grad"] = False
            table = tables[name]
            options["access_and_evict_config"] = access[name] or None
            if rng.random() < 0.8:
                rows.append(lookup(table, ids, **options))
            else:
                read.append((table, ids, options))
        for name in names:
            options = {"access_and_evict_config": access[name] or None, "modify_graph": False}
            rows.append(lookup(tables[name], columns["id"], **options))
        # Whether reads see what the step inserts must not be left to chance.
        with tf.control_dependencies(rows):
            rows += [lookup(*args, is_train=False, **options) for *args, options in read]
        return rows

    assert_same_training(
        data,
        rows_of,
        tables=names,
        make_iterator=ITERATORS[case % len(ITERATORS)],
        label_of=lambda batch: leaves_by_name(batch)["label"],
        between=between,
    )
    some = {name for name in names if access[name].get("eviction_threshold") == 0}
    assert all(evicted[name] > 0 for name in some)
    mx.terminate_config_initializer()
