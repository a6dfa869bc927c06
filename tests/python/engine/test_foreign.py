"""Restoring from what is no directory of versions: the error says what it is and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mxrec

KEYS = np.arange(3)


def of_another_program(path: Path) -> Path:
    (path / "embeddings").mkdir(parents=True)
    for number in range(7):
        (path / f"part-{number}").write_bytes(b"rows")
    return path


def beside_a_tensorflow_checkpoint(path: Path) -> Path:
    """As the original product writes tables: a directory for each, and no manifest."""
    (path / "sparse-model-7" / "user_table").mkdir(parents=True)
    (path / "sparse-model-7" / "user_table" / "slice_0.data").write_bytes(b"rows")
    (path / "model-7.index").write_bytes(b"")
    return path


def a_version(path: Path) -> Path:
    with mxrec.Table("t", 2) as table:
        table.lookup(KEYS)
        return Path(mxrec.save(table, path, step=4).path)


def one_table(path: Path) -> Path:
    with mxrec.Table("t", 2) as table:
        table.save(path)
    return path


def a_file(path: Path) -> Path:
    path.write_bytes(b"rows")
    return path


def unfinished(path: Path) -> Path:
    (path / "v000001-step-4.tmp-host-1.0").mkdir(parents=True)
    return path


def empty(path: Path) -> Path:
    path.mkdir()
    return path


def a_version_that_lost_its_manifest(path: Path) -> Path:
    """No other program's: its tables are there."""
    version = a_version(path)
    (version / "checkpoint-manifest.json").unlink()
    version.rename(path / "sparse-model-4")
    return path


def a_run(path: Path) -> Path:
    """As ``mxrec demo --out`` leaves it: the versions one level down."""
    path.mkdir()
    (path / "metrics.json").write_text("{}")
    a_version(path / "model")
    return path


def runs(path: Path) -> Path:
    """Two runs, whose versions lie two levels down."""
    path.mkdir()
    a_run(path / "a")
    a_run(path / "b")
    return path


def too_deep(path: Path) -> Path:
    path.mkdir()
    runs(path / "runs")
    return path


def tables(path: Path) -> Path:
    path.mkdir()
    one_table(path / "user")
    return path


PLACES: dict[Callable[[Path], Path], tuple[str, ...]] = {
    of_another_program: (
        "{} was not written by mxrec",
        "looked for versions, v000001-step-N or sparse-NAME with a checkpoint-manifest.json",
        "'embeddings', 'part-0', 'part-1', 'part-2', 'part-3' and 3 more",
        "original mxRec",
        "assign()",
    ),
    beside_a_tensorflow_checkpoint: (
        "{}/sparse-model-7 was not written by mxrec",
        "it has no checkpoint-manifest.json",
        "what is there is 'user_table'",
        "original mxRec",
        "assign()",
    ),
    a_version: ("{} is a version itself", "name the directory that it is in"),
    one_table: ("{} is what Table.save wrote", "mxrec.Table.load"),
    a_file: ("{} is a file", "name the directory"),
    empty: ("{} is empty: there is no version", "name another directory"),
    unfinished: ("{} has no complete version", "name another directory"),
    a_version_that_lost_its_manifest: ("{} has no complete version",),
    a_run: (
        "{0} has no version itself, but versions that mxrec saved lie in '{0}/model'; name that "
        "directory to mxrec.restore",
    ),
    runs: ("lie in '{0}/a/model', '{0}/b/model'; name one of these directories",),
    too_deep: ("{} was not written by mxrec",),
    tables: ("tables that Table.save wrote lie in '{}/user'", "mxrec.Table.load"),
}


@pytest.mark.parametrize("make", PLACES)
def test_restore(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    place = make(tmp_path / "there")
    with mxrec.Table("t", 2) as table:
        table.lookup(KEYS)
        before = table.lookup(KEYS, train=False)
        for step in (None, 7):
            with pytest.raises(FileNotFoundError) as caught:
                mxrec.restore(table, place, step=step)
            message = str(caught.value)
            wanted = [text.format(place) for text in PLACES[make]]
            assert not [text for text in wanted if text not in message], message
        np.testing.assert_array_equal(table.lookup(KEYS, train=False), before)


LOADS: dict[Callable[[Path], Path], tuple[str, ...]] = {
    of_another_program: ("it has no file 'manifest'. What is there is 'embeddings'", "assign()"),
    beside_a_tensorflow_checkpoint: ("holds versions of tables", "mxrec.restore"),
    a_version: ("holds versions of tables", "name the directory of one table"),
    a_file: ("{} is a file; name the directory that Table.save was given",),
    a_run: ("{0} is no table itself, but versions that mxrec saved lie in '{0}/model'",),
    tables: ("tables that Table.save wrote lie in '{}/user'; name that directory",),
    lambda path: path: ("{} is not there; name the directory",),
    empty: ("{} is empty",),
}


@pytest.mark.parametrize("make", LOADS)
def test_load(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    place = make(tmp_path / "there")
    with pytest.raises(FileNotFoundError) as caught:
        mxrec.Table.load(place)
    message = str(caught.value)
    wanted = [text.format(place) for text in LOADS[make]]
    assert not [text for text in wanted if text not in message], message


def test_the_search_for_versions_below_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}" / "below").mkdir(parents=True)
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (scanned.append(path), scandir(path))[1])
    with mxrec.Table("t", 2) as table, pytest.raises(FileNotFoundError, match="not written by"):
        mxrec.restore(table, tmp_path)
    assert 100 <= len(scanned) <= 102


def test_others_beside_versions_of_ours_do_not_matter(tmp_path: Path) -> None:
    a_version(tmp_path)
    beside_a_tensorflow_checkpoint(tmp_path)
    with mxrec.Table("t", 2) as table:
        assert mxrec.restore(table, tmp_path) == 4 and len(table) == 3
    assert [version.step for version in mxrec.versions(tmp_path)] == [4]
    problems = [version.problem for version in mxrec.versions(tmp_path, all=True)]
    assert problems[0] is None
    assert problems[1] is not None and "was not written by mxrec" in problems[1]
