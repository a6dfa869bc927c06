"""The tables of one TensorFlow checkpoint: where they lie and how they come back.

A dense checkpoint ``DIR/model-200.*`` has its tables in the version directory
``DIR/sparse-model-200/`` (``mxrec.checkpoints``). Its manifest ties them to the dense files. (No
table can have the manifest's name: ``-`` is not allowed in one.)

``checkpoint_save`` says how one appears. When it replaces another of its name, the other is set
aside under ``sparse-model-200.old-…`` with the dense files until both new halves are there, and
longer while deltas build on it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from mxrec import _mxrec
from mxrec.checkpoints import dense as dense_half
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import naming, regular, restoring, saving, states
from mxrec.checkpoints.manifest import Manifest
from mxrec.tf import remote

DENSE_COPY = dense_half.COPY

# TensorFlow's names for the parts of a sharded checkpoint in the V1 format.
_SHARD_SUFFIX = re.compile(r"-(\?{5}|\d{5})-of-\d{5}$")
_REMEDY = (
    "Restore a checkpoint that was saved with them, create tables that are not to be restored "
    "with is_save=False, or load dense variables alone with "
    "tf.compat.v1.train.init_from_checkpoint."
)


class SavedTable(Protocol):
    """What a table needs to be saved."""

    @property
    def table_name(self) -> str:
        """The name of its directory in a checkpoint."""

    @property
    def engine(self) -> Any:
        """The ``_mxrec.Table`` with the rows."""


class Halves(NamedTuple):
    """The two halves of a checkpoint.

    Attributes:
        directory: with the tables.
        dense: prefix of the dense files.
    """

    directory: str
    dense: str


_last_prefix: str | None = None


def last_prefix() -> str | None:
    """Prefix of the checkpoint that this process saved or restored last; None before the first."""
    return _last_prefix


def set_last_prefix(prefix: str) -> None:
    """Notes the checkpoint that this process has saved or restored.

    Args:
        prefix: path prefix of its dense files.
    """
    global _last_prefix
    _last_prefix = remote.absolute(prefix)


def seconds_of(table: SavedTable) -> dict[str, float]:
    """What a table's latest "save" and "restore" took in this process, as far as there were any."""
    return states.seconds_of(table.table_name, table.engine)


def note_seconds(table: SavedTable, what: str, started: float) -> None:
    """Notes what a "save" or "restore" took that began at ``time.monotonic() == started``."""
    states.note_seconds(table.table_name, table.engine, what, started)


def sparse_directory(prefix: str) -> str:
    """The directory with the tables of the checkpoint ``prefix``."""
    parent, name = os.path.split(_SHARD_SUFFIX.sub("", prefix))
    return os.path.join(parent, naming.SPARSE_PREFIX + name)


def engines_of(tables: Sequence[SavedTable]) -> dict[str, Any]:
    """The engine table of each table, by name."""
    return {table.table_name: table.engine for table in tables}


def remove(prefix: str) -> None:
    """Removes the tables of the checkpoint ``prefix``; none there is no error."""
    directory = sparse_directory(prefix)
    if remote.is_remote(directory):
        remote.remove(directory)
    else:
        naming.discard(directory)


def has_manifest(directory: str) -> bool:
    """Whether ``directory`` holds the tables of a checkpoint."""
    if remote.is_remote(directory):
        return remote.exists(os.path.join(directory, naming.MANIFEST_NAME))
    return manifests.is_there(directory)


def read_manifest(directory: str) -> Manifest:
    """Reads which tables a checkpoint has.

    Args:
        directory: its ``sparse_directory``.

    Raises:
        FileNotFoundError: there are none.
        DataLossError: the manifest is damaged.
        ValueError: it is of a later version.
    """
    return remote.read_manifest(directory)


def find_halves(prefix: str, dense_fits: Callable[[Manifest, str], bool]) -> Halves | None:
    """The tables that belong to the dense half of the checkpoint ``prefix``, and that half.

    They are in ``sparse_directory(prefix)``, unless a process died while it replaced a checkpoint
    of this name. The earlier tables have then been set aside, with the dense files that they
    belong to.

    Args:
        prefix: path prefix of the checkpoint's dense files.
        dense_fits: says whether a manifest carries the step of the dense half with a prefix.

    Returns:
        The halves; None if no tables fit.

    Raises:
        DataLossError: a manifest is damaged.
        ValueError: a manifest is of a later version.
    """
    directory = sparse_directory(prefix)
    base = os.path.basename(prefix)
    aside = [] if remote.is_remote(directory) else naming.siblings(directory, ".old-")
    found = []
    for candidate in (directory, *aside):
        if has_manifest(candidate):
            copy = os.path.join(candidate, DENSE_COPY, base)
            dense = copy if os.path.exists(copy + ".index") else prefix
            found.append((Halves(candidate, dense), read_manifest(candidate)))
    for halves, manifest in found:
        known = None if manifest.dense is None else manifest.dense.index
        index = index_checksum(halves.dense)
        if (known == index) if known and index else dense_fits(manifest, halves.dense):
            return halves
    # The dense files may have been written again by a program of the user's.
    for halves, manifest in found[:1]:
        if not aside and dense_fits(manifest, halves.dense):
            return halves
    return None


def dense_exists(prefix: str) -> bool:
    """Whether there is a dense half, in any of TensorFlow's formats.

    Args:
        prefix: path prefix of its files.
    """
    return bool(
        tf.io.gfile.exists(prefix + ".index")
        or tf.io.gfile.exists(prefix)
        or ("-?????-of-" in prefix and tf.io.gfile.glob(prefix))
    )


def index_checksum(dense: str) -> str | None:
    """What ties a manifest to the dense half: the checksum of its ``.index``; None: it has none.

    Args:
        dense: path prefix of the dense files.
    """
    path = dense + ".index"
    if remote.is_remote(path):
        data = remote.read(path) if remote.exists(path) else None
    elif os.path.exists(path):
        data = regular.read(path, links=True)
    else:
        data = None
    return None if data is None else f"{_mxrec.checksum(data):016x}"


@contextlib.contextmanager
def restored(
    prefix: str,
    tables: Sequence[SavedTable],
    directory: str | None = None,
    *,
    tracks: bool = False,
    counts_recent: bool = False,
) -> Iterator[Manifest]:
    """Restores tables from the checkpoint ``prefix``, then runs the body; all or nothing.

    To be called in ``saving.turn()``. A delta is replayed on the versions that it builds on. A
    table that is in the wanted state already is left alone.

    Args:
        prefix: path prefix of the checkpoint's dense files.
        tables: what to restore. Further tables of the checkpoint are not looked at.
        directory: where the tables lie; None: in ``sparse_directory(prefix)``.
        tracks: count changes from there, so that a delta can follow.
        counts_recent: count uses as well, so that it can have a threshold.

    Raises:
        FileNotFoundError: the checkpoint lacks tables, or one of ``tables``, or another program
            wrote them.
        ValueError: a table's dim is not that of the checkpoint.
        RuntimeError: a table's optimizer is not that of the checkpoint.
        DataLossError: a file is damaged, or a link of the chain is missing or another one.
        OSError: a file cannot be read.
    """
    directory = directory or sparse_directory(prefix)
    if not has_manifest(directory):
        names = ", ".join(repr(table.table_name) for table in tables)
        if (problem := remote.problem_of(directory)) is not None:
            raise FileNotFoundError(
                f"The checkpoint {prefix} has no embedding tables that could be restored into "
                f"{names}: {problem}"
            )
        if (advice := _no_prefix(prefix)) is not None:
            raise FileNotFoundError(advice)
        raise FileNotFoundError(
            f"The checkpoint {prefix} has no embedding tables: {directory} is missing or "
            f"incomplete, and the graph has the tables {names}. {_REMEDY}"
        )
    engines = engines_of(tables)
    with remote.fetched(directory, list(engines)) as path:
        advise = not remote.is_remote(directory)
        chain = restoring.match(path, engines, _REMEDY, advise=advise)
        with restoring.restoring(
            chain, engines, tracks, counts_recent=counts_recent, advise=advise
        ):
            yield chain[-1].manifest
        saving.remember(directory, chain[-1].manifest)
    set_last_prefix(prefix)


def _no_prefix(path: str) -> str | None:
    """What to restore instead of a directory, or of one file of a checkpoint; None: it is neither.

    Args:
        path: that was given as path prefix.
    """
    folder, name = os.path.split(path.rstrip("/"))
    instead = naming.prefix_of_file(name)
    if instead is not None and tf.io.gfile.exists(path):
        prefix = os.path.join(folder, instead)
        return f"{path} is one file of a checkpoint; restore it by its path prefix, {prefix!r}."
    # Some file systems take the prefix of a file's path for a directory.
    if not tf.io.gfile.isdir(path) or tf.io.gfile.exists(f"{path}.index"):
        return None
    if name.startswith(naming.SPARSE_PREFIX) and has_manifest(path):
        prefix = os.path.join(folder, name.removeprefix(naming.SPARSE_PREFIX))
        return f"{path} has the tables of a checkpoint; restore it by its path prefix, {prefix!r}."
    newest = tf.train.latest_checkpoint(path)
    which = "" if newest is None else f"; the newest there is {newest!r}"
    return (
        f"{path} is a directory, not the path prefix of a checkpoint, which is its directory and "
        f"name as Saver.save returned it{which}. tf.train.latest_checkpoint({path!r}) finds it."
    )


def holds(prefix: str, tables: Sequence[SavedTable], tracks: bool) -> bool:
    """Whether the tables are exactly in the state of a checkpoint that is there.

    Args:
        prefix: path prefix of its dense files.
        tables: what it must hold.
        tracks: also that the next delta would build on it.
    """
    directory = sparse_directory(prefix)
    if not has_manifest(directory):
        return False
    uids = read_manifest(directory).uids
    return all(
        name in uids and states.is_current(name, engine, uids[name], tracks)
        for name, engine in engines_of(tables).items()
    )
