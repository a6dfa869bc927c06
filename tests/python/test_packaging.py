"""One version, exact pins, and a smoke test that runs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mxrec

ROOT = Path(__file__).resolve().parents[2]


def cmake_version() -> str:
    """The only place in which the version is written."""
    (version,) = re.findall(r"project\(mxrec VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    return version


def test_the_version_comes_from_one_place() -> None:
    assert mxrec.__version__ == cmake_version() == importlib.metadata.version("mxrec")
    assert f"\n## {cmake_version()}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    literal = re.compile(rf"\b{re.escape(cmake_version())}\b")
    sources = [ROOT / "pyproject.toml", ROOT / "run", ROOT / "README.md", ROOT / "mkdocs.yml"]
    for folder, suffixes in (("core", ".h .cc"), ("bindings", ".h .cc"), ("python", ".py")):
        sources += [p for p in (ROOT / folder).rglob("*") if p.suffix in suffixes.split()]
    assert [str(p) for p in sources if literal.search(p.read_text("utf-8"))] == []


def test_requirements_are_pinned_exactly() -> None:
    files = [*ROOT.glob("requirements*.txt"), *ROOT.glob("benchmarks/requirements*.txt")]
    assert len(files) >= 6
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            assert re.fullmatch(r"(#.*|[\w.\[\],-]+==[\w.]+)?", line.strip()), (
                f"{file.name}: {line}"
            )


def test_released_wheels_are_tried_on_each_tensorflow() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    tried = set(re.findall(r'tensorflow: "([\d.]+)"', workflow))
    assert tried == {"2.15.1", "2.16.2", "2.18.1", "2.21.0"}
    newest = (ROOT / "requirements-test-newest.txt").read_text("utf-8")
    assert {"2.15.1", *re.findall(r"tensorflow-cpu==(\S+)", newest)} <= tried


def test_the_extra_brings_a_tensorflow_that_is_tested() -> None:
    """From the oldest to the newest, and what messages and pages advise is the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extra,) = project["optional-dependencies"]["tensorflow"]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    tried = [int(minor) for minor in re.findall(r'tensorflow: "2\.(\d+)\.\d+"', workflow)]
    assert extra == f"tensorflow-cpu>=2.{min(tried)},<2.{max(tried) + 1}"
    texts = [*(ROOT / "python" / "mxrec").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    found = [
        (path.name, advice)
        for path in texts
        for advice in re.findall(r"tensorflow-cpu[<>][^'\"`]+", path.read_text("utf-8"))
    ]
    assert len(found) >= 3
    assert [where for where in found if where[1] != extra] == []


def jobs_of(workflow: str) -> dict[str, str]:
    """The text of each job of a workflow."""
    text = (ROOT / ".github" / "workflows" / workflow).read_text("utf-8")
    parts = re.split(r"^  ([\w-]+):\n", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_all_tests_run_every_night() -> None:
    text = (ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8")
    assert re.search(r'^  schedule:\n    - cron: "\d+ \d+ \* \* \*"$', text, re.MULTILINE)
    (job,) = jobs_of("nightly.yml").values()
    assert "- run: bash run test-all\n" in job


@pytest.mark.parametrize(("workflow", "job"), [("ci.yml", "test"), ("nightly.yml", "test-all")])
def test_no_test_is_skipped_for_want_of_clang(workflow: str, job: str) -> None:
    steps = jobs_of(workflow)[job]
    install, _, run = steps.partition("- run: bash run test")
    assert run and "apt-get install" in install and "$(cat debian-packages-lint.txt)" in install
    assert "clang-16" in (ROOT / "debian-packages-lint.txt").read_text("utf-8").split()
    needs_it = ROOT / "tests" / "python" / "test_thread_safety.py"
    assert 'which("clang++-16")' in needs_it.read_text("utf-8")


def test_actions_are_pinned_alike() -> None:
    """One version of each action, in all workflows."""
    versions: dict[str, set[str]] = {}
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for action, version in re.findall(r"uses: (\S+)@(\S+)", path.read_text("utf-8")):
            versions.setdefault(action, set()).add(version)
    assert versions and all(len(found) == 1 for found in versions.values()), versions


def test_the_smoke_test_runs() -> None:
    script = ROOT / "tests" / "smoke" / "smoke.py"
    done = subprocess.run(
        [sys.executable, str(script), "--numpy"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"ok: mxrec {mxrec.__version__}, NumPy ")
