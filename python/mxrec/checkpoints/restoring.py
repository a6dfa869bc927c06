"""Restores the tables of a version; all of them or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mxrec.checkpoints import catalog, files, naming, saving, states
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
    For that the tables that have to be replaced are first written to a temporary directory (beside
    the version, or in ``$TMPDIR`` where that is read-only), which costs next to nothing for the
    empty tables of a fresh process. A table that is in the wanted state already is left alone. One
    whose SSD tier has lost rows has no state to go back to: once replaced it stays so.

    Args:
        chain: of the version, as ``match`` gives it.
        engines: ``_mxrec.Table`` by name.
        tracks: count changes from there, so that a delta can follow.
        counts_recent: count uses as well, so that it can have a threshold.
        advise: where a file is damaged, look for the newest version that restores.

    Raises:
        ValueError: a table's dim is not that of the version.
        RuntimeError: a table's optimizer is not that of the version.
        OSError: a file is damaged or cannot be read.
    """
    newest = chain[-1]
    uids = newest.manifest.uids
    outdated = {
        name: engine
        for name, engine in engines.items()
        if not states.is_current(name, engine, uids[name], tracks)
    }
    with contextlib.ExitStack() as snapshots:
        backup, unreadable = "", set()
        if outdated:
            backup = snapshots.enter_context(_temporary_directory(newest.path))
            unreadable = {
                name
                for name, engine in outdated.items()
                if not _backed_up(engine, os.path.join(backup, naming.table_directory(name)))
            }
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
                engines[name].restore(os.path.join(backup, naming.table_directory(name)))
            raise
    saving.remember(newest.path, newest.manifest)


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


@contextlib.contextmanager
def _temporary_directory(path: str) -> Iterator[str]:
    parent = os.path.dirname(path) or os.curdir
    place = parent if os.access(parent, os.W_OK) else tempfile.gettempdir()
    with saving.staged(os.path.join(place, os.path.basename(path))) as made:
        files.make_directory(made)
        yield made
