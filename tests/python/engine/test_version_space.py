"""Restores where a disk has no space left for what the tables held before."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from version_support import Killer, data_file, flip, fresh, make_table, state, train

import mxrec
from mxrec.checkpoints import files


class Full:
    """Refuses to make anything below some directories."""

    def __init__(self, *places: Path) -> None:
        self.places = [str(place) for place in places]
        self.refused = 0

    def __call__(self, operation: str, path: str) -> None:
        if operation == "mkdir" and os.path.dirname(path) in self.places:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, list[mxrec.Table], dict]:
    """A directory with a version of two tables, these tables, and what they hold."""
    tables = [make_table("user"), make_table("item", admission=mxrec.Admission(2))]
    for table in tables:
        train(table, 1)
    mxrec.save(tables, tmp_path / "versions", step=1)
    return tmp_path / "versions", tables, state(tables)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_new_tables_need_no_space(versions, temporary):
    directory, tables, wanted = versions
    others = fresh(tables)
    with files.watched(killer := Killer()):
        mxrec.restore(others, directory)
    assert killer.operations == [] and state(others) == wanted


def test_new_tables_are_empty_again_after_an_error(versions, temporary):
    directory, tables, wanted = versions
    flip(data_file(str(directory / "v000001-step-1"), "item"))
    others = fresh(tables)
    before = state(others)
    with files.watched(full := Full(directory)), pytest.raises(mxrec.DataLossError):
        mxrec.restore(others, directory)
    assert full.refused == 1 and state(others) == before and not os.listdir(temporary)
    mxrec.restore(others[:1], directory)
    assert state(others[:1]) == {k: v for k, v in wanted.items() if k.startswith("user")}


def test_what_was_set_on_a_new_table_is_not_lost(versions, temporary):
    """Its threshold is not one that it was made with."""
    directory, tables, _ = versions
    flip(data_file(str(directory / "v000001-step-1"), "user"))
    item, user = fresh(tables)[::-1]
    item.set_threshold(7)
    with pytest.raises(mxrec.DataLossError):
        mxrec.restore([item, user], directory)
    assert item.stats()["admission_threshold"] == 7


def test_temporary_files_go_where_there_is_space(versions, temporary):
    directory, tables, wanted = versions
    for table in tables:
        train(table, 2)
    with files.watched(full := Full(directory)):
        mxrec.restore(tables, directory)
    assert full.refused == 1 and state(tables) == wanted
    assert not os.listdir(temporary) and os.listdir(directory) == ["v000001-step-1"]


def test_without_any_space_nothing_changes(versions, temporary):
    directory, tables, _ = versions
    for table in tables:
        train(table, 2)
    before = state(tables)
    with (
        files.watched(Full(directory, temporary)),
        pytest.raises(OSError, match="No space left") as caught,
    ):
        mxrec.restore(tables, directory)
    note = "".join(caught.value.__notes__)
    assert f"neither {directory} nor {temporary} has the space" in note and "TMPDIR" in note
    assert state(tables) == before
