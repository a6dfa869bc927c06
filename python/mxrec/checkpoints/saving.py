"""Saves all tables of a model as one version: fixes the instant first, writes later."""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import files, naming, states
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.checkpoints.manifest import Dense, Manifest, Parent, SavedTable
from mxrec.tiers import RECORDED

_KNOWN_VERSIONS = 4096

# One version is saved or restored at a time in a process: a second save waits here, before its
# instant, for the first.
_turn = threading.Lock()
# Where the data of a uid lies: saved or restored by this process.
_places: collections.OrderedDict[str, str] = collections.OrderedDict()
_places_lock = threading.Lock()


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Waits for the save that is under way in this process; none begins while the body runs."""
    with _turn:
        yield


def is_busy() -> bool:
    """Whether a save is under way in this process: another would have to wait."""
    return _turn.locked()


def remember(path: str, manifest: Manifest) -> None:
    """Notes that this process has saved or restored a version: deltas may build on it.

    Args:
        path: of its directory.
        manifest: of that directory.
    """
    with _places_lock:
        for uid in manifest.uids.values():
            _places[uid] = path if "://" in path else os.path.abspath(path)
            _places.move_to_end(uid)
        while len(_places) > _KNOWN_VERSIONS:
            _places.popitem(last=False)


def place_of(engines: Mapping[str, Any]) -> str | None:
    """The version that all tables count their changes from, saved or restored by this process.

    Args:
        engines: ``_mxrec.Table`` by name.

    Returns:
        Path of its directory, which may be gone; None: there is no such version.
    """
    with _places_lock:
        paths = {_places.get(str(engine.lineage)) for engine in engines.values()}
    return paths.pop() if len(paths) == 1 else None


def lineages(engines: Mapping[str, Any]) -> dict[str, str]:
    """The uid that each table counts its changes from; empty: none."""
    return {name: str(engine.lineage) for name, engine in engines.items()}


def find_parent(directory: str, engines: Mapping[str, Any]) -> Link | None:
    """The version in a directory whose successor the tables can save as a delta.

    Args:
        directory: of versions.
        engines: ``_mxrec.Table`` by name.

    Returns:
        The version that all tables count their changes from; None: there is none in ``directory``,
        or it does not restore by its manifests.
    """
    chain = find_chain(directory, engines)
    return chain[-1] if chain else None


def find_chain(directory: str, engines: Mapping[str, Any]) -> list[Link]:
    """The chain of what ``find_parent`` gives, the full version first; empty: it gives None.

    Of what this process has read before only the files' inodes, sizes and times are looked at:
    training waits for it.

    Args:
        directory: of versions.
        engines: ``_mxrec.Table`` by name.
    """
    path = place_of(engines)
    if path is None or os.path.dirname(path) != os.path.abspath(directory):
        return []
    reader = chains.Reader(trusts=True)
    wanted = lineages(engines)
    for candidate in reader.candidates(os.path.join(directory, os.path.basename(path))):
        try:
            if reader.link(candidate).manifest.uids == wanted:
                return reader.chain(candidate)
        except (OSError, ValueError):
            continue  # then the next save is a full one, which needs none of this
    return []


class VersionSave:
    """A version of which the instant is fixed. ``write`` and ``finish`` must follow, in this order.

    Attributes:
        step: of the version.
        parent: what it builds on; None: it is a full version.
        saved: when the instant was, seconds since 1970.
        infos: what the engine says of each table written, by name.
        manifest: of the version; None until ``write`` has ended.
    """

    def __init__(
        self,
        engines: Mapping[str, Any],
        step: int,
        *,
        parent: Callable[[], Link | None] | None = None,
        tracks: bool = False,
        recent_threshold: int = 0,
    ) -> None:
        """Fixes the instant, after the save that is under way in this process has ended.

        Args:
            engines: ``_mxrec.Table`` by name.
            step: of the version, >= 0.
            parent: called when it is this save's turn, gives the version of which the successor is
                wanted, as ``find_parent`` does; None, or if it gives None: a full version.
            tracks: count changes from this instant, so that a delta can follow.
            recent_threshold: keys that were seen less often since the parent are left out of a
                delta; 0: none. Of a full version: uses are counted for the delta to it.
        """
        self.step = step
        self.parent: Link | None = None
        self.infos: dict[str, dict[str, Any]] = {}
        self.manifest: Manifest | None = None
        self._tracks = tracks
        self._saves: dict[str, Any] = {}
        self._finished = False
        _turn.acquire()
        try:
            self.parent = None if parent is None else parent()
            # Before the instant: a change in between, by another thread, is then one since what is
            # noted here, and a restore reads the version although it need not. After the instant it
            # would be taken for part of the version.
            self._held = {name: (engine, engine.version) for name, engine in engines.items()}
            self._begin(engines, recent_threshold)
            self._tiers = _tiers_of(engines)
        except BaseException:
            self.finish(saved=False)
            raise
        self.saved = time.time()

    @property
    def kind(self) -> str:
        """``full`` or ``delta``."""
        return "full" if self.parent is None else "delta"

    def _begin(self, engines: Mapping[str, Any], recent_threshold: int) -> None:
        parent = self.parent
        if parent is not None:
            uids = parent.manifest.uids
            try:
                for name, engine in engines.items():
                    self._saves[name] = engine.begin_save(
                        step=self.step,
                        parent=uids[name],
                        tracks=self._tracks,
                        recent_threshold=recent_threshold,
                    )
                return
            except RuntimeError:
                # Another save or restore came between. A table that is closed fails again below.
                self.parent = None
                while self._saves:
                    self._saves.popitem()[1].finish(False)
        for name, engine in engines.items():
            # A full version leaves nothing out: the threshold has the uses counted that matter
            # for the delta to it.
            self._saves[name] = engine.begin_save(
                step=self.step, tracks=self._tracks, recent_threshold=recent_threshold
            )

    def write(self, directory: str, dense: Dense | None = None) -> Manifest:
        """Writes all tables and the manifest into a new directory, synced; it is not renamed.

        Args:
            directory: to make; its parent must exist.
            dense: the dense half, if there is one.

        Returns:
            The manifest.

        Raises:
            OSError: the operating system refused; the caller removes ``directory``.
            MemoryError: disk space or memory ran out; likewise.
        """
        files.make_directory(directory)
        tables = {}
        for name, save in self._saves.items():
            path = os.path.join(directory, naming.table_directory(name))
            files.about_to("table", path)
            started = time.monotonic()
            self.infos[name] = info = save.write(path)
            states.note_seconds(name, self._held[name][0], "save", started)
            tables[name] = SavedTable(str(info["uid"]), str(info["parent"]))
        parent = None
        if self.parent is not None:
            base = naming.place_of(os.path.basename(self.parent.path))
            parent = Parent(base, self.parent.manifest.step)
        self.manifest = Manifest(
            self.step,
            tables,
            parent=parent,
            dense=dense,
            saved=round(self.saved, 3),
            tiers=self._tiers,
        )
        manifests.write(directory, self.manifest)
        return self.manifest

    def finish(self, saved: bool) -> None:
        """Ends the save; a second call does nothing.

        Args:
            saved: the version is in its place. False: the tables count their changes as if there
                had been no save.
        """
        if self._finished:
            return
        self._finished = True
        try:
            for name, save in self._saves.items():
                save.finish(saved)
                if saved:
                    engine, version = self._held[name]
                    states.note(name, engine, str(self.infos[name]["uid"]), version)
        finally:
            self._saves.clear()
            _turn.release()


def _tiers_of(engines: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the tiers of tables have done until now, of those that have an SSD tier."""
    found = {}
    for name, engine in engines.items():
        if engine.ssd_rows > 0:
            stats = engine.stats()
            found[name] = {each: stats[each] for each in RECORDED}
    return found


@contextlib.contextmanager
def staged(path: str) -> Iterator[str]:
    """Gives a name for the unfinished version that is to become ``path``; removes what is left.

    What is there when the body ends, by an error or not, is removed.

    Args:
        path: where the version is to be.
    """
    staging = naming.unfinished(path)
    try:
        yield staging
    finally:
        try:
            files.remove_tree(staging)
        finally:
            naming.forget_unfinished(staging)


def publish(staging: str, path: str) -> None:
    """Puts a version that is written in its place, where nothing may be.

    Args:
        staging: its directory so far; again, if this raises.
        path: its directory from now on, beside it.
    """
    files.rename(staging, path)
    try:
        files.sync_directory(os.path.dirname(path))
    except BaseException:
        files.rename(path, staging)
        raise
