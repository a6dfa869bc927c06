"""Sizes of tables for TensorFlow programs: memory for 1 % of the rows, or for all of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 10_000


def sizes(path: Path | None) -> dict[str, Any]:
    """Options of ``create_table``.

    Args:
        path: of the SSD tier; None: there is none.
    """
    if path is None:
        return {"device_vocabulary_size": ROWS}
    small = ROWS // 100
    return {
        "device_vocabulary_size": 1,
        "host_vocabulary_size": small - 1,
        "ssd_vocabulary_size": ROWS - small,
        "ssd_data_path": [path],
    }


def assert_same(found: list[Any], wanted: list[Any]) -> None:
    """Arrays that are equal to the last bit."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_moved(table: Any) -> None:
    """Rows have left memory and come back."""
    tiers = table.stats()["tiers"]
    assert tiers["ssd"]["spilled"] > 0 and tiers["memory"]["promoted"] > 0


def until_spilled(table: Any) -> None:
    """Waits until memory holds no more rows than it should: another thread sees to it."""
    end = time.monotonic() + 30.0
    while (memory := table.stats()["tiers"]["memory"])["rows"] > memory["capacity"]:
        assert time.monotonic() < end
        time.sleep(0.005)


def files(path: Path) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith("mxrec-ssd-")]
