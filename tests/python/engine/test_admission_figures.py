"""Memory, errors and speed of admission and eviction, against their bars.

Slow, and those of speed want a machine to themselves. Each prints its figures:
``pytest -m slow -s tests/python/engine/test_admission_figures.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from admission_figures import DISTINCT, THRESHOLD

pytestmark = pytest.mark.slow


def measure(measurement: str, argument: object) -> dict[str, float]:
    """Measures in a new process, so that what others left in memory does not count."""
    program = Path(__file__).with_name("admission_figures.py")
    done = subprocess.run(
        [sys.executable, program, measurement, str(argument)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1500,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    print(f"\n{measurement} {argument}:")
    for name, value in figures.items():
        print(f"  {name:44} {value:,.4g}" if abs(value) < 1000 else f"  {name:44} {value:,.0f}")
    return figures


def test_rows_and_memory_of_a_long_tail_with_exact_counts():
    figures = measure("long_tail", "exact")
    assert figures["rows"] == figures["keys due"]
    assert figures["early"] == figures["due and not admitted"] == 0
    for kind in ("stats", "resident"):
        assert figures[f"bytes of counts, {kind}"] <= 32 * figures["keys refused"]


def test_rows_and_memory_of_a_long_tail_with_a_sketch():
    figures = measure("long_tail", "sketch")
    assert figures["bytes of counts, stats"] <= 4 * DISTINCT
    assert figures["bytes of counts, resident"] <= 4 * DISTINCT
    for c in range(1, THRESHOLD):
        bound = figures[f"  bound, mean over their blocks ({c})"]
        assert figures[f"early of those seen {c} times"] <= bound


@pytest.mark.parametrize("dim", [8, 16, 64])
def test_evicted_rows_give_their_memory_back_at_once(dim):
    figures = measure("evicted_memory", dim)
    assert figures["rows evicted"] > 4_400_000
    assert figures["fallen by, of the evicted rows' bytes"] >= 0.8


@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_admission_costs_little_where_all_keys_are_admitted(mode):
    assert measure("all_admitted", mode)["with / without"] >= 0.85


@pytest.mark.parametrize("capacity", ["growing", "full"])
def test_a_sweep_adds_little_to_any_step(capacity):
    figures = measure("steps_during_a_sweep", capacity)
    assert figures["ms of the trigger"] <= 20
    assert figures["ms added, worst"] <= 20
