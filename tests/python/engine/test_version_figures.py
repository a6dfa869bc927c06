"""Speed and size of saves, against their bars.

Slow, and they want a machine to themselves. Each prints its figures; $MXREC_FIGURES_DIR says on
which disk (default: that of the temporary directory), $MXREC_FIGURES_MINUTES for how long:
``pytest -m slow -s tests/python/engine/test_version_figures.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MINUTES = os.environ.get("MXREC_FIGURES_MINUTES", "10")


@pytest.fixture
def measure(tmp_path):
    """Measures in a new process, so that what others left in memory does not count."""

    def run(measurement: str, argument: object) -> dict[str, float]:
        program = Path(__file__).with_name("version_figures.py")
        directory = os.environ.get("MXREC_FIGURES_DIR", str(tmp_path))
        done = subprocess.run(
            [sys.executable, program, measurement, directory, str(argument)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=3500,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        print(f"\n{measurement} {argument}:")
        for name, value in figures.items():
            print(f"  {name:32} {value:,.4g}" if abs(value) < 1000 else f"  {name:32} {value:,.0f}")
        return figures

    return run


def test_a_delta_of_5_percent_is_small_and_fast(measure):
    figures = measure("delta_of_a_part", 5_000_000)
    assert figures["bytes, delta / full"] <= 0.1
    assert figures["seconds, delta / full"] <= 0.1


def test_full_versions_are_written_and_read_at_the_disks_rate(measure):
    figures = measure("rates", 2)
    assert figures["save / write"] >= 0.6
    assert figures["load / read"] >= 0.6


@pytest.mark.parametrize("kind", ["full", "delta"])
def test_a_save_delays_no_call(measure, kind):
    figures = measure("calls_beside_a_save", kind)
    assert figures["steps beside"] > 20
    assert figures["ms more, worst lookup"] <= 50
    assert figures["ms more, worst apply"] <= 50


def test_streaming_training_with_deltas(measure):
    assert measure("streaming", MINUTES)["with / without"] >= 0.9
