"""Reads the whole of a table for comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import mxrec


class Contents(NamedTuple):
    keys: NDArray[np.int64]
    values: NDArray[np.float32]
    slots: NDArray[np.float32]
    frequency: NDArray[np.uint32]


def contents(table: mxrec.Table, chunk_rows: int = 1000) -> Contents:
    """All rows with their slots, by ascending key."""
    cursor, chunks = (0, 0), []
    while True:
        cursor, keys, values, slots, frequency, _ = table._engine.scan(cursor, chunk_rows)
        chunks.append((keys, values, slots, frequency))
        if len(keys) == 0:
            break
    columns = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    order = np.argsort(columns[0])
    return Contents(*(column[order] for column in columns))


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> None:
    """Each value is within 1e-5: absolute up to 1, relative above."""
    assert found.shape == wanted.shape
    errors = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    assert errors.max(initial=0.0) <= 1e-5, errors.max()


def assert_identical(a: mxrec.Table, b: mxrec.Table) -> None:
    """The two tables have the same rows and slots, bit for bit."""
    for name, x, y in zip(Contents._fields, contents(a), contents(b), strict=True):
        assert x.shape == y.shape, name
        assert x.tobytes() == y.tobytes(), name
