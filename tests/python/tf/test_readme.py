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


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    kept = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s]+", "-", heading) for heading in kept}


def test_anchors_are_headings() -> None:
    broken = []
    for page in PAGES:
        for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
            target = page.parent / link if link else page
            if target.suffix == ".md" and anchor not in anchors_of(target):
                broken.append(f"{page.relative_to(ROOT)}: {link}#{anchor}")
    assert not broken


def test_links_lead_to_pages() -> None:
    pages = PAGES
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
