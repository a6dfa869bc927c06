"""Which checkpoints a Saver keeps: TensorFlow's ``checkpoint`` file, and what is deleted.

``max_to_keep`` and ``keep_checkpoint_every_n_hours`` count full checkpoints. Deltas live and die
with the full one that they go back to; what a checkpoint that stays builds on stays as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from tensorflow.python.checkpoint import checkpoint_management

from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import files, naming
from mxrec.checkpoints import manifest as manifests
from mxrec.tf import remote, table_checkpoint
from mxrec.tf.log import logger

_ROOTS = "_mxrec_roots"
_DUE = "_mxrec_due"

_Entry = tuple[str, float]  # as in Saver._last_checkpoints: path, time


def record(
    saver: Any,
    path: str,
    latest_filename: str | None,
    folder: str,
    keep: Callable[[], None],
) -> None:
    """Makes a checkpoint known, and decides which others are to go.

    If it raises, TensorFlow's ``checkpoint`` file is as it was, unless ``keep`` was called.

    Args:
        saver: a ``tf.compat.v1.train.Saver``.
        path: what ``save`` returns: the path prefix of the dense files.
        latest_filename: as in ``Saver.save``.
        folder: a directory on the checkpoint's file system, for what is written before it gets its
            name; not used where that is remote.
        keep: called before an error is raised where ``checkpoint`` names the new checkpoint for
            good: it must stay then.
    """
    # A Saver has no public way to count some checkpoints and not others.
    kept: list[_Entry] = list(saver._last_checkpoints)
    due: list[_Entry] = []
    if saver.saver_def.max_to_keep:
        kept = [entry for entry in kept if entry[0] != path]
        kept.append((path, time.time()))
        roots = _roots_of(saver, [entry[0] for entry in kept], path)
        full = [entry for entry in kept if roots[entry[0]] == _directory(entry[0])]
        due = full[: -saver.saver_def.max_to_keep]
        # What the new one goes back to stays, be it as old as it may.
        gone = {_directory(entry[0]) for entry in due} - {roots[path]}
        due = [entry for entry in kept if roots[entry[0]] in gone]
        kept = [entry for entry in kept if roots[entry[0]] not in gone]

    def note() -> None:
        saver._last_checkpoints = kept
        setattr(saver, _DUE, [*getattr(saver, _DUE, []), *due])

    def stays() -> None:
        keep()
        note()

    home = os.path.dirname(path)
    name = latest_filename or "checkpoint"
    state = os.path.join(home, name)
    if state == path:
        raise RuntimeError(
            f"Save path {path!r} is that of TensorFlow's checkpoint state file. Save under another "
            "path, or give another latest_filename."
        )
    files.about_to("state", state)
    is_local = not remote.is_remote(state)
    if is_local:
        name = os.path.relpath(os.path.join(folder, "state"), home or os.curdir)
    checkpoint_management.update_checkpoint_state_internal(
        save_dir=home,
        model_checkpoint_path=path,
        all_model_checkpoint_paths=[entry[0] for entry in kept] or None,
        latest_filename=name,
        save_relative_paths=saver._save_relative_paths,
    )
    if is_local:
        _replace(os.path.join(home, name), state, os.path.join(folder, "state-before"), stays)
    note()


def _replace(written: str, state: str, before: str, stays: Callable[[], None]) -> None:
    """Puts a state file that is written in its place, durably; or leaves the one that is there.

    Args:
        written: path of the new file.
        state: its place.
        before: a free name for the file that is there.
        stays: called where the new one is in its place, and cannot be taken back for certain.
    """
    home = os.path.dirname(state)
    files.sync_file(written)
    replaces = os.path.lexists(state)
    if replaces:
        files.link(state, before)
    files.rename(written, state)
    try:
        files.sync_directory(home)
    except BaseException as error:
        try:
            if replaces:
                files.rename(before, state)
            else:
                files.remove_file(state)
            files.sync_directory(home)
        except BaseException as again:  # noqa: BLE001  # the first one is raised
            error.add_note(
                f"The checkpoint that was saved is whole and stays in its place, as {state} names "
                f"it, or may after a crash: what that was could not be put back and synced: {again}"
            )
            stays()
        raise


def delete_due(saver: Any, meta_graph_suffix: str) -> None:
    """Deletes what ``record`` has decided on, apart from what is kept by the hour.

    Checkpoints that others on disk build on wait for a later call. Errors are warnings, as in
    TensorFlow: the checkpoint that was saved is complete.

    Args:
        saver: a ``tf.compat.v1.train.Saver``.
        meta_graph_suffix: as in ``Saver.save``.
    """
    due: list[_Entry] = getattr(saver, _DUE, [])
    if not due:
        return
    roots = _roots_of(saver, [entry[0] for entry in due])
    stay = set()
    for path, when in due:
        if roots[path] == _directory(path) and when > saver._next_checkpoint_time:
            saver._next_checkpoint_time += saver.saver_def.keep_checkpoint_every_n_hours * 3600
            stay.add(roots[path])
    due = [entry for entry in due if roots[entry[0]] not in stay]
    needed = _needed_besides([_directory(entry[0]) for entry in due])
    waiting: list[_Entry] = []
    # Later ones first: a delta goes before what it builds on.
    for path, when in reversed(due):
        if _directory(path) in needed:
            waiting.insert(0, (path, when))
            continue
        try:
            files.about_to("remove", path)
            checkpoint_management.remove_checkpoint(
                path, saver.saver_def.version, meta_graph_suffix
            )
            table_checkpoint.remove(path)
            getattr(saver, _ROOTS).pop(path, None)
        except Exception as error:  # noqa: BLE001  # as TensorFlow does
            logger.warning("%s could not be removed: %s", path, error)
    setattr(saver, _DUE, waiting)


def root_of(path: str) -> str | None:
    """The version directory of the full checkpoint that a checkpoint goes back to.

    Args:
        path: prefix of its dense files.

    Returns:
        None: it has no tables, or a link cannot be read.
    """
    directory = _directory(path)
    return remote.roots_of([directory])[directory]


def _directory(path: str) -> str:
    return table_checkpoint.sparse_directory(path)


def _roots_of(saver: Any, paths: list[str], new: str | None = None) -> dict[str, str]:
    """The version directory that each checkpoint goes back to; its own where that is not known."""
    known: dict[str, str] = getattr(saver, _ROOTS, {})
    if new is not None:
        known.pop(new, None)  # saved again under the name
    found = remote.roots_of(_directory(path) for path in paths if path not in known)
    roots = {
        path: known.get(path) or found.get(_directory(path)) or _directory(path) for path in paths
    }
    setattr(saver, _ROOTS, {**known, **roots})
    return roots


def _needed_besides(leaving: Iterable[str]) -> set[str]:
    """What checkpoints that stay on disk build on."""
    gone = set(leaving)
    if not gone or any(remote.is_remote(path) for path in gone):
        return set()
    homes = {os.path.dirname(path) for path in gone}
    others = [
        path
        for home in homes
        for entry in os.listdir(home or os.curdir)
        if entry.startswith(naming.SPARSE_PREFIX) and ".tmp-" not in entry
        if (path := os.path.join(home, entry)) not in gone and manifests.is_there(path)
    ]
    return chains.needed_by(others)
