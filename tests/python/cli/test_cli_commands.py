"""``mxrec demo``, ``mxrec train`` and ``mxrec evaluate``, each in a process of its own."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorflow_support import needs_tensorflow

from mxrec.cli import main
from mxrec.cli.config import ModelConfig, RunConfig
from mxrec.cli.criteo_reader import CriteoReader
from mxrec.cli.examples import Examples, NumericScaler
from mxrec.cli.lines import DataError
from mxrec.cli.sources import SyntheticSource


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mxrec.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@needs_tensorflow
def test_demo(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    done = run("demo", "--impressions", 20_000, "--batch-size", 500, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Identical to the last digit." in done.stdout
    assert "hit rate" in done.stdout
    gain = re.search(
        r"Keys of coming batches are prepared in the input pipeline: ([\d.]+)\s+steps/s instead of "
        r"([\d.]+)\s+on data in memory\s+\(([\d.]+)\s+times\)\.",
        " ".join(done.stdout.split()),
    )
    assert gain is not None, done.stdout
    rewritten, plain, times = map(float, gain.groups())
    assert rewritten > 0 and plain > 0
    assert times == pytest.approx(rewritten / plain, abs=0.02 + 0.1 / plain)
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((out / "result.json").read_text())
    assert result["evaluation"] == result["restored"]
    assert result["evaluation"]["rows"] == 2000
    assert 0.5 < result["evaluation"]["auc"] < result["bayes_auc"] < 0.9
    assert math.isfinite(result["evaluation"]["log_loss"])
    tables = {table["name"]: table for table in result["tables"]}
    assert len(tables) == 26
    assert tables["C9"]["rows"] == 3
    assert tables["C3"]["rows"] > 3000
    assert result["history"]["table_rows"][-1] == sum(table["rows"] for table in tables.values())
    assert result["history"]["rows"][-1] == 18_000

    again = run("evaluate", "--out", out, "--json")
    assert json.loads(again.stdout.splitlines()[-1]) == result["evaluation"]

    # A checkpoint that does not hold what was trained is never passed over.
    part = max(
        (out / "model").glob("sparse-*/C3/**/*"),
        key=lambda path: path.stat().st_size * path.is_file(),
    )
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 0x40
    part.write_bytes(content)
    damaged = run("evaluate", "--out", out, "--json")
    assert damaged.returncode != 0
    assert part.name in damaged.stderr


@needs_tensorflow
def test_train_on_a_criteo_file(tmp_path: Path) -> None:
    data = tmp_path / "clicks.tsv"
    SyntheticSource(6000, 1, 0.1).write_tsv(data)
    lines = data.read_bytes().splitlines(keepends=True)
    lines[99] = b"1\t2\n"
    data.write_bytes(b"".join(lines))
    out = tmp_path / "out"
    options = ["--epochs", 1, "--no-plot", "--plain", "--json"]
    done = run("train", "--data", data, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert "Identical to the last digit." in done.stderr
    assert "skipping 1 malformed line of 6,000. First: line 100: 2 fields" in done.stderr
    assert done.stdout == (out / "result.json").read_text()
    assert json.loads(done.stdout)["evaluation"]["rows"] == 600
    assert not (out / "training.png").exists()


@needs_tensorflow
def test_train_on_a_csv(tmp_path: Path) -> None:
    # A column may have any name, those that the model uses itself included.
    lines = ["hour,shop item,numeric,clicked"]
    lines += [
        f"{n % 24},item {n * n % 97},kind {n % 3},{'yes' if n * n % 97 < 30 else 'no'}"
        for n in range(3000)
    ]
    data = tmp_path / "clicks.csv"
    data.write_text("\n".join(lines))
    done = run("train", "--data", data, "--label", "clicked", "--out", tmp_path / "out", "--plain")
    assert done.returncode == 0, done.stderr
    assert "label clicked: 'no' is 0, 'yes' is 1" in done.stdout
    assert "shop_item" in done.stdout
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["evaluation"]["auc"] > 0.95


@needs_tensorflow
def test_bad_data_ends_with_file_and_line(tmp_path: Path) -> None:
    data = tmp_path / "bad.tsv"
    data.write_text("1\t2\n" * 50)
    done = run("train", "--data", data, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "bad.tsv: 50 of 50 lines are malformed" in done.stderr
    assert "line 1: 2 fields instead of 40" in done.stderr


@needs_tensorflow
def test_bad_lines_anywhere_end_it_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bad.tsv"
    SyntheticSource(4000, 1, 0.1).write_tsv(data)
    lines = data.read_bytes().splitlines(keepends=True)
    lines[2000:2100] = [b"oops\n"] * 100
    data.write_bytes(b"".join(lines))
    arguments = ["train", "--data", data, "--out", tmp_path / "out", "--no-plot", "--plain"]
    assert main(list(map(str, arguments))) == 2
    output = capsys.readouterr()
    message = "bad.tsv: 100 of 4,000 lines are malformed, more than 1%. First: line 2001"
    assert message in output.err
    assert "Traceback" not in output.err
    assert "Training" not in output.out


@needs_tensorflow
def test_data_lost_while_training_ends_it_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "clicks.tsv"
    SyntheticSource(4000, 1, 0.1).write_tsv(data)
    read = CriteoReader.read

    def lose_after_first_chunk(
        reader: CriteoReader, start: int = 0, stop: int | None = None
    ) -> Iterator[Examples]:
        yield next(read(reader, start, stop))
        raise DataError(f"{reader.path}, after line 1000: cannot read: gone")

    monkeypatch.setattr(CriteoReader, "read", lose_after_first_chunk)
    arguments = ["train", "--data", data, "--out", tmp_path / "out", "--no-plot", "--plain"]
    assert main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert "clicks.tsv, after line 1000: cannot read: gone" in error
    assert "Traceback" not in error


@needs_tensorflow
def test_a_directory_of_others_is_left_alone(tmp_path: Path) -> None:
    keep = tmp_path / "out" / "model" / "keep"
    keep.parent.mkdir(parents=True)
    keep.touch()
    done = run("demo", "--impressions", 1000, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "not from an earlier run" in done.stderr
    assert keep.exists()


@needs_tensorflow
def test_a_run_without_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run = RunConfig(
        SyntheticSource(1000, 1, 0.1).to_json(),
        NumericScaler((0.0,) * 13, (1.0,) * 13),
        ModelConfig(13, tuple(f"C{n}" for n in range(1, 27))),
        100,
    )
    out.mkdir()
    run.save(out)
    assert main(["evaluate", "--out", str(out)]) == 2
    assert f"{out / 'model'}: no checkpoint; train again" in capsys.readouterr().err


def test_missing_tensorflow_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mxrec.cli.requirements.find_spec", lambda name: None)
    for command in ("demo", "evaluate"):
        assert main([command, "--out", str(tmp_path / "out")]) == 3
        assert "pip install '.[tensorflow]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
