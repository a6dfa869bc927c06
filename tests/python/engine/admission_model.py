"""What admission and eviction promise, on a plain dictionary; a sketch as its definition says."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

import mxrec

SATURATED = 2**32 - 1


def mixed(key: int) -> int:
    """The hash of a key (splitmix64)."""
    mask = 2**64 - 1
    x = (key + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


class Sketch:
    """Blocks of 4 x 31 counters that end at 15; a block that 36 keys have come to ages."""

    def __init__(self, expected_keys: int) -> None:
        self.count = max(expected_keys // 18 // 256, 1) * 256
        self.blocks: dict[int, list[list[int]]] = {}
        self.arrivals: dict[int, int] = {}

    def _counters(self, key: int) -> tuple[int, list[int]]:
        value = mixed(key)
        return (value >> 32) * self.count >> 32, [
            ((value >> (8 * i) & 255) * 31) >> 8 for i in range(4)
        ]

    def peek(self, key: int) -> int:
        block, places = self._counters(key)
        if block not in self.blocks:
            return 0
        return min(self.blocks[block][i][place] for i, place in enumerate(places))

    def add(self, key: int, more: int) -> None:
        block, places = self._counters(key)
        sections = self.blocks.setdefault(block, [[0] * 31 for _ in range(4)])
        least = min(sections[i][place] for i, place in enumerate(places))
        raised = min(15, least + more)
        for i, place in enumerate(places):
            sections[i][place] = max(sections[i][place], raised)
        if least == 0:
            self.arrivals[block] = self.arrivals.get(block, 0) + 1
            if self.arrivals[block] >= 36:
                self.blocks[block] = [[c // 2 for c in section] for section in sections]
                self.arrivals[block] //= 2


class Ones:
    """Values of rows that begin as ones and are trained by SGD."""

    def __init__(self, dim: int, rate: float) -> None:
        self.dim, self.rate = dim, np.float32(rate)
        self.rows: dict[int, np.ndarray] = {}

    def add(self, key: int) -> None:
        self.rows[key] = np.ones(self.dim, np.float32)

    def remove(self, keys: Sequence[int]) -> None:
        for key in keys:
            del self.rows[key]

    def read(self, keys: Sequence[int]) -> np.ndarray:
        zeros = np.zeros(self.dim, np.float32)
        rows = [self.rows.get(key, zeros) for key in keys]
        return np.array(rows, np.float32).reshape(len(keys), self.dim)

    def pool(self, keys: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        rows = self.read(keys)
        bags = [rows[a:b].sum(axis=0) for a, b in itertools.pairwise(offsets)]
        return np.array(bags, np.float32).reshape(len(bags), self.dim)

    def apply(self, keys: Sequence[int], grads: np.ndarray) -> None:
        sums: dict[int, np.ndarray] = {}
        for key, grad in zip(keys, grads, strict=True):
            sums[key] = sums[key] + grad if key in sums else grad.copy()
        for key, total in sums.items():
            if key in self.rows:
                self.rows[key] = self.rows[key] - self.rate * total


class Twin:
    """Values of a table that has neither admission nor eviction: it is told what comes and goes.

    Args:
        table: with the seed, initializer and optimizer of the one that is tested; empty.
    """

    def __init__(self, table: mxrec.Table) -> None:
        self.table = table

    def add(self, key: int) -> None:
        self.table.lookup(np.array([key]))

    def remove(self, keys: Sequence[int]) -> None:
        assert self.table.erase(np.array(keys, np.int64)) == len(keys)

    def read(self, keys: Sequence[int]) -> np.ndarray:
        return self.table.lookup(np.array(keys, np.int64), train=False)

    def pool(self, keys: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        return self.table.lookup_pooled(np.array(keys, np.int64), np.array(offsets), train=False)

    def apply(self, keys: Sequence[int], grads: np.ndarray) -> None:
        self.table.apply_gradients(np.array(keys, np.int64), grads)


@dataclasses.dataclass
class Row:
    count: int
    last: int


class Model:
    """Which rows a table has.

    Args:
        values: of the rows.
        threshold: of admission; None: there is none.
        coefficient: of an occurrence.
        sketch: counts the keys that have no row; None: exactly.
        max_age: rule of eviction, as the following; None: there is none.
        max_rows: likewise.
        min_l2: likewise.
    """

    def __init__(
        self,
        values: Ones | Twin,
        threshold: int | None,
        coefficient: int = 1,
        sketch: Sketch | None = None,
        max_age: int | None = None,
        max_rows: int | None = None,
        min_l2: float | None = None,
    ) -> None:
        self.values = values
        self.threshold: float | None = threshold
        self.frozen = False
        self.coefficient = coefficient
        self.sketch = sketch
        self.max_age, self.max_rows, self.min_l2 = max_age, max_rows, min_l2
        self.rows: dict[int, Row] = {}
        self.pending: dict[int, tuple[int, int]] = {}  # count, last
        self.latest = 0
        self.evicted = {"age": 0, "rows": 0, "l2": 0}

    def count(self, key: int) -> int:
        if key in self.rows:
            return self.rows[key].count
        if self.threshold is None:
            return 0
        return self.sketch.peek(key) if self.sketch else self.pending.get(key, (0, 0))[0]

    def lookup(self, keys: Sequence[int], times: Sequence[int]) -> np.ndarray:
        """times: one for each key."""
        occurrences: dict[int, int] = {}
        last: dict[int, int] = {}
        for key, time in zip(keys, times, strict=True):
            occurrences[key] = occurrences.get(key, 0) + 1
            last[key] = max(last.get(key, 0), time)
        seen = {key: self.count(key) for key in occurrences}  # before any key of the batch counts
        refused = []
        for key, n in occurrences.items():
            more = 0 if self.frozen else n * self.coefficient
            if key in self.rows:
                row = self.rows[key]
                row.count = min(row.count + more, SATURATED)
                row.last = max(row.last, last[key])
            elif self.threshold is None or seen[key] + more >= self.threshold:
                self.pending.pop(key, None)
                self.rows[key] = Row(seen[key] + more, last[key])
                self.values.add(key)
            else:
                refused.append(key)
        for key in refused:
            if self.frozen:
                continue
            if self.sketch:
                self.sketch.add(key, occurrences[key] * self.coefficient)
            else:
                count, before = self.pending.get(key, (0, 0))
                self.pending[key] = (
                    count + occurrences[key] * self.coefficient,
                    max(before, last[key]),
                )
        if len(times):
            self.latest = max(self.latest, *times)
        return self.read(keys)

    def read(self, keys: Sequence[int]) -> np.ndarray:
        return self.values.read(keys)

    def apply(self, keys: Sequence[int], grads: np.ndarray) -> None:
        self.values.apply(keys, grads)

    def erase(self, keys: Sequence[int]) -> int:
        gone = [key for key in set(keys) if key in self.rows]
        self._drop(gone)
        for key in keys:
            self.pending.pop(key, None)
        return len(gone)

    def set_threshold(self, n: int) -> None:
        self.frozen = n == 0
        if n:
            self.threshold = n

    def evict(self, now: int | None) -> int:
        before = len(self.rows)
        reference = max(self.latest, now or 0)
        if self.max_age is not None:
            old = [k for k, row in self.rows.items() if reference - row.last >= self.max_age]
            self._remove(old, "age")
            for key, (_, last) in list(self.pending.items()):
                if reference - last >= self.max_age:
                    del self.pending[key]
        if self.max_rows is not None and len(self.rows) > self.max_rows:
            order = sorted(self.rows, key=lambda key: (self.rows[key].count, mixed(key)))
            self._remove(order[: len(self.rows) - self.max_rows], "rows")
        if self.min_l2 is not None:
            keys = list(self.rows)
            small = [
                key
                for key, row in zip(keys, self.read(keys), strict=True)
                if math.sqrt(sum(float(v) ** 2 for v in row)) < np.float32(self.min_l2)
            ]
            self._remove(small, "l2")
        return before - len(self.rows)

    def _remove(self, keys: Sequence[int], cause: str) -> None:
        self._drop(keys)
        self.evicted[cause] += len(keys)

    def _drop(self, keys: Sequence[int]) -> None:
        for key in keys:
            del self.rows[key]
        self.values.remove(keys)
