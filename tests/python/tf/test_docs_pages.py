"""The Python blocks of documentation pages run, one after the other, as they are pasted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mxrec.tf as mx

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("page", ["keras", "serving", "tensorboard"])
def test_page(tmp_path, monkeypatch, page):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    mx.terminate_config_initializer()
    names: dict[str, object] = {"__name__": "__main__"}
    try:
        for number, block in enumerate(blocks):
            exec(compile(block, f"{page}.md, block {number}", "exec"), names)
    finally:
        mx.terminate_config_initializer()


def test_scripts_of_compat(tmp_path):
    """Each command of the page runs the script above it, whose name stands before its code."""
    text = (DOCS / "compat.md").read_text("utf-8")
    scripts = re.findall(r"`(\w+\.py)`[^`]*:\n\n```python\n(.*?)^```", text, re.M | re.S)
    for name, code in scripts:
        (tmp_path / name).write_text(code)
    commands = re.findall(r"^```sh\n(.*?)\n```", text, re.M | re.S)
    assert len(scripts) == len(commands) == 2
    outputs = []
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "python"
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        outputs.append(done.stdout.splitlines()[-1])
    found = re.fullmatch(r"rank 0 loss (\S+) rows 100", outputs[0])
    assert found and float(found[1]) < 0.5
    assert outputs[1] == "(10, 4) 10"
