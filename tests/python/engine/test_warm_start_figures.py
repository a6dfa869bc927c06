"""The speed of a warm start, against its bar.

The bar is of a slow test that wants a machine to itself:
``pytest -m slow -s tests/python/engine/test_warm_start_figures.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def measure(rows: int) -> dict[str, float]:
    """Measures in a new process; prints the figures."""
    program = Path(__file__).with_name("warm_start_figures.py")
    done = subprocess.run(
        [sys.executable, program, str(rows)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    print(f"\n{rows} rows:")
    for name, value in figures.items():
        print(f"  {name:40} {value:.3f}")
    return figures


def test_figures_can_be_measured():
    figures = measure(2_000)
    ratios = [name for name in figures if name.endswith("/ restore")]
    assert len(ratios) == 3 and len(figures) == 7
    assert all(value > 0 for value in figures.values())


@pytest.mark.slow
def test_a_table_of_5_million_rows_warm_starts_about_as_fast_as_it_is_restored():
    figures = measure(5_000_000)
    assert figures["warm start, slots kept / restore"] >= 0.8
    assert figures["warm start, merged / restore"] >= 0.8
