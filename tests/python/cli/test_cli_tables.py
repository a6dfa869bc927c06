"""``mxrec inspect`` and ``mxrec export`` on tables that are saved with and without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_support import has_tensorflow

import mxrec
from mxrec.cli import main

DIM = 4


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command prints, which is one JSON object and nothing else."""
    assert main([*map(str, arguments), "--json", "--plain"]) == 0
    return json.loads(capsys.readouterr().out)


def trained(rng: np.random.Generator, name: str, **options: Any) -> tuple[mxrec.Table, np.ndarray]:
    """A table after three steps at the times 1000 to 1002, and the keys of these steps."""
    table = mxrec.Table(name, DIM, optimizer=mxrec.LazyAdam(0.01), seed=5, **options)
    batches = rng.zipf(1.2, (3, 2000)) % 5000 - 50
    for time, keys in enumerate(batches, 1000):
        table.lookup(keys, timestamp=time)
        table.apply_gradients(keys, np.ones((len(keys), DIM), np.float32))
    return table, batches.ravel()


def checkpoint(directory: Path, step: int, *tables: mxrec.Table, age: int = 0) -> Path:
    """What a TensorFlow checkpoint has beside its dense half (docs/format-sparse-directory.md)."""
    sparse = directory / f"sparse-model-{step}"
    sparse.mkdir(parents=True)
    uids = {}
    for table in tables:
        table.save(sparse / table.name)
        lines = (sparse / table.name / "manifest").read_text().splitlines()
        uids[table.name] = json.loads("\n".join(lines[:-1]))["uid"]
    manifest = sparse / "checkpoint-manifest.json"
    fields = {"format": 1, "step": step, "dense_step": None, "dense_step_name": None}
    manifest.write_text(json.dumps({**fields, "tables": uids}))
    then = manifest.stat().st_mtime - age
    os.utime(manifest, (then, then))
    return directory / f"model-{step}"


def test_inspect_tells_what_was_trained(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, keys = trained(rng, "user", value_dtype="float16", memory_rows=50_000)
    table.save(tmp_path / "user")
    found = run_json(capsys, "inspect", tmp_path / "user")
    assert found["rows"] == len(table)
    (report,) = found["tables"]
    wanted = {"name": "user", "rows": len(set(keys)), "dim": DIM, "value_dtype": "float16"}
    wanted |= {"memory_rows": 50_000, "seed": 5, "optimizer_step": 3, "slots": ["m", "v"]}
    wanted |= {"key_min": keys.min(), "key_max": keys.max()}
    wanted |= {"negative_keys": len(set(keys[keys < 0])), "last_time_min": 1000}
    wanted |= {"last_time_max": 1002, "format_version": 2}
    assert {name: report[name] for name in wanted} == wanted
    assert report["optimizer"]["kind"] == "LazyAdam"
    assert report["optimizer"]["learning_rate"] == pytest.approx(0.01)
    assert report["stats"]["rows"] == len(table)
    files = (tmp_path / "user").iterdir()
    assert report["bytes_on_disk"] == sum(file.stat().st_size for file in files)
    counts = np.array(list(Counter(keys.tolist()).values()))
    bins = {(low, high): rows for low, high, rows in report["frequencies"]}
    assert sum(bins.values()) == len(counts)
    for (low, high), rows in bins.items():
        assert rows == np.count_nonzero((counts >= low) & (counts < high)) > 0


def test_inspect_shows_admission_and_eviction(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {"admission": mxrec.Admission(3), "eviction": mxrec.Eviction(max_age=500)}
    table, keys = trained(rng, "user", **rules)
    table.set_threshold(2)
    table.save(tmp_path / "user")
    counted = table.stats()["counted_keys"]
    assert counted == len(set(keys)) - len(table)
    assert main(["inspect", str(tmp_path / "user"), "--plain"]) == 0
    text = capsys.readouterr().out
    assert f"configured threshold 3, in force 2; {counted:,} keys counted, no row yet" in text
    assert "latest time 1002 (timestamps)" in text
    assert "eviction: max_age 500" in text
    report = run_json(capsys, "inspect", tmp_path / "user", "--manifest-only")["tables"][0]
    assert report["counts"] == counted
    assert report["admission_state"]["threshold"] == 2
    assert "frequencies" not in report and "stats" not in report


def test_an_empty_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mxrec.Table("none", DIM).save(tmp_path / "none")
    report = run_json(capsys, "inspect", tmp_path / "none")["tables"][0]
    assert (report["rows"], report["key_min"], report["frequencies"]) == (0, None, [])
    assert main(["inspect", str(tmp_path / "none")]) == 0
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path)]) == 0
    assert np.load(tmp_path / "none.npz")["values"].shape == (0, DIM)


def test_paths_that_mean_a_checkpoint(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user, _ = trained(rng, "user")
    item, _ = trained(rng, "item")
    old = checkpoint(tmp_path, 200, user, age=100)
    new = checkpoint(tmp_path, 100, user, item)  # newer in time, although its step is smaller
    (tmp_path / "sparse-model-300.tmp-host-1").mkdir()

    def names(path: Path) -> list[str]:
        found = run_json(capsys, "inspect", path, "--manifest-only")
        return [found["latest_of"], *(table["name"] for table in found["tables"])]

    assert names(tmp_path) == [2, "item", "user"]
    assert names(new) == [1, "item", "user"]
    assert names(old) == [1, "user"]
    assert names(tmp_path / "sparse-model-100") == [1, "item", "user"]
    assert names(tmp_path / "sparse-model-100" / "item") == [1, "item"]
    assert main(["inspect", str(tmp_path), "--plain"]) == 0
    assert "the newest of 2 checkpoints" in capsys.readouterr().out
    only = run_json(capsys, "inspect", tmp_path, "--table", "user", "--table", "user")
    assert [table["name"] for table in only["tables"]] == ["user"]


def test_the_directory_of_a_run_means_its_model(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _ = trained(rng, "user")
    mxrec.save(table, tmp_path / "model", step=7)
    (tmp_path / "run.json").write_text("{}")
    report = run_json(capsys, "inspect", tmp_path)
    assert Path(report["path"]).parent == tmp_path / "model"
    assert [each["name"] for each in report["tables"]] == ["user"]


def test_paths_of_files_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {
        "c.csv": "c.csv: is a file. Give what Table.save has written",
        "m-7.index": f"one file of a TensorFlow checkpoint; give its path prefix, {tmp_path}/m-7.",
        "absent": "absent: is not there. Give",
    }.items():
        if name != "absent":
            (tmp_path / name).write_text("a,b\n")
        assert main(["inspect", str(tmp_path / name)]) == 2
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--plain",), ("--json",)])
def test_output_that_nobody_reads_is_no_error(
    rng: np.random.Generator, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """As in ``mxrec inspect … | head``."""
    table, _ = trained(rng, "user")
    table.save(tmp_path / "user")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mxrec.cli", "inspect", str(tmp_path / "user"), *options],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 141
    assert "rror" not in done.stderr


@pytest.mark.parametrize("name", ["inspect", "export"])
def test_what_is_not_there(
    name: str, rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _ = trained(rng, "user")
    table.save(tmp_path / "user")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "nothing"], "nothing: is not there. Give what Table.save has written"),
        ([tmp_path], f"lie in '{tmp_path / 'user'}'; name that directory"),
        ([tmp_path / "empty"], "empty: has no saved tables"),
        (["gs://bucket/model"], "gs://bucket/model is on another file system"),
        ([tmp_path / "user", "--table", "item"], "has no table 'item'; it has 'user'"),
    ):
        assert main([name, *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inspect", "export"])
def test_damage_is_a_failure(
    name: str, rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _ = trained(rng, "user")
    table.save(tmp_path / "user")
    part = tmp_path / "user" / "data-00000"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    out = ["--out", str(tmp_path / "out")] if name == "export" else []
    assert main([name, str(tmp_path / "user"), *out]) == 1
    assert "data-00000: damaged at byte" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_export_writes_all_rows(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [trained(rng, name)[0] for name in ("user", "item")]
    prefix = checkpoint(tmp_path / "model", 7, *tables)
    out = tmp_path / "out" / "deep"
    written = run_json(capsys, "export", prefix, "--out", out)["written"]
    assert sorted(file["table"] for file in written) == ["item", "user"]
    for table in tables:
        with np.load(out / f"{table.name}.npz") as archive:
            assert archive["values"].dtype == np.float32 and archive["keys"].dtype == np.int64
            assert sorted(archive["keys"]) == sorted(table.keys())
            values = table.lookup(archive["keys"], train=False)
            np.testing.assert_array_equal(archive["values"], values)


def test_export_replaces_only_when_told(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _ = trained(rng, "a/b c")  # a name that is no file name
    table.save(tmp_path / "table")
    target = tmp_path / "a%2Fb%20c.npz"
    target.write_text("mine")
    command = ["export", str(tmp_path / "table"), "--out", str(tmp_path), "--plain"]
    assert main(command) == 2
    assert "a%2Fb%20c.npz: there already" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert len(np.load(target)["keys"]) == len(table)
    assert f"{len(table):,} rows of {DIM}" in capsys.readouterr().out


def test_export_has_a_file_for_each_name(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [trained(rng, name)[0] for name in ("a b", "a_b", "a/b")]
    mxrec.save(tables, tmp_path / "versions", step=1)
    files = run_json(capsys, "export", tmp_path / "versions", "--out", tmp_path)["written"]
    written = {file["table"]: file["file"] for file in files}
    for table in tables:
        assert sorted(np.load(written[table.name])["keys"]) == sorted(table.keys())


@pytest.mark.skipif(not has_tensorflow(), reason="needs TensorFlow")
def test_the_same_as_the_export_of_a_program(rng: np.random.Generator, tmp_path: Path) -> None:
    from mxrec.tf import export

    table, _ = trained(rng, "user")
    checkpoint(tmp_path, 7, table)
    path = export(["user"], model_dir=tmp_path)["user"]
    shutil.move(path, tmp_path / "theirs.npz")
    assert main(["export", str(tmp_path), "--out", str(tmp_path)]) == 0
    ours, theirs = np.load(tmp_path / "user.npz"), np.load(tmp_path / "theirs.npz")
    for name in ("keys", "values"):
        np.testing.assert_array_equal(ours[name], theirs[name])
