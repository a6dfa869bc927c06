"""The Python blocks of documentation pages run, one after the other, as they are pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from python_runs import last_line_of

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
        outputs.append(last_line_of(arguments, tmp_path))
    found = re.fullmatch(r"rank 0 loss (\S+) rows 100", outputs[0])
    assert found and float(found[1]) < 0.5
    assert outputs[1] == "(10, 4) 10"
