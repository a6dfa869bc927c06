"""Measures how fast a table is warm-started, beside a plain restore of the same checkpoint.

python warm_start_figures.py ROWS: prints the figures, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mxrec
from mxrec import _mxrec

DIM = 16
ROUNDS = 8
BATCH = 65_536


def empty_table() -> _mxrec.Table:
    """What is warm-started, or restored."""
    return mxrec.Table("t", DIM, optimizer=mxrec.Adagrad(0.1))._engine


def write_source(directory: Path, rows: int) -> list[str]:
    """A saved table of so many rows with slots; keys are anywhere."""
    rng = np.random.default_rng(7)
    keys = rng.integers(-(2**62), 2**62, size=rows)
    with mxrec.Table("t", DIM, optimizer=mxrec.Adagrad(0.1)) as source:
        for begin in range(0, rows, BATCH):
            part = keys[begin : begin + BATCH]
            values = source.lookup(part, timestamp=1)
            source.apply_gradients(part, np.ones_like(values))
        source.save(directory / "full")
    return [str(directory / "full")]


def warm_start(table: _mxrec.Table, dirs: list[str], **options: str) -> None:
    rows = _mxrec.WarmStart(table)
    rows.add_checkpoint(dirs, **options)
    rows.commit()


def loading(rows: int) -> dict[str, float]:
    """Medians of loading into an empty table, in ways that take turns."""
    ways: dict[str, Callable[[_mxrec.Table, list[str]], object]] = {
        "restore": lambda table, dirs: table.restore(dirs[0]),
        "warm start, slots kept": lambda table, dirs: warm_start(table, dirs),
        "warm start, slots reset": lambda table, dirs: warm_start(table, dirs, slots="reset"),
        "warm start, merged": lambda table, dirs: warm_start(table, dirs, mode="merge"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="mxrec-warm-start-") as made:
        dirs = write_source(Path(made), rows)
        for round_ in range(ROUNDS + 1):
            first = round_ % len(ways)
            for way in [*ways][first:] + [*ways][:first]:
                table = empty_table()
                began = time.perf_counter()
                ways[way](table, dirs)
                took = time.perf_counter() - began
                assert len(table) == rows
                table.close()
                if round_ > 0:  # the first one reads the files into the page cache
                    seconds[way].append(took)
    medians = {way: float(np.median(each)) for way, each in seconds.items()}
    figures = {f"M rows/s, {way}": rows / 1e6 / median for way, median in medians.items()}
    return figures | {
        f"{way} / restore": medians["restore"] / median
        for way, median in medians.items()
        if way != "restore"
    }


if __name__ == "__main__":
    json.dump(loading(int(sys.argv[1])), sys.stdout, indent=1)
