"""mxrec.save, restore, versions and prune on tables of the numpy interface."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from version_support import data_file, flip, fresh, make_table, names, state, train

import mxrec
from mxrec.checkpoints import files, saving


@pytest.fixture
def tables():
    return [make_table("user"), make_table("item")]


def advance(tables, first, last):
    for step in range(first, last + 1):
        for table in tables:
            train(table, step)


def saved(tables, directory, steps, full=(1,)):
    """Saves after each of the steps; returns what the tables held."""
    wanted = {}
    for step in steps:
        advance(tables, step, step)
        mxrec.save(tables, directory, step=step, delta=step not in full)
        wanted[step] = state(tables)
    return wanted


def test_every_step_of_a_chain_comes_back(tables, tmp_path):
    wanted = saved(tables, tmp_path, range(1, 7), full=(1, 4))
    found = mxrec.versions(tmp_path)
    assert [(v.step, v.kind, v.parent) for v in found] == [
        (1, "full", None),
        (2, "delta", 1),
        (3, "delta", 2),
        (4, "full", None),
        (5, "delta", 4),
        (6, "delta", 5),
    ]
    for version in found:
        size = sum(p.stat().st_size for p in Path(version.path).rglob("*") if p.is_file())
        assert version.bytes == size > 0 and version.problem is None
    others = fresh(tables)
    for step in (None, 2, 6, 1, 5, 3, 4):
        assert mxrec.restore(others, tmp_path, step=step) == (step or 6)
        assert state(others) == wanted[step or 6]


def test_a_delta_follows_what_was_restored(tables, tmp_path):
    wanted = saved(tables, tmp_path, range(1, 5))
    mxrec.restore(tables, tmp_path, step=2)
    advance(tables, 7, 7)
    started = mxrec.save(tables, tmp_path, step=4, delta=True)
    assert started.kind == "delta"
    again = state(tables)
    found = mxrec.versions(tmp_path)
    assert [(v.step, v.parent) for v in found] == [(1, None), (2, 1), (3, 2), (4, 2)]
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path) == 4  # the newest is what was saved last
    assert state(others) == again
    mxrec.restore(others, tmp_path, step=3)
    assert state(others) == wanted[3]
    superseded = [v for v in mxrec.versions(tmp_path, all=True) if v.problem]
    assert [(v.step, v.parent) for v in superseded] == [(4, 3)]
    assert "superseded" in superseded[0].problem and started.path in superseded[0].problem


def test_a_batch_right_after_the_instant_is_not_taken_for_saved(tables, tmp_path, monkeypatch):
    advance(tables, 1, 1)
    wanted = state(tables)
    begin = saving.VersionSave._begin

    def begin_and_train(self, *args):
        begin(self, *args)
        advance(tables, 2, 2)  # as another thread does

    monkeypatch.setattr(saving.VersionSave, "_begin", begin_and_train)
    mxrec.save(tables, tmp_path, step=1)
    assert state(tables) != wanted
    mxrec.restore(tables, tmp_path)
    assert state(tables) == wanted


def test_a_delta_without_a_parent_is_full(tables, tmp_path):
    advance(tables, 1, 1)
    assert mxrec.save(tables, tmp_path / "a", step=1, delta=True).kind == "full"
    assert mxrec.save(tables, tmp_path / "b", step=2, delta=True).kind == "full"  # elsewhere
    assert mxrec.save(tables[:1], tmp_path / "b", step=3, delta=True).kind == "full"  # not as many
    assert mxrec.save(tables, tmp_path / "b", step=4, delta=True).kind == "full"
    assert mxrec.save(tables, tmp_path / "b", step=5, delta=True).kind == "delta"
    shutil.rmtree(mxrec.versions(tmp_path / "b")[-1].path)
    assert mxrec.save(tables, tmp_path / "b", step=6, delta=True).kind == "full"


def test_a_save_without_changes(tables, tmp_path):
    wanted = saved(tables, tmp_path, range(1, 3))
    mxrec.save(tables, tmp_path, step=9, delta=True)
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path) == 9
    assert state(others) == wanted[2]
    again = fresh(tables)
    mxrec.save(again, tmp_path / "empty", step=0)
    assert mxrec.restore(fresh(tables), tmp_path / "empty") == 0


def test_names_that_are_no_names_of_files(tmp_path):
    tables = [
        make_table(name) for name in ("a/b", "..", "ü" * 100, "%", "checkpoint-manifest.json")
    ]
    wanted = saved(tables, tmp_path, (1, 2))
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path) == 2
    assert state(others) == wanted[2]
    assert names(tmp_path) == ["v000001-step-1", "v000002-step-2"]


def test_fewer_tables_than_saved(tables, tmp_path):
    wanted = saved(tables, tmp_path, (1, 2))
    item = fresh(tables)[1]
    assert mxrec.restore(item, tmp_path) == 2
    assert state([item]) == {k: v for k, v in wanted[2].items() if k.startswith("item")}


def test_a_table_in_the_state_wanted_is_not_read(tables, tmp_path):
    saved(tables, tmp_path, (1, 2))
    version = mxrec.versions(tmp_path)[-1]
    flip(data_file(version.path, "user"))
    assert mxrec.restore(tables, tmp_path) == 2
    with pytest.raises(mxrec.DataLossError):
        mxrec.restore(fresh(tables), tmp_path)


def test_rare_keys_are_left_out_and_come_later(tmp_path):
    table = make_table("user", num_shards=2)
    keys = np.arange(200)
    often = keys[:50]
    for step, chosen in ((1, keys), (2, keys), (3, often), (4, often), (5, keys[:0])):
        table.lookup(chosen, timestamp=step)
        if step == 3:
            table.lookup(chosen, timestamp=step)
        if len(chosen):
            table.apply_gradients(chosen, np.ones((len(chosen), 3), np.float32))
        if step in (2, 4):
            table.lookup(keys[:100], timestamp=step)
        recent = 0 if step == 5 else 2
        mxrec.save(table, tmp_path, step=step, delta=True, recent_threshold=recent)
    infos = [
        mxrec._mxrec.read_checkpoint_info(os.path.join(v.path, "user"))
        for v in mxrec.versions(tmp_path)
    ]
    # Of 2: 100 keys were used twice. Of 3: those 50. Of 4: those again. Of 5: whatever is left.
    assert [info["rows"] for info in infos] == [200, 100, 50, 50, 150]
    assert [info["left_out"] for info in infos] == [0, 100, 100, 150, 0]
    other = make_table("user")
    for step, found in ((5, 200), (1, 0)):
        mxrec.restore(other, tmp_path, step=step)
        same = other.lookup(keys, train=False) == table.lookup(keys, train=False)
        assert same.all(axis=1).sum() == found


# --- In the background ----------------------------------------------------------------------------


class Gate:
    """Holds a save before it writes its tables."""

    def __init__(self, error=None):
        self.reached, self.open, self.error = threading.Event(), threading.Event(), error

    def __call__(self, operation, path):
        if operation == "table" and not self.open.is_set():
            self.reached.set()
            assert self.open.wait(60)
            if self.error is not None:
                raise self.error


def test_training_goes_on_beside_a_save(tables, tmp_path):
    wanted = saved(tables, tmp_path, (1,))
    advance(tables, 2, 2)
    wanted[2] = state(tables)
    gate = Gate()
    with files.watched(gate):
        started = mxrec.save(tables, tmp_path, step=2, delta=True, wait=False)
        assert gate.reached.wait(60) and not started.done
        advance(tables, 3, 5)
        assert [v.step for v in mxrec.versions(tmp_path)] == [1]
        incomplete = mxrec.versions(tmp_path, all=True)[-1]
        assert "incomplete" in incomplete.problem and ".tmp-" in incomplete.path
        gate.open.set()
        started.wait()
    assert started.done
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path) == 2
    assert state(others) == wanted[2]
    mxrec.save(tables, tmp_path, step=5, delta=True)
    mxrec.restore(others, tmp_path)
    assert state(others) == state(tables)


def test_a_second_save_waits_for_the_first(tables, tmp_path):
    saved(tables, tmp_path, (1,))
    advance(tables, 2, 2)
    gate = Gate()
    with files.watched(gate):
        first = mxrec.save(tables, tmp_path, step=2, delta=True, wait=False)
        assert gate.reached.wait(60)
        threading.Timer(0.1, gate.open.set).start()
        mxrec.save(tables, tmp_path, step=3, delta=True)
        assert first.done
    assert [(v.step, v.parent) for v in mxrec.versions(tmp_path)] == [(1, None), (2, 1), (3, 2)]


def test_a_save_that_fails_is_told_of_once(tables, tmp_path):
    wanted = saved(tables, tmp_path, (1,))
    advance(tables, 2, 2)
    for waits in (True, False):
        gate = Gate(OSError(28, "No space left on device"))
        with files.watched(gate):
            failing = mxrec.save(tables, tmp_path, step=2, delta=True, wait=False)
            assert gate.reached.wait(60)
            gate.open.set()
            if waits:
                with pytest.raises(OSError, match="No space left"):
                    failing.wait()
            else:
                with pytest.raises(OSError, match="No space left") as caught:
                    mxrec.save(tables, tmp_path, step=3, delta=True)
                assert "step 2" in caught.value.__notes__[0]
        assert names(tmp_path) == ["v000001-step-1"]
    # Nothing is lost of what changed since step 1.
    mxrec.save(tables, tmp_path, step=4, delta=True)
    others = fresh(tables)
    assert mxrec.restore(others, tmp_path, step=1) == 1
    assert state(others) == wanted[1]
    mxrec.restore(others, tmp_path)
    assert state(others) == state(tables)


def test_a_save_that_fails_at_once(tables, tmp_path):
    saved(tables, tmp_path, (1,))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileExistsError):
        mxrec.save(tables, blocked, step=2)
    assert mxrec.save(tables, tmp_path, step=2, delta=True).kind == "delta"


# --- Damage ---------------------------------------------------------------------------------------


def restore_error(tables, directory, step=None):
    before = state(tables)
    with pytest.raises(mxrec.DataLossError) as caught:
        mxrec.restore(tables, directory, step=step)
    assert state(tables) == before
    return str(caught.value)


def test_a_damaged_link_is_named_with_the_newest_version_that_restores(tables, tmp_path):
    saved(tables, tmp_path, range(1, 6), full=(1, 4))
    others = fresh(tables)
    advance(others, 30, 30)
    paths = {v.step: v.path for v in mxrec.versions(tmp_path)}
    damaged = data_file(paths[5], "item")
    flip(damaged)
    message = restore_error(others, tmp_path)
    assert damaged in message and "newest version that restores is step 4" in message
    assert mxrec.restore(others, tmp_path, step=4) == 4
    advance(others, 31, 31)
    flip(damaged)  # back
    flip(data_file(paths[4], "user"))
    message = restore_error(others, tmp_path, 5)
    assert paths[4] in message and "newest version that restores is step 3" in message
    problems = {v.step: v.problem for v in mxrec.versions(tmp_path, all=True)}
    assert problems[3] is None and paths[4] in problems[4] and paths[4] in problems[5]


def test_a_missing_link_is_named(tables, tmp_path):
    saved(tables, tmp_path, range(1, 5))
    paths = {v.step: v.path for v in mxrec.versions(tmp_path)}
    shutil.rmtree(paths[2])
    message = restore_error(fresh(tables), tmp_path)
    assert f"{paths[3]} (delta, step 3) builds on step 2 in {paths[2]}, which is missing" in message
    assert "newest version that restores is step 1" in message
    assert [v.step for v in mxrec.versions(tmp_path)] == [1]
    with pytest.raises(FileNotFoundError, match="no version of step 2; it has 1, 3, 4"):
        mxrec.restore(tables, tmp_path, step=2)


def test_reordered_links_are_named(tables, tmp_path):
    saved(tables, tmp_path, range(1, 5))
    paths = {v.step: v.path for v in mxrec.versions(tmp_path)}
    os.rename(paths[2], tmp_path / "aside")
    os.rename(paths[3], paths[2])
    os.rename(tmp_path / "aside", paths[3])
    message = restore_error(fresh(tables), tmp_path)
    assert paths[3] in message and "holds step 2: the directory was renamed" in message


def test_a_foreign_link_is_named(tables, tmp_path):
    saved(tables, tmp_path / "a", range(1, 4))
    others = fresh(tables)
    saved(others, tmp_path / "b", range(1, 4))
    paths = {v.step: v.path for v in mxrec.versions(tmp_path / "a")}
    shutil.rmtree(paths[2])
    shutil.copytree(mxrec.versions(tmp_path / "b")[1].path, paths[2])
    message = restore_error(others, tmp_path / "a", 3)
    assert paths[2] in message and "another version, of step 2" in message
    # A table of another save, in a version that is otherwise right.
    here = mxrec.versions(tmp_path / "b")[2].path
    shutil.rmtree(Path(here) / "user")
    shutil.copytree(Path(paths[3]) / "user", Path(here) / "user")
    message = restore_error(fresh(tables), tmp_path / "b")
    assert os.path.join(here, "user") in message and "put together from several" in message


@pytest.mark.parametrize("what", ["manifest", "table", "part"])
def test_what_is_complete_and_has_lost_something_is_an_error(tables, tmp_path, what):
    saved(tables, tmp_path, range(1, 4))
    path = mxrec.versions(tmp_path)[-1].path
    if what == "manifest":
        os.remove(os.path.join(path, "checkpoint-manifest.json"))
    elif what == "table":
        shutil.rmtree(os.path.join(path, "user"))
    else:
        os.remove(data_file(path, "user"))
    message = restore_error(fresh(tables), tmp_path)
    assert path in message and "newest version that restores is step 2" in message
    assert [v.step for v in mxrec.versions(tmp_path)] == [1, 2]
    assert mxrec.versions(tmp_path, all=True)[-1].problem


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"step": -1}, ValueError, r"step must be in \[0, 9223372036854775807\], got -1"),
        ({"step": 1.5}, TypeError, "step must be an int"),
        ({"step": 1, "delta": 1}, TypeError, "delta must be a bool"),
        ({"step": 1, "wait": None}, TypeError, "wait must be a bool"),
        ({"step": 1, "recent_threshold": -1}, ValueError, "recent_threshold"),
        ({"step": 1, "tables": []}, ValueError, "at least one table"),
        ({"step": 1, "tables": ["user"]}, TypeError, "mxrec.Table objects, got 'user'"),
    ],
)
def test_bad_arguments(tables, tmp_path, arguments, error, text):
    chosen = arguments.pop("tables", tables)
    with pytest.raises(error, match=text):
        mxrec.save(chosen, tmp_path, **arguments)
    assert not names(tmp_path)


def test_tables_that_cannot_be_told_apart_or_are_closed(tables, tmp_path):
    with pytest.raises(ValueError, match="different names, got 'user', 'user'"):
        mxrec.save([tables[0], make_table("user")], tmp_path, step=1)
    tables[0].close()
    with pytest.raises(RuntimeError, match="table 'user' is closed"):
        mxrec.save(tables, tmp_path, step=1)
    with pytest.raises(RuntimeError, match="table 'user' is closed"):
        mxrec.restore(tables, tmp_path)


def test_restoring_what_does_not_fit_changes_nothing(tables, tmp_path):
    saved(tables, tmp_path, (1, 2))
    with pytest.raises(FileNotFoundError, match=r"no table 'shop'; it has 'item', 'user'"):
        mxrec.restore([*tables, make_table("shop")], tmp_path)
    user, item = fresh(tables)[0], mxrec.Table("item", 5, optimizer=mxrec.LazyAdam(0.1))
    advance([user], 3, 3)
    before = state([user])
    with pytest.raises(ValueError, match="dim"):
        mxrec.restore([user, item], tmp_path)
    assert state([user]) == before
    (tmp_path / "nothing").mkdir()
    for empty, text in (
        ("nothing", "is empty: there is no version"),
        ("absent", "absent is not there"),
    ):
        with pytest.raises(FileNotFoundError, match=text):
            mxrec.restore(tables, tmp_path / empty)
    with pytest.raises(FileNotFoundError, match="absent is not there; name the directory"):
        mxrec.versions(tmp_path / "absent")


# --- Housekeeping ---------------------------------------------------------------------------------


def test_prune_keeps_what_a_kept_delta_needs(tables, tmp_path):
    wanted = saved(tables, tmp_path, range(1, 10), full=(1, 4, 7))
    assert mxrec.prune(tmp_path, keep=2) == [1, 2, 3]
    assert mxrec.prune(tmp_path, keep=2) == []
    others = fresh(tables)
    for step in range(4, 10):
        assert mxrec.restore(others, tmp_path, step=step) == step
        assert state(others) == wanted[step]
    mxrec.restore(tables, tmp_path, step=5)  # an old chain goes on
    mxrec.save(tables, tmp_path, step=10, delta=True)
    assert mxrec.prune(tmp_path, keep=1) == [6]
    assert [(v.step, v.parent) for v in mxrec.versions(tmp_path)] == [
        (4, None),
        (5, 4),
        (7, None),
        (8, 7),
        (9, 8),
        (10, 5),
    ]
    with pytest.raises(ValueError, match="keep must be in"):
        mxrec.prune(tmp_path, keep=0)


def test_prune_goes_by_names_of_versions_alone(tables, tmp_path):
    directory = tmp_path / "models.old-2024"
    directory.mkdir()
    saved(tables, directory, range(1, 7), full=(1, 3, 5))
    assert mxrec.prune(directory, keep=2) == [1, 2]
    assert [version.step for version in mxrec.versions(directory)] == [3, 4, 5, 6]


def test_prune_removes_what_dead_processes_left(tables, tmp_path):
    import socket

    saved(tables, tmp_path, (1,))
    dead = tmp_path / f"v000002-step-2.tmp-{socket.gethostname()}-{2**22 + 1}.0"
    alive = tmp_path / f"v000002-step-2.tmp-{socket.gethostname()}-{os.getppid()}.0"
    elsewhere = tmp_path / "v000002-step-2.tmp-elsewhere-1.0"
    for path in (dead, alive, elsewhere):
        path.mkdir()
    mxrec.prune(tmp_path)
    assert set(names(tmp_path)) == {"v000001-step-1", alive.name, elsewhere.name}
    advance(tables, 2, 2)
    mxrec.save(tables, tmp_path, step=2)
    assert mxrec.restore(fresh(tables), tmp_path) == 2
    assert "v000003-step-2" in names(tmp_path)  # the second may be another process's
