"""Numbered versions of numpy tables: ``mxrec.save``, ``restore``, ``versions`` and ``prune``."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from mxrec._fields import boolean, integer, path_text
from mxrec.checkpoints import catalog, files, naming, restoring, saving
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints.catalog import Version
from mxrec.table import Table

_MAX_STEP = 2**63 - 1
_REMEDY = "Save a version with it, or restore the other tables alone."

_lock = threading.Lock()
_saves: dict[str, Save] = {}  # the last one of each directory, until it has ended well


class Save:
    """A save: under way, or ended.

    Attributes:
        path: the directory that the version is written to.
        step: of the version.
        kind: "full" or "delta".
    """

    def __init__(self, path: str, version: saving.VersionSave) -> None:
        self.path = path
        self.step = version.step
        self.kind = version.kind
        self._version = version
        self._error: BaseException | None = None
        self._raised = False
        # No daemon: the end of the program waits for it.
        self._thread = threading.Thread(target=self._run, name="mxrec-save")

    @property
    def done(self) -> bool:
        """Whether the save has ended, well or not."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Waits until the version is complete.

        Raises:
            OSError: the operating system refused to write. Nothing is left of the version.
            CapacityError: Disk space ran out; likewise.
        """
        self._thread.join()
        if self._error is not None:
            self._raised = True
            raise self._error

    def _start(self) -> None:
        self._thread.start()

    def _take_error(self) -> BaseException | None:
        """The error that nobody has been told of."""
        self._thread.join()
        error, self._raised = (None if self._raised else self._error), True
        return error

    def _run(self) -> None:
        version = self._version
        try:
            with saving.staged(self.path) as staging:
                manifest = version.write(staging)
                saving.publish(staging, self.path)
            saving.remember(self.path, manifest)
            version.finish(saved=True)
        except BaseException as error:  # noqa: BLE001  # raised by wait() or the next save
            self._error = error
        finally:
            version.finish(saved=False)  # nothing, where it has ended

    def __repr__(self) -> str:
        state = "done" if self.done else "under way"
        return f"Save({self.path!r}, {self.kind}, step={self.step}, {state})"


def save(
    tables: Table | Sequence[Table],
    dir: str | os.PathLike[str],
    *,
    step: int,
    delta: bool = False,
    wait: bool = True,
    recent_threshold: int = 0,
) -> Save:
    """Saves tables as one version: all of them as they are at one instant, within this call.

    The version is a directory of its own in ``dir``. It is written beside its place, synced and
    renamed, so that a crash at any moment leaves it complete or out of sight, and earlier versions
    as they were. Saving a step again leaves the earlier version of that step until ``prune``; the
    later one counts.

    One version is saved at a time in a process: a call waits, before its instant, for the save that
    is under way. If a save in ``dir`` with ``wait=False`` has failed and ``wait()`` was not
    called, the next call raises its error and saves nothing; the one after that saves.

    From the first save on the tables count their changes, which costs a little memory and time.

    Args:
        tables: a table or several with different names.
        dir: directory of versions; made if it is not there.
        step: what the version is known by, in [0, 2**63).
        delta: store only what has changed since the version that this process saved or restored
            last, if that is in ``dir`` and had the same tables. Otherwise the version is a full
            one, as it is with False; see ``Save.kind``.
        wait: False: return when the instant is fixed; a thread writes, and training may go on.
        recent_threshold: keys that were seen less often since the parent are left out of a delta.
            They are in a later one when they have been seen often enough. Uses are counted from the
            first save that has a threshold, a full one or a delta: give it to each. 0: none; at
            most 2**31-1.

    Returns:
        The save; with ``wait=True`` it has ended.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of its range, the path is not in UTF-8, or two tables have
            one name.
        RuntimeError: A table is closed.
        OSError: The operating system refused to write; nothing is left of the version.
        CapacityError: Memory or disk space ran out; likewise.
    """
    engines = _engines(tables)
    directory = os.path.abspath(path_text("dir", dir))
    step = integer("step", step, 0, _MAX_STEP)
    delta, wait = boolean("delta", delta), boolean("wait", wait)
    recent = integer("recent_threshold", recent_threshold, 0, 2**31 - 1)
    _raise_earlier(directory)
    files.make_directories(directory)
    version = saving.VersionSave(
        engines,
        step,
        parent=(lambda: saving.find_parent(directory, engines)) if delta else None,
        tracks=True,
        recent_threshold=recent,
    )
    try:
        naming.remove_leftovers(directory)
        path = os.path.join(directory, naming.numbered_name(_next_serial(directory), step))
        started = Save(path, version)
        with _lock:
            _saves[directory] = started
        started._start()
    except BaseException:
        version.finish(saved=False)
        raise
    if wait:
        started.wait()
    return started


def restore(
    tables: Table | Sequence[Table], dir: str | os.PathLike[str], *, step: int | None = None
) -> int:
    """Restores tables from a version; all of them or none.

    Tables are matched by name; further tables of the version are not looked at. A delta is replayed
    on the versions that it builds on. A table that is in the wanted state already is not read.
    Changes count from there, so the next delta builds on this version.

    Args:
        tables: a table or several with different names; their dim and kind of optimizer must be
            those of the version, the numbers of shards may differ.
        dir: directory of versions.
        step: the version wanted; None: the newest complete one. A version that is complete and
            damaged is an error, never silently an older one.

    Returns:
        The step restored.

    Raises:
        FileNotFoundError: There is no version, none of that step, or it lacks a table.
        DataLossError: The version or one that it builds on is damaged, missing or another one; the
            message names it, and the newest version that restores.
        ValueError: A table's dim differs, or two tables have one name.
        RuntimeError: A table is closed or has another optimizer.
    """
    engines = _engines(tables)
    directory = os.path.abspath(path_text("dir", dir))
    if step is not None:
        step = integer("step", step, 0, _MAX_STEP)
    with saving.turn():
        path = catalog.of_step(directory, step)
        chain = restoring.match(path, engines, _REMEDY)
        with restoring.restoring(chain, engines, tracks=True):
            return chain[-1].manifest.step


def versions(dir: str | os.PathLike[str], all: bool = False) -> list[Version]:
    """Lists the versions of a directory, the oldest first.

    Args:
        dir: directory of versions, or of TensorFlow checkpoints.
        all: also what cannot be restored (incomplete, damaged, superseded), with the reason in
            ``problem``; every byte of the tables is read for that, and of a TensorFlow checkpoint
            its ``.index`` and the sizes of its data files. False: complete versions only, judged
            by their manifests and the sizes of the tables' files.

    Returns:
        For each: ``step``, ``kind`` ("full" or "delta"), ``parent`` (the step that it builds on,
        None: none), ``bytes`` (its own files), ``path``, ``problem`` (None: there is none).

    Raises:
        FileNotFoundError: There is no such directory.
    """
    return catalog.versions(path_text("dir", dir), boolean("all", all))


def prune(dir: str | os.PathLike[str], *, keep: int = 5) -> list[int]:
    """Removes old versions of ``mxrec.save``, and what dead processes have left unfinished.

    The newest ``keep`` full versions stay, with all deltas that build on them; so do the newest
    version and whatever a version that stays builds on.

    Args:
        dir: directory of versions.
        keep: full versions to keep, at least 1.

    Returns:
        The steps of the versions removed.

    Raises:
        ValueError: ``keep`` is below 1.
        FileNotFoundError: There is no such directory.
        OSError: The operating system refused to remove a file.
    """
    directory = os.path.abspath(path_text("dir", dir))
    keep = integer("keep", keep, 1, 2**31 - 1)
    with saving.turn():
        naming.remove_leftovers(directory)
        naming.put_back(directory)
        numbered = [
            path
            for path in catalog.entries(directory)
            if naming.parse_numbered(os.path.basename(path))
        ]
        latest = {catalog.step_of(path): path for path in numbered}
        current = [path for path in numbered if latest[catalog.step_of(path)] == path]
        reader = chains.Reader()
        roots = {path: _root(reader, path) for path in numbered}
        used = {roots[path] for path in current}
        full = [path for path in numbered if roots[path] == path and path in used][-keep:]
        # A chain that cannot be followed is not ours to judge.
        stay = [path for path in current if roots[path] is None or roots[path] in full]
        stay += numbered[-1:]
        needed = chains.needed_by(stay)
        removed = []
        # Later ones first: a delta goes before what it builds on.
        for path in reversed(numbered):
            if path not in needed and path not in stay:
                removed.append(catalog.step_of(path))
                naming.discard(path)
            for old in reader.aside(path):
                if old not in needed:
                    naming.discard(old)
        files.sync_directory(directory)
    return sorted(step for step in removed if step is not None)


def _root(reader: chains.Reader, path: str) -> str | None:
    """The place of the full version that one goes back to; None: a link is missing or damaged."""
    root = reader.root(path)
    if root is None:
        return None
    return os.path.join(os.path.dirname(root), naming.place_of(os.path.basename(root)))


def _next_serial(directory: str) -> int:
    names = (entry.split(".")[0] for entry in os.listdir(directory))
    return 1 + max((n.serial for name in names if (n := naming.parse_numbered(name))), default=0)


def _raise_earlier(directory: str) -> None:
    with _lock:
        earlier = _saves.pop(directory, None)
    error = None if earlier is None else earlier._take_error()
    if error is not None:
        assert earlier is not None
        error.add_note(
            f"This is what the save of step {earlier.step} to {earlier.path} failed of, which was "
            "begun with wait=False. Nothing was saved now; call again to save."
        )
        raise error


def _engines(tables: Table | Sequence[Table]) -> Mapping[str, Any]:
    chosen = [tables] if isinstance(tables, Table) else list(tables)
    for table in chosen:
        if not isinstance(table, Table):
            raise TypeError(f"tables must be mxrec.Table objects, got {table!r}")
    if not chosen:
        raise ValueError("tables must name at least one table, got none")
    engines = {table.name: table._engine for table in chosen}
    if len(engines) != len(chosen):
        names = sorted(table.name for table in chosen)
        raise ValueError(f"tables must have different names, got {', '.join(map(repr, names))}")
    for table in chosen:
        if table.closed:
            raise RuntimeError(f"table {table.name!r} is closed")
    return engines
