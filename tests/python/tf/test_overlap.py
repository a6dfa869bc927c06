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


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: nothing can overlap")
def test_steps_overlap_with_the_keys_of_the_next():
    program = Path(__file__).with_name("overlap_program.py")
    done = subprocess.run(
        [sys.executable, program], stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    figures: dict[str, float] = json.loads(done.stdout)
    for name, value in figures.items():
        print(f"  {name:40} {value:.4g}")
    # The dense step costs as much as the key work.
    assert 0.8 <= figures["ms a step, the rest"] / figures["ms a batch, keys alone"] <= 1.4
    assert figures["rewritten / plain, steps/s"] >= 1.5
    assert figures["share of a step waiting for keys"] <= 0.05
