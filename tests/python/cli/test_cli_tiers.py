"""mxrec inspect and export of tables with an SSD tier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tier_runs import DIM, everything, step, tier_files, tiered, until_spilled

import mxrec
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import saving
from mxrec.cli import main
from mxrec.cli.tier_report import tier_lines
from mxrec.errors import DataLossError


def report_of(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["inspect", *map(str, arguments), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["tables"]
    return dict(report)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[mxrec.Table, Path]:
    """A table that was saved in full and as a delta, and the directory of versions."""
    table = tiered(tmp_path, optimizer=mxrec.Adagrad(0.1))
    for number in range(12):
        step(table, number)
        if number % 6 == 5:
            mxrec.save(table, tmp_path / "versions", step=number, delta=True)
    return table, tmp_path / "versions"


def test_inspect_shows_tiers_and_what_to_raise(
    saved: tuple[mxrec.Table, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table, versions = saved
    report = report_of(capsys, versions, "--manifest-only")
    tiers, stats = report["tiers"]["tiers"], table.stats()
    assert report["tiers"]["updates"] == stats["updates"] == 16
    assert report["tiers"]["hits"] == stats["hits"]
    for tier, name in (("memory", "promoted"), ("ssd", "spilled"), ("ssd", "capacity")):
        assert tiers[tier][name] == stats["tiers"][tier][name] > 0
    assert tiers["memory"]["rows"] + tiers["ssd"]["rows"] == len(table)
    assert report["tier_advice"] == mxrec.tier_advice(stats)
    assert report["tier_advice"][0].startswith("raise memory_rows (host_vocabulary_size) to about")

    assert main(["inspect", str(versions), "--plain"]) == 0
    text = capsys.readouterr().out
    figures = mxrec.tier_figures(stats)
    assert figures is not None and figures.memory_hit_rate is not None
    assert f"{tiers['memory']['rows']:,} of 200 rows; SSD tier: {tiers['ssd']['rows']:,} of" in text
    assert f"{figures.memory_hit_rate:.1%} had their row in memory" in text
    assert "per step, of 16: " in text and f"advice: {report['tier_advice'][0]}" in text


def test_a_table_larger_than_memory_is_read_through_its_tiers(
    saved: tuple[mxrec.Table, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, versions = saved
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    report = report_of(capsys, versions)
    assert report["rows"] == len(table) and report["kind"] == "delta"
    assert report["stats"]["tiers"]["memory"]["capacity"] == 200
    assert main(["export", str(versions), "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "t.npz") as archive:
        wanted = everything(table)
        order = np.argsort(archive["keys"])
        np.testing.assert_array_equal(archive["keys"][order], wanted["keys"])
        np.testing.assert_array_equal(archive["values"][order], wanted["values"])
    assert main(["checkpoint", "compact", str(versions)]) == 0
    assert list(temporary.iterdir()) == []


def test_tables_in_memory_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mxrec.Table("t", DIM) as table:
        mxrec.save(table, tmp_path / "versions", step=1)
        table.save(tmp_path / "alone")
    for path in (tmp_path / "versions", tmp_path / "alone"):
        report = report_of(capsys, path)
        assert "tiers" not in report and report["stats"]["tiers"] is None
    data = json.loads(next((tmp_path / "versions").glob("*/*.json")).read_bytes()[:-27])
    assert "tiers" not in data


def test_lines_without_traffic(tmp_path: Path) -> None:
    with tiered(tmp_path) as table:
        lines = tier_lines({**table.stats(), "updates": 0}, [])
    assert lines[0].startswith("memory tier: 0 of 200 rows; SSD tier: 0 of 20,000 rows")
    assert lines[-1] == "advice: leave the sizes as they are"
    assert not any("looked up" in line or "per step" in line for line in lines)


def test_tiers_in_a_manifest_are_checked(tmp_path: Path) -> None:
    with tiered(tmp_path) as table:
        table.lookup(np.arange(1000))
        until_spilled(table)
        version = saving.VersionSave({"t": table._engine}, 3)
        manifest = version.write(str(tmp_path / "v"))
        version.finish(saved=True)
    path = str(tmp_path / "v")
    assert manifests.read(path) == manifest
    assert manifest.tiers["t"]["tiers"]["ssd"]["rows"] >= 800
    for tiers in ({"u": manifest.tiers["t"]}, {"t": {"tiers": {}}}, {"t": 1}, [1]):
        broken = manifests.Manifest(3, manifest.tables, tiers=tiers)  # type: ignore[arg-type]
        with pytest.raises(DataLossError, match="damaged: "):
            manifests.decode(broken.encode(), path)
    assert tier_files(tmp_path) == []
