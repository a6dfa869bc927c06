"""What it is worth that keys are handled while the previous step trains, against its bars.

Slow, and wants a machine of two processors to itself:
``pytest -m slow -s tests/python/tf/test_overlap.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


one_processor = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one processor: nothing can overlap"
)


def figures_of(*arguments: str | Path, **environment: str) -> dict[str, float]:
    program = Path(__file__).with_name("overlap_program.py")
    done = subprocess.run(
        [sys.executable, program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, **environment},
    )
    figures: dict[str, float] = json.loads(done.stdout)
    for name, value in figures.items():
        print(f"  {name:40} {value:.4g}")
    return figures


@one_processor
def test_steps_overlap_with_the_keys_of_the_next():
    figures = figures_of()
    # The dense step costs as much as the key work.
    assert 0.8 <= figures["ms a step, the rest"] / figures["ms a batch, keys alone"] <= 1.25
    assert figures["rewritten / plain, steps/s"] >= 1.5
    assert figures["share of a step waiting for keys"] <= 0.05


@one_processor
def test_steps_overlap_with_the_reads_of_a_slow_tier(tmp_path: Path):
    figures = figures_of(tmp_path, MXREC_SSD_READ_DELAY_MICROS="2000")
    assert figures["rewritten / plain, steps/s"] >= 3
