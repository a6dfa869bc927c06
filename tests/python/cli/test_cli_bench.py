"""``mxrec bench`` from end to end, in tiny sizes and without peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow_support import has_tensorflow

from mxrec.bench import sides, timing, workload
from mxrec.cli import main

LAWS = ("zipf 0.8", "zipf 1.05", "zipf 1.2", "uniform")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mxrec.cli", "bench", "--plain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_writes_report_plots_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, figures = tmp_path / "sub" / "report.md", tmp_path / "other" / "figures.json"
    done = run(
        "--smoke", "--groups", "table", "--peers", "--report", report, "--json", figures,
        "--commit", "abc123",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = report.read_text("utf-8")
    for part in ("# Benchmark report", "## Bars", "## Machine and versions", "abc123", "smoke run"):
        assert part in text
    for law in LAWS:
        assert f"| lookup {law} | Mkeys/s |" in text
    assert "| insert | worst batch ms |" in text
    # Links resolve from the report, and every one leads to a PNG.
    links = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert "images/bench-throughput.png" in links
    assert "images/bench-insert.png" in links
    for link in links:
        assert (report.parent / link).read_bytes().startswith(b"\x89PNG")
    result = json.loads(figures.read_text())
    assert result["kind"] == "smoke"
    sides = result["groups"]["table"]
    assert set(sides) == {"mxrec"}
    measured = sides["mxrec"]["figures"]
    assert set(measured) == set(workload.CASES["table"])
    for law in LAWS:
        assert set(measured[f"lookup {law}"]) == {
            timing.THROUGHPUT,
            timing.HOT_OFF,
            timing.HOT_GAIN,
        }
    assert timing.TRAINING_SHARE in measured["training lookup uniform"]
    for units in measured.values():
        for values in units.values():
            assert len(values) == result["rounds"] == 2
            assert all(value > 0 for value in values)
    batches = -(-result["config"]["rows"] // result["config"]["batch"])
    assert len(sides["mxrec"]["latencies_ms"]["insert"]) == batches


@pytest.mark.skipif(not has_tensorflow(), reason="needs TensorFlow")
def test_sessions_and_steps_beside_stock_tensorflow(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = run(
        "--smoke", "--rounds", 1, "--groups", "session", "step", "--peers", "tf", "--no-plot",
        "--report", tmp_path / "report.md", "--json", figures,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    groups = json.loads(figures.read_text())["groups"]
    for side in ("mxrec", "tf"):
        session, step = (groups[group][side]["figures"] for group in ("session", "step"))
        assert set(session) == {"session lookup zipf 1.05", "session lookup uniform"}
        assert {"step adagrad", "step adam"} <= set(step) <= set(workload.CASES["step"])
    assert set(groups["step"]["mxrec"]["figures"]) == set(workload.CASES["step"])
    assert not (tmp_path / "images").exists()


def test_a_case_that_does_not_exist_is_refused_before_tables_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.md"

    def start(*_: object) -> None:
        raise AssertionError("a side was started")

    monkeypatch.setattr(sides, "_running", start)
    arguments = ["bench", "--groups", "table", "--peers", "--report", str(report), "--cases"]
    assert main([*arguments, "insert", "insrt"]) == 2 and not report.exists()
    message = capsys.readouterr().err
    assert "--cases insrt: no case has such a name; there are: lookup zipf 0.8, " in message
    assert ", insert, insert by lookup. Nothing was measured" in message


def test_a_peer_that_is_not_installed_is_left_out(tmp_path: Path) -> None:
    # This very interpreter has no TFRA.
    report = tmp_path / "report.md"
    done = run(
        "--smoke", "--rounds", 1, "--groups", "table", "--cases", "insert", "--peers", "tfra",
        "--peer-python", sys.executable, "--no-plot", "--report", report,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lookups and inserts, TFRA: No module named 'te" in report.read_text("utf-8")


def test_what_cannot_be_drawn_leaves_report_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, figures = tmp_path / "report.md", tmp_path / "figures.json"
    (tmp_path / "images").write_text("a file where the folder should be")
    done = run(
        "--smoke", "--rounds", 1, "--groups", "table", "--cases", "insert", "--peers",
        "--report", report, "--json", figures,
    )  # fmt: skip
    assert done.returncode == 1
    assert "mxrec: failed: plots: FileExistsError" in done.stderr
    assert "- failed: plots: FileExistsError" in report.read_text("utf-8")
    assert "insert" in json.loads(figures.read_text())["groups"]["table"]["mxrec"]["figures"]


def test_a_side_that_ends_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho these are my last words >&2\nexit 7\n")
    broken.chmod(0o755)
    report = tmp_path / "report.md"
    done = run(
        "--smoke", "--rounds", 1, "--groups", "table", "--cases", "insert", "--peers", "tfra",
        "--peer-python", broken, "--no-plot", "--report", report,
    )  # fmt: skip
    assert done.returncode == 1
    assert "tfra: the worker ended with status 7" in done.stderr
    assert "these are my last words" in report.read_text("utf-8")
    assert "| insert | Mkeys/s |" in report.read_text("utf-8"), "the other sides go on"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quick", "--smoke"], "not allowed with"),
        (["--rounds", "0"], "--rounds is 0; it must be in [1, 1000]"),
        (["--rows", "many"], "--rows is 'many'; it must be an integer"),
        (["--groups", "nothing"], "nothing"),
    ],
)
def test_arguments_are_checked(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err
