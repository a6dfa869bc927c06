"""The code of the pages runs as it stands, and the commands as they are pasted."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from python_runs import last_line_of

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
    "graph-rewriting": 1,
    "half-precision": 1,
    "numpy-api": 1,
    "pooled-lookups": 1,
    "dynamic-shape-and-expansion": 3,
}
# Pages with code that is not run here: the tests that run it.
ELSEWHERE = {
    "compat": "tf/test_docs_pages.py",
    "keras": "tf/test_docs_pages.py",
    "serving": "tf/test_docs_pages.py",
    "tensorboard": "tf/test_docs_pages.py",
    "format-checkpoint": "engine/test_format_page.py",
    "format-sparse-directory": "engine/test_version_page.py",
    "zh/README": "test_docs.py",  # the code of the English page
    "zh/quickstart": "test_docs.py",
    "zh/migration": "test_docs.py",
}
# Pages whose code is nowhere run as it stands, and why.
NOT_RUN = {
    "demo": "trains for a minute; cli/test_cli_train_tiers.py trains so on less data",
    "benchmarks": "measures for half an hour; cli/test_cli_bench.py does on tiny sizes",
    "performance": "measures for minutes, on a disk of its own, or with tools like perf",
}
# The front page keeps the form of README.md: its commands are indented.
INDENTED = {"zh/README"}
FENCE = re.compile(r"^```(\S+)", re.MULTILINE)


def test_every_page_with_code_is_known() -> None:
    languages = {
        str(path.relative_to(DOCS).with_suffix("")): set(FENCE.findall(path.read_text("utf-8")))
        for path in DOCS.rglob("*.md")
    }
    assert set.union(*languages.values()) == {"python", "sh", "ini"}
    with_code = {page for page, found in languages.items() if found}
    assert sorted([*BLOCKS, *ELSEWHERE, *NOT_RUN]) == sorted(with_code)
    tests = Path(__file__).parents[1]
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (tests / test).read_text("utf-8"), f"{test} does not name {page}"


def test_code_is_fenced() -> None:
    """Indented code would be neither known nor run here."""
    indented = []
    for path in sorted(DOCS.rglob("*.md")):
        if str(path.relative_to(DOCS).with_suffix("")) in INDENTED:
            continue
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        # Below an item of a list, four spaces are its next paragraph.
        found = re.findall(r"^(?![-*\d ])[^\n]*\n\n((?: {4}|\t)\S.*)", text, re.M)
        indented += [f"{path.name}: {line}" for line in found]
    assert not indented


@pytest.mark.parametrize("page", NOT_RUN)
def test_commands_that_are_not_run_parse(page: str) -> None:
    from mxrec.cli.arguments import make_parser

    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / f"{page}.md").read_text("utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for line in block.replace("\\\n", "").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            if program == "mxrec" or program == "./run":
                make_parser().parse_args(arguments)
            elif program.startswith("build/bench/benchmarks/"):
                assert Path(program).name in (DOCS.parent / "benchmarks/CMakeLists.txt").read_text()


@pytest.mark.parametrize("page", BLOCKS)
def test_code_runs(page: str, tmp_path: Path) -> None:
    last = last_line_of([str(PROGRAM), str(DOCS / f"{page}.md")], tmp_path)
    assert last == f"blocks: {BLOCKS[page]}"


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
        "<!-- not run: measures for minutes -->",
    ]
