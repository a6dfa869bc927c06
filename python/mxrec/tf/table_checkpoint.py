"""The tables of one checkpoint: where they lie, how they get there, how they come back.

A dense checkpoint ``DIR/model-200.*`` has its tables in ``DIR/sparse-model-200/``: one directory
per table, in the engine's format, and ``checkpoint-manifest.json``, which ties them to the dense
files and is written last. (No table can have that name: ``-`` is not allowed in one.)

* A checkpoint appears by one rename. Until then its directory is called
  ``sparse-model-200.tmp-<host>-<pid>``, and nothing reads a directory of that name. One that it
  replaces is called ``sparse-model-200.old-<host>-<pid>`` until the dense half is written too.
* ``saving`` and ``restoring`` are undone when their body fails. TensorFlow's own save or restore
  is the body, so the dense and the sparse half succeed together.
* A table whose rows are already those of the checkpoint is not read again. That is known by the
  checkpoint's uid and the engine's version counter, which changes with every change of the rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from mxrec import _mxrec

MANIFEST_NAME = "checkpoint-manifest.json"
FORMAT_VERSION = 1

# TensorFlow's names for the parts of a sharded checkpoint in the V1 format.
_SHARD_SUFFIX = re.compile(r"-(\?{5}|\d{5})-of-\d{5}$")


class SavedTable(Protocol):
    """What a table needs to be saved."""

    @property
    def table_name(self) -> str:
        """The name of its directory in a checkpoint."""

    @property
    def engine(self) -> Any:
        """The ``_mxrec.Table`` with the rows."""


class Manifest(NamedTuple):
    """Contents of ``checkpoint-manifest.json``.

    Attributes:
        step: the global step of the checkpoint; every table was saved with it.
        dense_step: value of the graph's global step variable when the tables were written, or
            None if there was none. The dense half must carry the same.
        dense_step_name: name of that variable in the dense half.
        tables: uid of every table's data, by table name.
    """

    step: int
    dense_step: int | None
    dense_step_name: str | None
    tables: dict[str, str]


class _State(NamedTuple):
    engine: Any
    uid: str
    version: int
    optimizer: str  # kind; a table with another one needs other slots of the same checkpoint


# The checkpoint that each table was last saved to or restored from, by table name. An entry keeps
# its engine object alive so that a later table of the name cannot be taken for it; the rows of a
# closed engine are gone all the same.
_states: dict[str, _State] = {}
_last_prefix: str | None = None
# By table name: its engine, and what its latest save and restore took.
_seconds: dict[str, tuple[Any, dict[str, float]]] = {}


def seconds_of(table: SavedTable) -> dict[str, float]:
    """What a table's latest "save" and "restore" took in this process, as far as there were any."""
    engine, seconds = _seconds.get(table.table_name, (None, {}))
    return {} if engine is None or engine != table.engine else dict(seconds)


def note_seconds(table: SavedTable, what: str, started: float) -> None:
    """Notes what a "save" or "restore" took that began at ``time.monotonic() == started``."""
    engine, seconds = _seconds.get(table.table_name, (None, {}))
    if engine is None or engine != table.engine:
        seconds = {}
        _seconds[table.table_name] = table.engine, seconds
    seconds[what] = time.monotonic() - started


def last_prefix() -> str | None:
    """Prefix of the checkpoint that this process saved or restored last; None before the first."""
    return _last_prefix


def sparse_directory(prefix: str) -> str:
    """The directory with the tables of the checkpoint ``prefix``."""
    parent, name = os.path.split(_SHARD_SUFFIX.sub("", prefix))
    return os.path.join(parent, f"sparse-{name}")


def remove(prefix: str) -> None:
    """Removes the tables of the checkpoint ``prefix``; none there is no error."""
    _remove_tree(sparse_directory(prefix))


def has_manifest(directory: str) -> bool:
    """Whether ``directory`` holds the tables of a checkpoint."""
    return os.path.isfile(os.path.join(directory, MANIFEST_NAME))


def find_directory(prefix: str, fits: Callable[[Manifest], bool]) -> str | None:
    """The directory whose tables belong to the dense half of the checkpoint ``prefix``.

    It is ``sparse_directory(prefix)``, unless a process died between the two halves of a save
    under a name that was used before. The tables that fit the dense half have then been set aside.

    Args:
        prefix: path prefix of the checkpoint's dense files.
        fits: says whether a manifest carries the step of the dense half.

    Returns:
        A directory, or None if there is none that fits.

    Raises:
        ValueError: a manifest is damaged or of a later version.
    """
    directory = sparse_directory(prefix)
    for candidate in (directory, *_siblings(directory, ".old-")):
        if has_manifest(candidate) and fits(read_manifest(candidate)):
            return candidate
    return None


def read_manifest(directory: str) -> Manifest:
    """Reads which tables a checkpoint has.

    Args:
        directory: its ``sparse_directory``.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the manifest is damaged or of a later version.
    """
    path = os.path.join(directory, MANIFEST_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        if fields["format"] != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {fields['format']}; this version of mxrec reads format "
                f"{FORMAT_VERSION}. Restore with the version that wrote it, or a later one."
            )
        return Manifest(
            step=int(fields["step"]),
            dense_step=fields["dense_step"],
            dense_step_name=fields["dense_step_name"],
            tables={str(name): str(uid) for name, uid in fields["tables"].items()},
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as err:
        raise ValueError(
            f"{path} is damaged ({err}). Restore an earlier checkpoint, and remove "
            f"{os.path.dirname(path)}."
        ) from err


@contextlib.contextmanager
def saving(
    prefix: str,
    tables: Sequence[SavedTable],
    step: int,
    *,
    dense_step: int | None = None,
    dense_step_name: str | None = None,
) -> Iterator[None]:
    """Saves tables as part of the checkpoint ``prefix``, then runs the body.

    The tables are in place, under their final name, when the body starts. If it raises, they are
    removed again, and those of an earlier checkpoint of the same name are back.

    Args:
        prefix: path prefix of the checkpoint's dense files, as in ``Saver.restore``.
        tables: what to save; none: only the body runs.
        step: the global step, >= 0.
        dense_step: value of the global step variable that the body will save, if any.
        dense_step_name: its name.

    Raises:
        ValueError: ``prefix`` is not on a local file system.
        OSError: the tables could not be written; nothing is left of them.
    """
    if not tables:
        yield
        return
    _check_local(prefix)
    directory = sparse_directory(prefix)
    parent = os.path.dirname(directory) or os.curdir
    os.makedirs(parent, exist_ok=True)
    _remove_leftovers(directory)
    owner = f"{socket.gethostname()}-{os.getpid()}"
    temporary = f"{directory}.tmp-{owner}"
    replaced = f"{directory}.old-{owner}"
    states = {}
    os.mkdir(temporary)
    try:
        for table in tables:
            states[table.table_name] = _save_table(
                table, os.path.join(temporary, table.table_name), step
            )
        uids = {name: state.uid for name, state in states.items()}
        _write_manifest(temporary, Manifest(step, dense_step, dense_step_name, uids))
        if os.path.lexists(directory):
            os.rename(directory, replaced)
        os.rename(temporary, directory)
        _sync(parent)
        yield
    except BaseException:
        _remove_tree(temporary)
        if os.path.lexists(replaced):
            _remove_tree(directory)
            os.rename(replaced, directory)
        elif states and _is_written(directory, states):
            _remove_tree(directory)
        raise
    for leftover in _siblings(directory, ".old-"):
        _remove_tree(leftover)
    _states.update(states)
    _set_last_prefix(prefix)


@contextlib.contextmanager
def restoring(
    prefix: str, tables: Sequence[SavedTable], directory: str | None = None
) -> Iterator[None]:
    """Restores tables from the checkpoint ``prefix``, then runs the body.

    All or nothing: if a table cannot be restored, or the body raises, every table is as it was.
    For that the tables that have to be replaced are first written to a temporary directory (beside
    the checkpoint, or in ``$TMPDIR`` where that is read-only), which costs next to nothing for the
    empty tables of a fresh process. A table that is in the wanted state already is left alone.

    Args:
        prefix: path prefix of the checkpoint's dense files.
        tables: what to restore; none: only the body runs. Further tables of the checkpoint are
            not looked at.
        directory: where the tables lie; None: in ``sparse_directory(prefix)``.

    Raises:
        FileNotFoundError: the checkpoint lacks tables, or one of ``tables``.
        ValueError: a table's dim is not that of the checkpoint.
        RuntimeError: a table's optimizer is not that of the checkpoint.
        OSError: a file is damaged or cannot be read.
    """
    if not tables:
        yield
        return
    directory = directory or sparse_directory(prefix)
    outdated = []
    for table, uid in _match(prefix, directory, tables):
        path = os.path.join(directory, table.table_name)
        found = str(_mxrec.read_checkpoint_info(path)["uid"])
        if found != uid:
            raise ValueError(
                f"{path} holds the rows of save {found}, but {MANIFEST_NAME} names {uid}: the "
                "directory was put together from several checkpoints. Copy checkpoints as a whole."
            )
        if not _is_current(table, uid):
            outdated.append((table, path))
    with contextlib.ExitStack() as snapshots:
        backup = ""
        if outdated:
            backup = snapshots.enter_context(_temporary_directory(directory))
            for table, _ in outdated:
                table.engine.save(os.path.join(backup, table.table_name))
        replaced: list[SavedTable] = []
        try:
            for table, path in outdated:
                started = time.monotonic()
                info = table.engine.restore(path)
                replaced.append(table)
                note_seconds(table, "restore", started)
                _states[table.table_name] = _state_of(table, info, table.engine.version)
            yield
        except BaseException:
            for table in replaced:
                _states.pop(table.table_name, None)
                table.engine.restore(os.path.join(backup, table.table_name))
            raise
    _set_last_prefix(prefix)


def _match(
    prefix: str, directory: str, tables: Sequence[SavedTable]
) -> list[tuple[SavedTable, str]]:
    """Pairs tables with the uid of their data in a checkpoint."""
    names = ", ".join(repr(table.table_name) for table in tables)
    remedy = (
        "Restore a checkpoint that was saved with them, create tables that are not to be restored "
        "with is_save=False, or load dense variables alone with "
        "tf.compat.v1.train.init_from_checkpoint."
    )
    if not has_manifest(directory):
        raise FileNotFoundError(
            f"The checkpoint {prefix} has no embedding tables: {directory} is missing or "
            f"incomplete, and the graph has the tables {names}. {remedy}"
        )
    manifest = read_manifest(directory)
    missing = [
        table.table_name
        for table in tables
        if table.table_name not in manifest.tables
        or not os.path.isdir(os.path.join(directory, table.table_name))
    ]
    if missing:
        raise FileNotFoundError(
            f"The checkpoint {prefix} has no table {', '.join(map(repr, missing))} in {directory}; "
            f"it has {', '.join(map(repr, sorted(manifest.tables)))}. {remedy}"
        )
    return [(table, manifest.tables[table.table_name]) for table in tables]


def _is_current(table: SavedTable, uid: str) -> bool:
    state = _states.get(table.table_name)
    return (
        state is not None
        and state.engine == table.engine
        and state.uid == uid
        and state.version == table.engine.version
        and state.optimizer == table.engine.optimizer.kind
    )


def _state_of(table: SavedTable, info: dict[str, Any], version: int) -> _State:
    return _State(table.engine, str(info["uid"]), version, table.engine.optimizer.kind)


def _save_table(table: SavedTable, path: str, step: int) -> _State:
    # Another thread may train while the engine writes: the version from before the save then
    # differs from the table's, and the next restore reads the files.
    version = table.engine.version
    started = time.monotonic()
    info = table.engine.save(path, step)
    note_seconds(table, "save", started)
    return _state_of(table, info, version)


def _write_manifest(directory: str, manifest: Manifest) -> None:
    path = os.path.join(directory, MANIFEST_NAME)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT_VERSION, **manifest._asdict()}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    _sync(directory)


def _is_written(directory: str, states: dict[str, _State]) -> bool:
    """Whether ``directory`` is the one that a failed save renamed into place."""
    try:
        with open(os.path.join(directory, MANIFEST_NAME), encoding="utf-8") as file:
            tables = json.load(file)["tables"]
    except FileNotFoundError:
        return False
    return bool(tables == {name: state.uid for name, state in states.items()})


def _remove_leftovers(directory: str) -> None:
    """Tidies up after a process that died during a save under this name; nobody else is there."""
    for leftover in _siblings(directory, ".tmp-"):
        _remove_tree(leftover)
    if not os.path.lexists(directory):
        for leftover in _siblings(directory, ".old-")[-1:]:
            os.rename(leftover, directory)


def _siblings(directory: str, suffix: str) -> list[str]:
    """Directories beside ``directory`` whose name begins with its own and ``suffix``."""
    parent, name = os.path.split(directory)
    if not os.path.isdir(parent or os.curdir):
        return []
    found = sorted(e for e in os.listdir(parent or os.curdir) if e.startswith(name + suffix))
    return [os.path.join(parent, entry) for entry in found]


@contextlib.contextmanager
def _temporary_directory(directory: str) -> Iterator[str]:
    parent = os.path.dirname(directory) or os.curdir
    place = parent if os.access(parent, os.W_OK) else None
    path = tempfile.mkdtemp(prefix=os.path.basename(directory) + ".tmp-restore-", dir=place)
    try:
        yield path
    finally:
        _remove_tree(path)


def _set_last_prefix(prefix: str) -> None:
    global _last_prefix
    _last_prefix = os.path.abspath(prefix)


def _check_local(prefix: str) -> None:
    if "://" in prefix:
        raise ValueError(
            f"save_path={prefix!r}: embedding tables are saved to local file systems only. Save "
            "to a local (or mounted) directory, or create the tables with is_save=False."
        )


def _remove_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
