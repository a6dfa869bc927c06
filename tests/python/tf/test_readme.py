"""README.md keeps its promises: the examples run, and there are two set-up-and-run commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number: int, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_examples_and_commands_are_there() -> None:
    assert len(EXAMPLES) == 2
    assert re.findall(r"^    (\./run \S+)", README, re.MULTILINE) == ["./run demo", "./run test"]


def test_links_lead_to_pages() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    links = {
        page: re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")) for page in pages
    }
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page, found in links.items()
        for link in found
        if not (page.parent / link).exists()
    ]
    assert not broken
