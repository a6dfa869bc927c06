"""``mxrec checkpoint``: ls, verify, compact, diff, export."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mxrec
from mxrec.cli import checkpoint, console, main


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, dict[int, dict[str, Any]]]:
    """Steps 1 (full), 2 and 3 (deltas) of two tables, and what they held."""
    tables = [mxrec.Table(name, 4, optimizer=mxrec.Adagrad(0.1)) for name in ("user", "item")]
    directory, held = tmp_path / "versions", {}
    for step in (1, 2, 3):
        for table in tables:
            keys = np.arange(10 * step)
            table.lookup(keys)
            table.apply_gradients(keys[:3], np.ones((3, 4), np.float32))
        tables[0].erase(np.array([5 + step]))
        mxrec.save(tables, directory, step=step, delta=step > 1)
        held[step] = {
            t.name: {int(k): row for k, row in zip(*map(list, next(t.items(10**6))), strict=True)}
            for t in tables
        }
    return directory, held


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, Any]:
    """Runs an action with --json; gives the exit code and what was printed."""
    action, *rest = map(str, arguments)
    code = main(["checkpoint", action, "--json", *rest])
    output = capsys.readouterr().out
    return code, json.loads(output) if output else None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_ls(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory, _ = saved
    code, found = run(capsys, "ls", directory)
    assert code == 0 and found["directory"] == str(directory)
    assert [(v["step"], v["kind"], v["parent"]) for v in found["versions"]] == [
        (1, "full", None),
        (2, "delta", 1),
        (3, "delta", 2),
    ]
    assert main(["checkpoint", "ls", "--plain", str(directory / "v000002-step-2")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[3:]] == [
        ["v000001-step-1", "1", "full"],
        ["v000002-step-2", "2", "delta"],
        ["v000003-step-3", "3", "delta"],
    ]
    flip(max((directory / "v000002-step-2" / "user").glob("data-*")))
    _, found = run(capsys, "ls", directory, "--all")
    problems = [v["problem"] for v in found["versions"]]
    assert problems[0] is None and "data-00000" in problems[1] and "builds on" in problems[2]


def test_verify(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory, _ = saved
    code, found = run(capsys, "verify", directory)
    assert (code, found["damaged"], len(found["versions"])) == (0, 0, 3)
    flip(max((directory / "v000002-step-2" / "user").glob("data-*")))
    code, found = run(capsys, "verify", directory)
    assert (code, found["damaged"]) == (1, 2)
    for step, wanted in ((1, 0), (2, 1), (3, 1)):
        code, found = run(capsys, "verify", directory, "--step", step)
        assert code == wanted and len(found["versions"]) == 1
    assert main(["checkpoint", "verify", "--plain", str(directory)]) == 1
    output = capsys.readouterr().out
    assert "v000001-step-1: intact" in output and "damaged at byte" in output
    assert "100%" in output


def restored(directory: Path, step: int | None = None) -> dict[str, Any]:
    tables = [mxrec.Table(name, 4, optimizer=mxrec.Adagrad(0.1)) for name in ("user", "item")]
    mxrec.restore(tables, directory, step=step)
    return {
        t.name: {int(k): row for k, row in zip(*map(list, next(t.items(10**6))), strict=True)}
        for t in tables
    }


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        assert found[name].keys() == rows.keys()
        for key, row in rows.items():
            np.testing.assert_array_equal(found[name][key], row)


def test_compact(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory, held = saved
    code, found = run(capsys, "compact", directory, "--step", 2)
    assert code == 0 and found["step"] == 2 and len(found["merged"]) == 2
    kinds = {v.step: v.kind for v in mxrec.versions(directory)}
    assert kinds == {1: "full", 2: "full", 3: "delta"}
    for step in (1, 2, 3):  # 3 builds on what was there before
        assert_same(restored(directory, step), held[step])
    code, found = run(capsys, "compact", directory)
    assert code == 0 and found["step"] == 3
    assert mxrec.prune(directory, keep=1) == [1, 2]
    assert [path.name for path in directory.iterdir()] == ["v000003-step-3"]
    assert_same(restored(directory), held[3])
    before = (directory / "v000003-step-3" / "checkpoint-manifest.json").read_bytes()
    assert run(capsys, "compact", directory)[0] == 0  # a full one stays as it is
    assert (directory / "v000003-step-3" / "checkpoint-manifest.json").read_bytes() == before


def test_diff(saved: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    directory, _ = saved
    code, found = run(capsys, "diff", directory, "--from", 1, "--to", 2)
    user, item = (next(t for t in found["tables"] if t["name"] == n) for n in ("user", "item"))
    assert code == 1 and not found["same"]
    # 10 keys less key 6; then 20 keys less key 7 (6 came back).
    assert (user["rows"], user["added"], user["removed"]) == ([9, 19], 11, 1)
    assert (item["rows"], item["added"], item["removed"], item["changed"]) == ([10, 20], 10, 0, 3)
    assert 0 < item["largest"] < 1
    shutil.copytree(directory, tmp_path / "copy")
    code, found = run(capsys, "diff", directory, "--other", tmp_path / "copy")
    assert code == 0 and found["same"] and len(found["tables"]) == 2
    only = mxrec.Table("shop", 4)
    mxrec.save(only, tmp_path / "other", step=1)
    code, found = run(capsys, "diff", directory, "--other", tmp_path / "other")
    assert code == 1 and found["only_in"] == {"first": ["item", "user"], "second": ["shop"]}


def test_export(saved: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    directory, held = saved
    code, found = run(capsys, "export", directory, "--step", 2, "--out", tmp_path / "out")
    assert code == 0 and set(found["tables"]) == {"user", "item"}
    for name, entry in found["tables"].items():
        with np.load(entry["path"]) as archive:
            keys, values = archive["keys"], archive["values"]
            assert keys.dtype == np.int64 and values.dtype == np.float32
            rows = dict(zip(keys.tolist(), values, strict=True))
            assert_same({name: rows}, {name: held[2][name]})
            assert entry["rows"] == len(keys)
    code, found = run(capsys, "export", directory, "--table", "item")
    assert found["tables"]["item"]["path"] == str(directory / "item.npz")
    assert not (directory / "user.npz").exists()


def test_diff_needs_two_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mxrec.save(mxrec.Table("shop", 4), tmp_path, step=7)
    assert main(["checkpoint", "diff", str(tmp_path)]) == 2
    version = tmp_path / "v000001-step-7"
    assert f"diff needs two versions, and both are {version}: " in (text := capsys.readouterr().err)
    assert "there is no other beside it; name the directory of the second one by --other" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ls", "{}/absent"), "is no directory, no version and no prefix"),
        (("verify", "gs://b/x"), "gs://b/x is on another file system; this command works on local"),
        (("diff", "{}", "--other", "hdfs://b/x"), "--other: hdfs://b/x is on another file system"),
        (("verify", "{}", "--step", "9"), "no version of step 9; it has 1, 2, 3"),
        (("export", "{}", "--table", "shop"), "no table 'shop'; it has 'item', 'user'"),
        (("compact", "{}/v000001-step-1", "--step", "2"), "is of step 1, not 2"),
        (("diff", "{}", "--from", "-1"), "--from"),
        (("diff", "{}"), "v000003-step-3: name another step beside it by --from STEP"),
        (("diff", "{}", "--from", "1", "--to", "1"), "--to STEP (there are 2, 3)"),
        (("mend", "{}"), "invalid choice"),
        ((), "required: ACTION"),
    ],
)
def test_bad_arguments(
    saved: Any, capsys: pytest.CaptureFixture[str], arguments: Any, text: str
) -> None:
    directory, _ = saved
    assert main(["checkpoint", *(a.format(directory) for a in arguments)]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("action", ["ls", "verify", "compact", "export", "diff"])
def test_checkpoints_of_other_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, action: str
) -> None:
    """A directory of them, the tables of one, and its prefix."""
    tables = tmp_path / "sparse-model-7" / "user_table"
    tables.mkdir(parents=True)
    (tables / "slice.data").write_bytes(b"rows")
    (tmp_path / "model-7.index").write_bytes(b"")
    commands = [["checkpoint", action], ["inspect"], ["export", "--out", str(tmp_path / "out")]]
    for place in (tmp_path, tmp_path / "sparse-model-7", tmp_path / "model-7"):
        for command in commands[: 1 if place == tmp_path else 3]:
            more = ["--from", "7", "--to", "8"] if command[-1] == "diff" else []
            assert main([*command, str(place), *more]) == 2
            message = capsys.readouterr().err
            assert f"{tables.parent} was not written by mxrec" in message
            assert "no checkpoint-manifest.json" in message and "'user_table'" in message
    code, found = run(capsys, "ls", tmp_path, "--all")
    assert code == 0 and [version["kind"] for version in found["versions"]] == [""]
    assert "was not written by mxrec" in found["versions"][0]["problem"]


def test_inspect_and_export_know_versions(
    saved: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory, held = saved
    assert main(["inspect", str(directory), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 3 and found["latest_of"] == 3
    rows = {table["name"]: (table["kind"], table["rows"]) for table in found["tables"]}
    assert rows == {name: ("delta", len(rows)) for name, rows in held[3].items()}
    out = str(tmp_path / "out")
    assert main(["export", str(directory / "v000002-step-2"), "--out", out, "--json"]) == 0
    for file in json.loads(capsys.readouterr().out)["written"]:
        with np.load(file["file"]) as archive:
            written = dict(zip(archive["keys"].tolist(), archive["values"], strict=True))
        assert_same({file["table"]: written}, {file["table"]: held[2][file["table"]]})


@pytest.mark.parametrize("action", ["ls", "verify", "compact", "export", "diff"])
def test_a_directory_without_a_version(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, action: str
) -> None:
    more = ["--from", "7", "--to", "8"] if action == "diff" else []
    assert main(["checkpoint", action, "--json", str(tmp_path), *more]) == 2
    output = capsys.readouterr()
    assert f"{tmp_path} is empty: there is no version" in output.err and not output.out
    (tmp_path / "rows.bin").write_bytes(b"rows")
    assert main(["checkpoint", action, "--json", str(tmp_path), *more]) == 2
    output = capsys.readouterr()
    assert f"{tmp_path} was not written by mxrec" in output.err and not output.out


def test_ls_where_no_version_restores(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """They are there: an empty list, and --all says why."""
    directory, _ = saved
    next((directory / "v000001-step-1" / "user").glob("data-*")).unlink()
    assert main(["checkpoint", "ls", "--plain", str(directory)]) == 0
    assert "No version restores; --all lists them" in capsys.readouterr().out
    assert run(capsys, "ls", directory)[1]["versions"] == []
    assert len(run(capsys, "ls", directory, "--all")[1]["versions"]) == 3


def test_the_directory_of_a_run_stands_for_its_checkpoints(
    saved: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory, _ = saved
    place = tmp_path / "runs" / "first"
    place.mkdir(parents=True)
    (place / "run.json").write_text("{}")
    for action in ("ls", "verify", "export"):
        assert main(["checkpoint", action, str(place)]) == 2
        assert f"a run that has saved nothing: {place}/model is not" in capsys.readouterr().err
    directory.rename(place / "model")
    code, found = run(capsys, "ls", place)
    assert code == 0 and found["directory"] == str(place / "model")
    assert [version["step"] for version in found["versions"]] == [1, 2, 3]
    assert run(capsys, "verify", place)[1]["damaged"] == 0
    assert run(capsys, "diff", place, "--other", place, "--to", "3", "--from", "2")[0] == 1
    assert run(capsys, "export", place)[1]["step"] == 3
    assert run(capsys, "compact", place)[1]["path"] == str(place / "model" / "v000003-step-3")
    for action in ("ls", "verify", "compact", "export"):
        assert main(["checkpoint", action, str(tmp_path / "runs")]) == 2
        assert f"lie in '{place / 'model'}'; name that directory" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["verify", "compact", "export", "diff"])
def test_progress_is_shown(
    saved: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    action: str,
) -> None:
    """Lines without a terminal, on standard error with --json; each ends with all of the bytes."""
    monkeypatch.setattr(checkpoint, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(console, "_PLAIN_INTERVAL", 0.0)
    directory, _ = saved
    more = {"export": ["--out", str(tmp_path / "out")], "diff": ["--from", "1", "--to", "3"]}
    for flags in ([], ["--plain"], ["--json"]):
        copy = tmp_path / f"copy{len(flags)}{''.join(flags)}"
        shutil.copytree(directory, copy)
        code = main(["checkpoint", action, *flags, str(copy), *more.get(action, [])])
        assert code == (1 if action == "diff" else 0)
        output = capsys.readouterr()
        shown = output.err if flags == ["--json"] else output.out
        lines = [line for line in shown.splitlines() if " (MiB) " in line]
        assert lines and re.search(r"\(MiB\) 100%  1/1  [\d.]+ (B|KiB|MiB)$", lines[-1]), shown
        if flags == ["--json"]:
            assert json.loads(output.out) and "(MiB)" not in output.out


@pytest.mark.parametrize("action", ["verify", "compact"])
def test_a_terminal_has_a_bar(saved: Any, action: str) -> None:
    pytest.importorskip("rich")
    directory, _ = saved
    output, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    program = "import sys; from mxrec.cli import main; sys.exit(main(sys.argv[1:]))"
    shown = bytearray()
    with subprocess.Popen(
        [sys.executable, "-c", program, "checkpoint", action, directory.name],
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=directory.parent,
    ) as process:
        os.close(terminal)
        # EIO: the program has closed the other end.
        with contextlib.suppress(OSError):
            while piece := os.read(output, 1 << 16):
                shown += piece
        os.close(output)
        assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "(MiB)" in text and "━" in text and "1/1" in text and "0:00:00" in text


def test_damage_is_an_error(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory, held = saved
    flip(max((directory / "v000001-step-1" / "item").glob("data-*")))
    for action in ("compact", "export", "diff"):
        more = ["--from", "2"] if action == "diff" else []
        assert main(["checkpoint", action, str(directory), *more]) == 1
        assert "v000001-step-1" in capsys.readouterr().err
    assert {v.kind for v in mxrec.versions(directory)} == {"full", "delta"}
    assert len(held) == 3


@pytest.mark.parametrize("action", ["ls", "verify", "compact", "diff", "export"])
def test_help_has_examples_and_exit_codes(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", action, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"mxrec checkpoint {action} model_dir" in text and "exit codes: 0 done" in text
    assert max(map(len, text.splitlines())) <= 100


def test_as_a_program_without_tensorflow(saved: Any) -> None:
    directory, _ = saved
    program = (
        "import sys; sys.modules['tensorflow'] = None; from mxrec.cli import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "checkpoint", "verify", str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("intact") == 3
