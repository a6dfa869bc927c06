"""Long chains: what is read of them, and how often."""

from __future__ import annotations

import collections
import os
import shutil
from pathlib import Path

import pytest
from version_support import fresh, make_table, state, train

import mxrec
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import naming, saving, tools

LINKS = 40


class Reads:
    """How often directories are listed and manifests read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists = 0
        self.manifests: collections.Counter[str] = collections.Counter()
        listdir, read = os.listdir, manifests.read

        def count_lists(path: str = os.curdir) -> list[str]:
            self.lists += 1
            return listdir(path)

        def count_manifests(directory: str) -> manifests.Manifest:
            self.manifests[directory] += 1
            return read(directory)

        monkeypatch.setattr(os, "listdir", count_lists)
        monkeypatch.setattr(manifests, "read", count_manifests)

    def clear(self) -> None:
        self.lists = 0
        self.manifests.clear()


def save_chain(directory: Path, last: int = LINKS) -> mxrec.Table:
    table = make_table("user")
    for step in range(1, last + 1):
        train(table, step, size=3)
        mxrec.save(table, directory, step=step, delta=step > 1)
    return table


def forget() -> None:
    """As in a new process."""
    chains._known.clear()


def test_every_link_is_read_once(tmp_path, monkeypatch):
    save_chain(tmp_path)
    newest = mxrec.versions(tmp_path)[-1].path
    forget()
    reads = Reads(monkeypatch)
    assert len(chains.resolve(newest)) == LINKS
    assert len(reads.manifests) == LINKS and set(reads.manifests.values()) == {1}
    assert reads.lists == 0  # each lies where its successor says
    reads.clear()
    assert len(mxrec.versions(tmp_path)) == LINKS
    assert len(reads.manifests) == LINKS and set(reads.manifests.values()) == {1}
    # Of the directory itself: once for its versions, once for TensorFlow's. Others are of tables.
    assert reads.lists <= LINKS + 2
    reads.clear()
    assert mxrec.prune(tmp_path) == []
    assert set(reads.manifests.values()) <= {1, 2} and reads.lists <= 8


def test_the_directory_is_read_once_for_what_was_set_aside(tmp_path, monkeypatch):
    save_chain(tmp_path, 6)
    *_, before, newest = mxrec.versions(tmp_path)
    for path in (before.path, mxrec.versions(tmp_path)[2].path):
        tools.compact(path)
    reads = Reads(monkeypatch)
    chain = chains.resolve(newest.path)
    assert reads.lists == 1
    assert [".old-" in link.path for link in chain] == [False, False, True, False, True, False]


def test_a_save_reads_only_what_is_new(tmp_path, monkeypatch):
    table = save_chain(tmp_path)
    reads = Reads(monkeypatch)
    for step in range(LINKS + 1, LINKS + 4):
        train(table, step, size=3)
        reads.clear()
        assert mxrec.save(table, tmp_path, step=step, delta=True).kind == "delta"
        assert sum(reads.manifests.values()) <= 1
    # Nor does the first save after a restore.
    others = fresh([table])
    forget()
    mxrec.restore(others, tmp_path)
    reads.clear()
    train(others[0], LINKS + 4)
    assert mxrec.save(others, tmp_path, step=LINKS + 4, delta=True).kind == "delta"
    assert not reads.manifests


@pytest.mark.parametrize("change", ["removed", "renamed", "damaged", "other", "manifest"])
def test_a_link_that_has_changed_is_noticed(tmp_path, change):
    """Although this process has read it before."""
    table = save_chain(tmp_path, 5)
    second = Path(mxrec.versions(tmp_path)[1].path)
    manifest = second / naming.MANIFEST_NAME
    whole = manifest.read_bytes()
    if change == "removed":
        shutil.rmtree(second)
    elif change == "renamed":
        second.rename(tmp_path / "elsewhere")
    elif change == "manifest":
        manifest.unlink()
    elif change == "damaged":
        manifest.write_bytes(whole[:30] + b"\0" + whole[31:])
    else:
        manifest.write_bytes((tmp_path / "v000003-step-3" / naming.MANIFEST_NAME).read_bytes())
    assert saving.find_parent(str(tmp_path), {"user": table._engine}) is None
    train(table, 6)
    assert mxrec.save(table, tmp_path, step=6, delta=True).kind == "full"
    others = fresh([table])
    assert mxrec.restore(others, tmp_path) == 6 and state(others) == state([table])


def test_a_restore_reads_manifests_again(tmp_path):
    """Also where the times of the file have been put back."""
    save_chain(tmp_path, 3)
    table = fresh([make_table("user")])
    mxrec.restore(table, tmp_path)
    manifest = tmp_path / "v000002-step-2" / naming.MANIFEST_NAME
    whole, times = manifest.read_bytes(), manifest.stat()
    manifest.write_bytes(whole[:30] + b"\0" + whole[31:])
    os.utime(manifest, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(mxrec.DataLossError, match="v000002-step-2"):
        mxrec.restore(table, tmp_path, step=3)
    assert [v.step for v in mxrec.versions(tmp_path)] == [1]
