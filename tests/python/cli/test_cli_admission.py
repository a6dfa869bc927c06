"""``--admission`` and ``--evict-after``: two models, their figures side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tensorflow_support import needs_tensorflow

from mxrec import _mxrec
from mxrec.cli import main, report
from mxrec.cli.config import ModelConfig
from mxrec.cli.history import History

pytestmark = needs_tensorflow

FIGURES = ("rows", "seen", "admitted", "refused", "evicted")


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "--plain"]) == 0


def result_of(out: Path) -> Any:
    return json.loads((out / "result.json").read_text())


def total(result: dict[str, Any], figure: str) -> int:
    return sum(table[figure] for table in result["tables"])


def evaluate_again(out: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main(["evaluate", "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Sums of ``stats()`` of all tables, one for each model, as they were when it was trained."""
    taken: list[dict[str, int]] = []
    read = report.table_reports

    def take(names: Iterable[str]) -> list[report.TableReport]:
        names = list(names)
        tables = [_mxrec.find_table(name) for name in names]
        each = [table.stats() for table in tables if table is not None]
        assert len(each) == len(names)
        sums = {name: sum(one[name] for one in each) for name in FIGURES if name != "seen"}
        sums["seen"] = sum(one["hits"] + one["misses"] for one in each)
        sums["bytes"] = sum(
            one[f"bytes_{kind}"]
            for one in each
            for kind in ("rows", "metadata", "index", "admission")
        )
        taken.append(sums)
        return read(names)

    monkeypatch.setattr("mxrec.cli.workflow.table_reports", take)
    return taken


def test_demo_shows_both_models(
    tmp_path: Path, stats: list[dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    demo = ("demo", "--impressions", 20_000, "--batch-size", 500, "--out", out)
    run(*demo, "--admission", 3, "--evict-after", 60)
    shown = capsys.readouterr().out
    result = result_of(out)
    without = result["without"]

    # Fewer rows, because keys were refused and rows evicted; nothing of that without the options.
    assert total(result, "rows") < total(without, "rows") / 2
    assert total(result, "refused") > 0
    assert total(result, "evicted") > 0
    assert total(without, "refused") == total(without, "evicted") == 0
    assert total(without, "rows") == total(without, "admitted")
    assert total(result, "rows") == total(result, "admitted") - total(result, "evicted")
    assert total(result, "lookups") == total(without, "lookups") == 26 * 18_000
    for one in (result, without):
        assert one["history"]["table_rows"][-1] == total(one, "rows")
        assert one["history"]["rows"][-1] == 18_000
        assert one["evaluation"]["rows"] == 2000
        assert 0.5 < one["evaluation"]["auc"] < result["bayes_auc"]

    # The table's figures are those of stats().
    before, after = stats
    for name, sums, one in (("without", before, without), ("with", after, result)):
        line = next(cells for cells in map(str.split, shown.splitlines()) if cells[:1] == [name])
        number, unit, *counts, auc = line[2:]
        figures = dict(zip(FIGURES, [line[1], *counts], strict=True))
        assert figures == {figure: f"{sums[figure]:,}" for figure in FIGURES}
        assert f"{number} {unit}" == report.human_bytes(sums["bytes"])
        assert sums["bytes"] == total(one, "bytes")
        assert auc == f"{one['evaluation']['auc']:.6f}"

    # Both are finished runs: a process that has only the checkpoint finds the same.
    assert "Identical to the last digit." in shown
    assert result["restored"] == result["evaluation"]
    assert evaluate_again(out, capsys) == result["evaluation"]
    assert evaluate_again(out / "without", capsys) == without["evaluation"]
    for name in ("training.png", "comparison.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")

    # What a run without the options does not have goes with the run that it was of.
    run(*demo, "--impressions", 1000)
    assert "without" not in result_of(out)
    assert not (out / "without").exists()
    assert not (out / "comparison.png").exists()


def test_rules_that_never_apply_change_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = ("demo", "--impressions", 5000, "--batch-size", 500, "--out", out, "--no-plot")
    run(*demo, "--admission", 1, "--evict-after", 10_000)
    result = result_of(out)
    # Every prediction is the same: data, order and initial values are.
    assert result["evaluation"] == result["without"]["evaluation"]
    assert result["history"] == result["without"]["history"]
    assert total(result, "evicted") == total(result, "refused") == 0


def write_csv(path: Path) -> Path:
    """Clicks on items of which each is shown for 40 s and then never again."""
    lines = ["at,item,group,clicked"]
    lines += [
        f"{5000 + n // 5},item {n // 200},group {n % 7},{int(n * n % 97 < 30)}" for n in range(3000)
    ]
    path.write_text("\n".join(lines))
    return path


def test_train_ages_by_the_timestamp_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_csv(tmp_path / "clicks.csv"), tmp_path / "out"
    train = ("train", "--data", data, "--label", "clicked", "--out", out, "--no-plot")
    run(*train, "--timestamp-column", "at", "--evict-after", 100)
    assert "timestamps in at" in (shown := capsys.readouterr().out)
    assert "wall clock" not in shown
    assert "1 pass;" in shown
    result = result_of(out)
    items, groups = result["tables"]
    # 2,700 rows in 540 s are of 14 items. The last trigger is at most two batches of 128 rows old.
    assert items["admitted"] == 14
    assert items["rows"] in (3, 4)
    assert items["evicted"] == 14 - items["rows"]
    # What keeps coming stays.
    assert (groups["rows"], groups["evicted"]) == (7, 0)
    assert evaluate_again(out, capsys) == result["evaluation"]


def test_train_without_timestamps_ages_by_the_wall_clock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_csv(tmp_path / "clicks.csv"), tmp_path / "out"
    train = ("train", "--data", data, "--label", "clicked", "--out", out, "--no-plot")
    run(*train, "--evict-after", 3600, "--epochs", 1)
    assert "no timestamps: ages count by the wall clock" in capsys.readouterr().out
    assert total(result_of(out), "evicted") == 0


@pytest.mark.parametrize("auc", [[0.5, 0.6], [float("nan"), 0.6], [float("nan")] * 2])
def test_plot_of_models_that_are_equal(tmp_path: Path, auc: list[float]) -> None:
    pytest.importorskip("matplotlib")
    from mxrec.cli.plots import Curve, plot_comparison

    curve = Curve("a", History([100, 200], [0.7, 0.6], auc, [0, 10]), auc[-1])
    path = tmp_path / "a.png"
    plot_comparison(curve, curve, path, title="title", subtitle="subtitle", bayes_auc=0.8)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_rules_in_words() -> None:
    config = ModelConfig(0, ("a",), admission=5, evict_after=3600)
    assert config.rules() == "admission 5 and eviction after 3,600 s"
    assert ModelConfig(0, ("a",), evict_after=0).rules() == "eviction after 0 s"
    assert ModelConfig(0, ("a",)).rules() is None
