"""A process that is killed before any operation of a save leaves every version whole or unseen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from version_support import Killer, fresh, killed, make_table, names, state, train

import mxrec
from mxrec.checkpoints import files, tools

PROGRAM = """
import os, signal, sys
from version_support import make_table, train
import mxrec
from mxrec.checkpoints import files
directory, at = sys.argv[1], int(sys.argv[2])
table = make_table("user")
train(table, 1)
mxrec.save(table, directory, step=1)
train(table, 2)
left = [at]
def watcher(operation, path):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with files.watched(watcher):
    mxrec.save(table, directory, step=2, delta=True)
"""


def make_chain(directory):
    """Steps 1 and 2, and tables that are at step 3."""
    tables = [make_table("user"), make_table("item")]
    wanted = {}
    for step in (1, 2, 3):
        for table in tables:
            train(table, step)
        wanted[step] = state(tables)
        if step < 3:
            mxrec.save(tables, directory, step=step, delta=step > 1)
    return tables, wanted


def count_operations(body):
    with files.watched(killer := Killer()):
        body()
    return killer.operations


@pytest.mark.parametrize("delta", [False, True])
def test_killed_before_any_operation_of_a_save(tmp_path, delta):
    tables, _ = make_chain(tmp_path / "count")
    operations = count_operations(
        lambda: mxrec.save(tables, tmp_path / "count", step=3, delta=delta)
    )
    assert {"mkdir", "table", "write", "sync", "rename"} <= {name for name, _ in operations}
    seen = set()
    for at in range(1, len(operations) + 1):
        directory = tmp_path / str(at)
        tables, wanted = make_chain(directory)
        with killed(at) as killer:
            mxrec.save(tables, directory, step=3, delta=delta)
        assert len(killer.operations) >= at
        # What the process leaves is all that there is.
        others = fresh(tables)
        found = mxrec.restore(others, directory)
        assert state(others) == wanted[found]
        seen.add(found)
        for step in (1, 2):
            mxrec.restore(others, directory, step=step)
            assert state(others) == wanted[step]
        steps = [v.step for v in mxrec.versions(directory)]
        assert steps == list(range(1, found + 1))
        hidden = [v for v in mxrec.versions(directory, all=True) if v.problem]
        assert all("incomplete" in version.problem for version in hidden)
        # The next process goes on from there, and tidies up.
        mxrec.restore(others, directory)
        for table in others:
            train(table, found + 1)
        assert mxrec.save(others, directory, step=found + 1, delta=True).kind == "delta"
        assert not [name for name in names(directory) if ".tmp-" in name]
        again = fresh(tables)
        assert mxrec.restore(again, directory) == found + 1
        assert state(again) == state(others)
    assert seen == {2, 3}


def test_an_error_at_any_operation_leaves_nothing(tmp_path):
    tables, wanted = make_chain(tmp_path / "count")
    total = len(count_operations(lambda: mxrec.save(tables, tmp_path / "count", step=3)))

    class Failing:
        def __init__(self, at):
            self.left = at

        def __call__(self, operation, path):
            self.left -= 1
            if self.left == 0:
                raise OSError(5, "Input/output error", path)

    tables, wanted = make_chain(tmp_path / "versions")
    for at in range(1, total + 1):
        with files.watched(Failing(at)), pytest.raises(OSError, match="Input/output error"):
            mxrec.save(tables, tmp_path / "versions", step=3, delta=True)
        assert names(tmp_path / "versions") == ["v000001-step-1", "v000002-step-2"]
    assert mxrec.save(tables, tmp_path / "versions", step=4, delta=True).kind == "delta"
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path / "versions") == 4
    assert state(others) == wanted[3]


@pytest.mark.parametrize("action", ["compact", "prune"])
def test_killed_before_any_operation_of_housekeeping(tmp_path, action):
    def act(directory):
        if action == "prune":
            mxrec.prune(directory, keep=1)
        else:
            tools.compact(mxrec.versions(directory)[-1].path)

    def make(directory):
        tables, wanted = make_chain(directory)
        if action == "prune":
            mxrec.save(tables, directory, step=3)
        return tables, wanted

    make(tmp_path / "count")
    operations = count_operations(lambda: act(tmp_path / "count"))
    newest = 3 if action == "prune" else 2
    for at in range(1, len(operations) + 1):
        directory = tmp_path / str(at)
        tables, wanted = make(directory)
        with killed(at):
            act(directory)
        others = fresh(tables)
        assert mxrec.restore(others, directory) == newest
        assert state(others) == wanted[newest]
        for version in mxrec.versions(directory):
            mxrec.restore(others, directory, step=version.step)
            assert state(others) == wanted[version.step]
        assert all(
            v.problem is None or ".tmp-" in v.path or ".old-" in v.path
            for v in mxrec.versions(directory, all=True)
        )
        act(directory)
        assert mxrec.restore(others, directory) == newest
        shutil.rmtree(directory)


@pytest.mark.parametrize("at", [2, 4, 6, 7])
def test_killed_by_a_signal(tmp_path, at):
    """The same with SIGKILL, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(at)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parent,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    table = make_table("user")
    found = mxrec.restore(table, tmp_path)
    wanted = make_table("user")
    for step in range(1, found + 1):
        train(wanted, step)
    assert found in (1, 2) and state([table]) == state([wanted])
