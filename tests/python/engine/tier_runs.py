"""Tables with an SSD tier and their twins in memory, and a history that both go through."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mxrec

DIM = 5
UNIVERSE = 20_000
MEMORY = UNIVERSE // 100
SSD = UNIVERSE


def tiered(path: Path, name: str = "t", **options: Any) -> mxrec.Table:
    """A table with memory for 1 % of the keys."""
    options = {"memory_rows": MEMORY, "ssd_rows": SSD, "ssd_paths": [path], **options}
    return mxrec.Table(name, DIM, seed=3, **options)


def in_memory(name: str = "t", **options: Any) -> mxrec.Table:
    """Its twin, with room for all of them."""
    return mxrec.Table(name, DIM, seed=3, memory_rows=MEMORY + SSD, **options)


def batch(rng: np.random.Generator, size: int = 400) -> NDArray[np.int64]:
    """Keys, half of them by Zipf's law, half of them by chance: more than memory holds."""
    often = rng.zipf(1.2, size // 2) % UNIVERSE
    return np.concatenate([often, rng.integers(0, UNIVERSE, size // 2)]).astype(np.int64)


def step(table: mxrec.Table, number: int) -> list[Any]:
    """One step of the history. Returns all that it says."""
    rng = np.random.default_rng([5, number])
    keys, others = batch(rng), batch(rng, 60)
    said: list[Any] = [table.lookup(keys, timestamp=1000 + number)]
    said.append(table.apply_gradients(keys, rng.normal(size=(len(keys), DIM)).astype(np.float32)))
    if number % 3 == 0:
        offsets = np.arange(0, len(others) + 1, 5)
        said.append(table.lookup_pooled(others, offsets, timestamp=1000 + number))
        grads = rng.normal(size=(len(offsets) - 1, DIM)).astype(np.float32)
        said.append(table.apply_pooled_gradients(others, offsets, grads))
    if number % 4 == 0:
        said.append(table.lookup(others, train=False))
        said.append(table.contains(others))
        said.append(table.counts(others))
    if number % 5 == 0:
        table.assign(others, rng.normal(size=(len(others), DIM)).astype(np.float32))
    if number % 7 == 0:
        said.append(table.erase(batch(rng, 40)))
    if number % 9 == 0 and table.eviction is not None:
        said.append(table.evict())
    said.append(len(table))
    return said


def everything(table: mxrec.Table) -> dict[str, NDArray[Any]]:
    """All rows by ascending key, with slots, frequencies, times and counts."""
    cursor, blocks = (0, 0), []
    while True:
        cursor, *block = table._engine.scan(cursor, 1000)
        blocks.append(block)
        if len(block[0]) == 0:
            break
    columns = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    order = np.argsort(columns[0])
    names = ("keys", "values", "slots", "frequency", "last_time")
    found = {name: column[order] for name, column in zip(names, columns, strict=True)}
    return {**found, "counts": table.counts(np.arange(UNIVERSE))}


def assert_same(found: Any, wanted: Any) -> None:
    """Both are the same to the last bit."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = list(found.values()), list(wanted.values())
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype and one.shape == other.shape
            assert one.tobytes() == other.tobytes()
        else:
            assert one == other


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def until_spilled(table: mxrec.Table) -> None:
    """Waits until memory holds no more rows than it should."""

    def within() -> bool:
        memory = table.stats()["tiers"]["memory"]
        return bool(memory["rows"] <= memory["capacity"])

    eventually(within)


def tier_files(path: Path) -> list[str]:
    """What SSD tiers have below a directory."""
    return sorted(name for name in os.listdir(path) if name.startswith("mxrec-ssd-"))
