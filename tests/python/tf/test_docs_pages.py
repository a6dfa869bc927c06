"""The Python blocks of documentation pages run, one after the other, as they are pasted."""

from __future__ import annotations

import re
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
