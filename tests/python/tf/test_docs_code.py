"""The code of the pages runs as it stands, and the commands as they are pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "docs_program.py"
DOCS = Path(__file__).resolve().parents[3] / "docs"
BLOCKS = {
    "quickstart": 4,
    "migration-mxrec": 1,
    "migration-tensorflow": 3,
    "migration-tfra": 2,
    "cli": 4,
    "warm-start": 4,
    "incremental-checkpoints": 4,
    "tiers": 3,
    "admission-and-eviction": 2,
    "feature-spec-pipeline": 2,
    "gather-modes": 1,
    "half-precision": 1,
    "numpy-api": 1,
    "pooled-lookups": 1,
}


@pytest.mark.parametrize("page", BLOCKS)
def test_code_runs(page: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(DOCS / f"{page}.md")],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == f"blocks: {BLOCKS[page]}"


def test_what_is_left_out_says_why() -> None:
    comments = [
        comment
        for page in BLOCKS
        for comment in re.findall(r"^<!--.*-->$", (DOCS / f"{page}.md").read_text("utf-8"), re.M)
    ]
    assert comments == [
        "<!-- not run: installs -->",
        "<!-- not run: needs TFRA, whose wheel loads on TensorFlow 2.16 only -->",
        "<!-- not run: needs tf.estimator -->",
    ]
