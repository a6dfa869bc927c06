"""``--memory-rows``, ``--ssd-rows`` and ``--ssd-paths`` of ``mxrec train`` and ``demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorflow_support import needs_tensorflow

from mxrec.cli import main


def write_csv(path: Path, rows: int = 3000) -> Path:
    """Clicks on 500 items, most of them seldom, by 7 groups."""
    lines = ["item,group,clicked"]
    lines += [f"item {n * n % 499},group {n % 7},{int(n * n % 97 < 30)}" for n in range(rows)]
    path.write_text("\n".join(lines))
    return path


def train(data: Path, out: Path, *arguments: object) -> int:
    return main(
        [
            *("train", "--data", str(data), "--label", "clicked", "--out", str(out)),
            *("--no-plot", "--plain", *map(str, arguments)),
        ]
    )


def result_of(out: Path) -> Any:
    return json.loads((out / "result.json").read_text())


@needs_tensorflow
def test_tiers_change_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "clicks.csv", 1500)
    disks = [tmp_path / name for name in ("a", "b", "c")]
    for disk in disks:
        disk.mkdir()
    assert train(data, tmp_path / "plain", "--epochs", 2, "--no-rewrite") == 0
    capsys.readouterr()
    tiers = ("--memory-rows", 40, "--ssd-rows", "1_000", "--ssd-paths", *disks[:2])
    out = tmp_path / "out"
    assert train(data, out, "--epochs", 2, *tiers) == 0
    shown = capsys.readouterr().out

    plain, result = result_of(tmp_path / "plain"), result_of(out)
    for figure in ("evaluation", "restored", "history"):
        assert result[figure] == plain[figure]
    items, groups = result["tables"]
    assert items["rows"] == plain["tables"][0]["rows"] > 200
    memory, ssd = (items["tiers"]["tiers"][tier] for tier in ("memory", "ssd"))
    assert memory["rows"] + ssd["rows"] == items["rows"]
    assert (memory["capacity"], ssd["capacity"]) == (40, 1000)
    assert ssd["rows"] > 100 and memory["promoted"] > 0
    assert items["tier_advice"][0].startswith("raise memory_rows")
    assert groups["tiers"]["tiers"]["ssd"]["rows"] == 0 and not groups["tier_advice"]
    assert "tiers" not in plain["tables"][0]
    lines = [cells for cells in map(str.split, shown.splitlines()) if cells[:1] == ["item"]]
    line = next(cells for cells in lines if "40" in cells)
    assert line[1:5] == [f"{memory['rows']:,}", "40", f"{ssd['rows']:,}", "1,000"]
    assert f"item: {items['tier_advice'][0]}" in shown

    # The directories are the running program's alone, and another one may do as well.
    assert not any(list(disk.iterdir()) for disk in disks)
    disks[1].rmdir()
    evaluate = ["evaluate", "--out", str(out), "--json"]
    assert main(evaluate) == 2
    assert f"--ssd-paths: there is no directory {disks[1]}" in capsys.readouterr().err
    assert main([*evaluate, "--ssd-paths", str(disks[2])]) == 0
    assert json.loads(capsys.readouterr().out) == result["evaluation"]
    assert main(["evaluate", "--out", str(tmp_path / "plain"), "--ssd-paths", "."]) == 2
    assert "has no rows on SSD" in capsys.readouterr().err


@needs_tensorflow
@pytest.mark.parametrize("rewrite", [(), ("--no-rewrite",)])
def test_a_full_table_says_what_to_raise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rewrite: tuple[str, ...]
) -> None:
    data = write_csv(tmp_path / "clicks.csv")
    assert train(data, tmp_path / "out", "--memory-rows", 100, *rewrite) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mxrec: error: table 'item' is full: its capacity is 100 rows, ")
    assert "none was inserted. Raise --memory-rows, or --ssd-rows" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ssd-rows", "5"], "--ssd-rows 5 needs --memory-rows"),
        (["--ssd-paths", "a", "b"], "--ssd-paths a b needs --ssd-rows"),
        (["--memory-rows", "9", "--ssd-paths", "a"], "--ssd-paths a needs --ssd-rows"),
        (["--memory-rows", "1"], "--memory-rows is 1; it must be in [2, 1000000000]"),
        (["--memory-rows", "9", "--ssd-rows", "2e9"], "--ssd-rows is '2e9'; it must be an integer"),
        (["--memory-rows", "9", "--ssd-rows", "9", "--ssd-paths", "none"], "--ssd-paths: there is"),
    ],
)
def test_sizes_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    data = write_csv(tmp_path / "clicks.csv", 300)
    assert train(data, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_tensorflow
def test_errors_of_disks_are_sentences() -> None:
    import tensorflow as tf

    from mxrec.cli.errors_of_tables import errors_of_tables
    from mxrec.errors import DataLossError

    node = "\n\t [[{{node item_lookup}}]]"
    for kind, expected, text in (
        (tf.errors.UnknownError, OSError, "table 'item': SSD path /mnt/a: No space left on device"),
        (tf.errors.DataLossError, DataLossError, "table 'item': segment 3 of /mnt/a is damaged"),
        (tf.errors.InvalidArgumentError, tf.errors.InvalidArgumentError, "an error of the model"),
    ):
        with pytest.raises(expected) as caught, errors_of_tables():
            raise kind(None, None, text + node)
        if expected is not kind:
            assert str(caught.value) == text
