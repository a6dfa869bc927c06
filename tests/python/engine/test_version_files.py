"""What is no regular file in a directory of versions: named, and nobody waits for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from version_support import fresh, make_table, state, train

import mxrec
from mxrec.checkpoints import catalog, naming

# In a process of its own, which is killed if it waits.
PROGRAM = """
import sys, mxrec
from version_support import make_table
directory = sys.argv[1]
table = make_table("user")
try:
    print("restored", mxrec.restore(table, directory))
except mxrec.DataLossError as error:
    print("refused", error)
print([(v.step, v.problem) for v in mxrec.versions(directory, all=True)])
print([v.step for v in mxrec.versions(directory)], mxrec.prune(directory, keep=9))
"""


def run(directory: Path) -> str:
    path = [os.path.dirname(os.path.dirname(mxrec.__file__)), os.path.dirname(__file__)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def put(kind: str, path: Path) -> None:
    if path.exists():
        path.unlink()
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
    else:
        path.symlink_to("/dev/zero")


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, mxrec.Table]:
    table = make_table("user")
    for step in (1, 2, 3):
        train(table, step)
        mxrec.save(table, tmp_path, step=step, delta=step == 3)
    return tmp_path, table


def newest(directory: Path, name: str) -> Path:
    return directory / "v000002-step-2" / name


def test_a_fifo_stops_nobody(versions):
    directory, _ = versions
    put("a FIFO", directory / "checkpoint")
    assert run(directory).startswith("restored 3\n")
    manifest = newest(directory, naming.MANIFEST_NAME)
    put("a FIFO", manifest)
    found = run(directory)
    assert found.startswith("refused") and f"{manifest} is a FIFO, no regular file" in found
    assert "The newest version that restores is step 1" in found and "[1] []" in found


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a socket", "a symbolic link"])
@pytest.mark.parametrize("what", ["manifest", "part", "manifest of a table"])
def test_what_it_is_is_named(versions, monkeypatch, kind, what):
    directory, table = versions
    monkeypatch.chdir(directory)
    name = {"manifest": naming.MANIFEST_NAME, "part": "user/data-00000"}.get(what, "user/manifest")
    path = newest(directory, name)
    whole = path.read_bytes()
    put(kind, path)
    others = fresh([table])
    before = state(others)
    with pytest.raises(mxrec.DataLossError, match="that restores is step 1") as caught:
        mxrec.restore(others, directory)
    assert f"{path} is {kind}" in str(caught.value) and state(others) == before
    assert [v.step for v in mxrec.versions(directory)] == [1]
    assert [v.problem is None for v in mxrec.versions(directory, all=True)] == [True, False, False]
    path.rmdir() if kind == "a directory" else path.unlink()
    path.write_bytes(whole)
    assert mxrec.restore(others, directory) == 3 and state(others) == state([table])


def test_a_checkpoint_of_tensorflow_whose_manifest_is_none_is_damaged_not_incomplete(versions):
    """A restore must not take an older one silently."""
    directory, _ = versions
    for step, name in ((1, "v000001-step-1"), (2, "v000002-step-2")):
        (directory / name).rename(directory / f"sparse-model-{step}")
    (directory / "checkpoint").write_text('model_checkpoint_path: "model-2"\n')
    put("a FIFO", directory / "sparse-model-2" / naming.MANIFEST_NAME)
    paths = [os.path.basename(path) for path in catalog.entries(str(directory))]
    assert paths == ["sparse-model-1", "sparse-model-2", "v000003-step-3"]
    problem = mxrec.versions(directory, all=True)[1].problem
    assert "sparse-model-2/checkpoint-manifest.json is a FIFO" in problem


@pytest.mark.parametrize("raw", [b"x\xff", "x\udc80"])
def test_a_path_that_is_no_utf_8(tmp_path, raw):
    table = make_table("user")
    directory = os.path.join(str(tmp_path), os.fsdecode(raw))
    for call in (
        lambda: mxrec.save(table, directory, step=1),
        lambda: mxrec.restore(table, directory),
        lambda: mxrec.versions(directory),
        lambda: mxrec.prune(directory),
        lambda: table.save(directory),
        lambda: mxrec.Table.load(directory),
    ):
        with pytest.raises(ValueError, match=r"must be a path in UTF-8, got '.*x\\udc") as caught:
            call()
        assert "name another directory" in str(caught.value)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="null"):
        mxrec.save(table, f"{tmp_path}/a\0b", step=1)
