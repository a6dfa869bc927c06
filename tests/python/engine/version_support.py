"""What the tests of versions share: a state to compare, damage, and a process that dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contents import contents

import mxrec
from mxrec.checkpoints import files

DIM = 3


class Killed(BaseException):
    """What a test has in place of SIGKILL: nothing is done on disk after it."""


class Killer:
    """Stops a save before its n-th operation on disk, and all later ones; 0: never."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.operations: list[tuple[str, str]] = []

    def __call__(self, operation: str, path: str) -> None:
        self.operations.append((operation, path))
        if self.at and len(self.operations) >= self.at:
            raise Killed(f"{operation} {path}")


@contextlib.contextmanager
def killed(at: int) -> Iterator[Killer]:
    """Runs the body as a process that is killed before its ``at``-th operation on disk."""
    killer = Killer(at)
    with files.watched(killer), contextlib.suppress(Killed):
        yield killer


def make_table(name: str, **options: Any) -> mxrec.Table:
    options.setdefault("optimizer", mxrec.LazyAdam(0.1))
    return mxrec.Table(name, DIM, seed=7, **options)


def train(table: mxrec.Table, step: int, size: int = 20, universe: int = 60) -> None:
    """One step; its batch depends on the table's name and the step alone."""
    rng = np.random.default_rng([step, sum(table.name.encode())])
    keys = rng.integers(0, universe, size)
    rows = table.lookup(keys, timestamp=step)
    table.apply_gradients(keys, rows - rng.normal(size=rows.shape).astype(np.float32))
    if step % 3 == 0:
        table.erase(rng.integers(0, universe, 3))


def state(tables: Sequence[mxrec.Table]) -> dict[str, Any]:
    """Everything that a version holds of tables."""
    found: dict[str, Any] = {}
    for table in tables:
        for field, column in contents(table)._asdict().items():
            found[f"{table.name}/{field}"] = column.tobytes()
        found[f"{table.name}/step"] = table.stats()["optimizer_step"]
        found[f"{table.name}/counts"] = table.counts(np.arange(-5, 100)).tobytes()
    return found


def fresh(tables: Sequence[mxrec.Table]) -> list[mxrec.Table]:
    """Empty tables with the same options, of another number of shards."""
    return [
        mxrec.Table(
            t.name,
            t.dim,
            optimizer=t.optimizer,
            seed=t.seed,
            num_shards=4,
            admission=t.admission,
            eviction=t.eviction,
        )
        for t in tables
    ]


def flip(path: str | Path, at: int | None = None, bit: int = 0) -> None:
    """Flips a bit of a file; of the byte in the middle by default."""
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1 << bit
    Path(path).write_bytes(data)


def data_file(version: str, table: str) -> str:
    """The largest file with rows of a table in a version."""
    found = (Path(version) / table).glob("data-*")
    return str(max(found, key=lambda path: path.stat().st_size))


def names(directory: str | Path) -> list[str]:
    return sorted(os.listdir(directory))
