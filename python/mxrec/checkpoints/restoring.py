"""Restores the tables of a version; all of them or none."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mxrec.checkpoints import catalog, files, loading, naming, saving, states
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints.chain import Link
from mxrec.errors import DataLossError


def match(path: str, engines: Mapping[str, Any], remedy: str, *, advise: bool = True) -> list[Link]:
    """The chain of a version, checked for the tables that are to be restored.

    Args:
        path: of the version's directory.
        engines: ``_mxrec.Table`` by name.
        remedy: what to do where a table is not there.
        advise: where a link does not restore, look for the newest version that does.

    Raises:
        FileNotFoundError: there is no version, or it lacks one of the tables.
        DataLossError: a link is missing, damaged or foreign; the message names the newest version
            that restores.
        ValueError: a link is of a later format.
    """
    directory = os.path.dirname(path) or os.curdir
    try:
        chain = chains.resolve(path)
        tables = chain[-1].manifest.tables
        missing = [name for name in engines if name not in tables]
        if not missing:
            chains.check_tables(chain, engines)
    except DataLossError as error:
        if not advise:
            raise
        raise catalog.explained(error, directory, path) from error
    if missing:
        raise FileNotFoundError(
            f"{path} has no table {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, sorted(tables)))}. {remedy}"
        )
    return chain


@contextlib.contextmanager
def restoring(
    chain: Sequence[Link],
    engines: Mapping[str, Any],
    tracks: bool,
    *,
    counts_recent: bool = False,
    advise: bool = True,
) -> Iterator[None]:
    """Restores tables, then runs the body.

    All or nothing: if a table cannot be restored, or the body raises, every table is as it was.
    For that the tables that have to be replaced are first written to a temporary directory: beside
    the version, or in ``$TMPDIR`` where that is read-only or has no space. Tables that nothing has
    changed since they were made need none of this: they are emptied again. A table that is in the
    wanted state already is left alone. One whose SSD tier has lost rows has no state to go back to:
    once replaced it stays so.

    Args:
        chain: of the version, as ``match`` gives it.
        engines: ``_mxrec.Table`` by name.
        tracks: count changes from there, so that a delta can follow.
        counts_recent: count uses as well, so that it can have a threshold.
        advise: where a file is damaged, look for the newest version that restores.

    Raises:
        ValueError: a table's dim is not that of the version.
        RuntimeError: a table's optimizer is not that of the version.
        OSError: a file is damaged or cannot be read, or a directory for what the tables hold cannot
            be written; no table has changed.
        MemoryError: neither place has the space for what the tables hold; likewise.
    """
    newest = chain[-1]
    uids = newest.manifest.uids
    outdated = {
        name: engine
        for name, engine in engines.items()
        if not states.is_current(name, engine, uids[name], tracks)
    }
    untouched = {name for name, engine in outdated.items() if _is_untouched(engine)}
    changed = {name: engine for name, engine in outdated.items() if name not in untouched}
    with contextlib.ExitStack() as snapshots:
        backup, unreadable = "", set[str]()
        if changed:
            backup, unreadable = _back_up(changed, newest.path, snapshots)
        replaced: list[str] = []
        try:
            for name, engine in outdated.items():
                started = time.monotonic()
                info = _restore(name, engine, chain, tracks, counts_recent, advise)
                replaced.append(name)
                states.note(name, engine, str(info["uid"]), engine.version)
                states.note_seconds(name, engine, "restore", started)
            yield
        except BaseException:
            for name in replaced:
                states.forget(name)
                if name in unreadable:
                    continue  # it stays as the version has it
                if name in untouched:
                    _empty(engines[name], newest.path)
                else:
                    engines[name].restore(os.path.join(backup, naming.table_directory(name)))
            raise
    saving.remember(newest.path, newest.manifest)


def _is_untouched(engine: Any) -> bool:
    """Whether a table is as it was made."""
    if engine.version != 0 or len(engine):
        return False
    stats = engine.stats()  # set_threshold changes no row
    threshold = stats["admission_threshold"]
    return threshold is None or (
        threshold == engine.admission.threshold and not stats["admission_frozen"]
    )


def _empty(engine: Any, path: str) -> None:
    """Makes a table again what it was when it was made."""
    twin = loading.empty_twin(engine)
    try:
        with contextlib.ExitStack() as stack:
            made, _ = _back_up({"empty": twin}, path, stack)
            engine.restore(os.path.join(made, "empty"))
    finally:
        twin.close()


def _back_up(
    engines: Mapping[str, Any], path: str, stack: contextlib.ExitStack
) -> tuple[str, set[str]]:
    """Saves tables where there is space.

    Args:
        engines: ``_mxrec.Table`` by name.
        path: of the version that is to be restored.
        stack: removes what was saved.

    Returns:
        The directory, and which tables could not be saved as their SSD tier has lost rows.
    """
    *others, last = _places(path)
    for place in others:
        with contextlib.ExitStack() as attempt:
            try:
                found = _save_all(engines, attempt.enter_context(_temporary_directory(place, path)))
            except (OSError, MemoryError) as error:
                if not _has_no_space(error):
                    raise
            else:
                stack.push(attempt.pop_all())
                return found
    try:
        return _save_all(engines, stack.enter_context(_temporary_directory(last, path)))
    except (OSError, MemoryError) as error:
        if _has_no_space(error):
            error.add_note(
                f"Before {path} is restored, what the tables hold now is written, so that a "
                f"restore that fails changes nothing: neither {' nor '.join([*others, last])} has "
                "the space. Free some, set TMPDIR to a directory that has it, or restore into "
                "tables that are new."
            )
        raise


def _save_all(engines: Mapping[str, Any], directory: str) -> tuple[str, set[str]]:
    unreadable = {
        name
        for name, engine in engines.items()
        if not _backed_up(engine, os.path.join(directory, naming.table_directory(name)))
    }
    return directory, unreadable


def _has_no_space(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def _backed_up(engine: Any, directory: str) -> bool:
    """Saves a table; False: rows of its SSD tier cannot be read any more."""
    lost = states.lost_rows(engine)
    try:
        engine.save(directory)
    except OSError:
        if states.lost_rows(engine) > lost:
            return False
        raise
    return True


def _restore(
    name: str,
    engine: Any,
    chain: Sequence[Link],
    tracks: bool,
    counts_recent: bool,
    advise: bool,
) -> dict[str, Any]:
    try:
        info: dict[str, Any] = engine.restore(
            [link.table(name) for link in chain], tracks=tracks, counts_recent=counts_recent
        )
    except DataLossError as error:
        if not advise:
            raise
        path = chain[-1].path
        raise catalog.explained(error, os.path.dirname(path) or os.curdir, path) from error
    return info


def _places(path: str) -> list[str]:
    """Directories for temporary files, the best first."""
    beside = os.path.dirname(path) or os.curdir
    found = [beside] if os.access(beside, os.W_OK) else []
    return list(dict.fromkeys([*found, tempfile.gettempdir()]))


@contextlib.contextmanager
def _temporary_directory(place: str, path: str) -> Iterator[str]:
    with saving.staged(os.path.join(place, os.path.basename(path))) as made:
        files.make_directory(made)
        yield made
