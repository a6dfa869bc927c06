"""Runs programs of examples/ in one new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
RUNNER = Path(__file__).with_name("examples_program.py")


def execute(*programs: str, timeout: float = 240) -> list[dict[str, Any]]:
    """What each program reported.

    Args:
        programs: names and arguments, as on a command line without spaces in its words.
        timeout: seconds for all of them.
    """
    words = " -- ".join(programs).split()
    result = subprocess.run(
        [sys.executable, str(RUNNER), str(EXAMPLES), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert result.returncode == 0, result.stderr
    reports: list[dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return reports
