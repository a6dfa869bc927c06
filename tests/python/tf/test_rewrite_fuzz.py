"""Random id expressions over random datasets: rewriting makes no difference."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import (
    ITERATORS,
    assert_same_training,
    elements,
    lookup,
)

import mxrec.tf as mx

v1 = tf.compat.v1
STEPS = 12


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
        return dict(zip(sorted(elements(1)), batch, strict=True))
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


@pytest.mark.parametrize("case", range(12))
def test_random_expressions(case: int, seed: int) -> None:
    names = ("a", "bb", "ccc")[: 1 + case % 3]

    def data() -> Any:
        rng = random.Random(seed)
        columns = elements(STEPS, seed)
        return v1.data.Dataset.from_tensor_slices(arrange(rng, columns)).batch(8, case % 2 == 0)

    def rows_of(batch: Any, tables: dict[str, Any]) -> list[Any]:
        rng = random.Random(seed)
        columns = leaves_by_name(batch)
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
            options: dict[str, Any] = {"modify_graph": rng.random() < 0.8}
            if rng.random() < 0.2:
                options["is_grad"] = False
            table = tables[names[i % len(names)]]
            if rng.random() < 0.8:
                rows.append(lookup(table, ids, **options))
            else:
                read.append((table, ids, options))
        rows.append(sum(lookup(tables[name], columns["id"], modify_graph=False) for name in names))
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
    )
    mx.terminate_config_initializer()
