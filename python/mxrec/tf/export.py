"""Writes the tables of a checkpoint as NumPy archives."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mxrec.checkpoints import archives, catalog, naming, saving, tools
from mxrec.checkpoints import chain as chains
from mxrec.tf import remote, table_checkpoint


def export(
    table_list: Sequence[Any] | None = None, model_dir: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """Writes one ``.npz`` per table from the newest checkpoint, into the checkpoint's directory.

    ``DIR/<table>.npz`` holds ``keys``, int64 [n], and ``values``, float32 [n, dim], row i being
    the embedding of key i. The order of the keys is not specified. A file of that name is replaced.

    Args:
        table_list: names, or what ``create_table`` returned; None: every table of the checkpoint.
        model_dir: DIR. None: that of the checkpoint which this process saved or restored last; in
            a process that did neither, the working directory.

    Returns:
        The path of the file of each table, by table name.

    Raises:
        FileNotFoundError: there is no checkpoint with tables, or it lacks one of ``table_list``.
        OSError: the checkpoint is damaged, or a file cannot be written.
    """
    with saving.turn():  # a save that is under way comes first
        prefix = _newest_checkpoint(None if model_dir is None else os.fspath(model_dir))
    source = table_checkpoint.sparse_directory(prefix)
    there = table_checkpoint.read_manifest(source).tables
    names = sorted(there) if table_list is None else _names(table_list)
    missing = [name for name in names if name not in there]
    if missing:
        raise FileNotFoundError(
            f"table_list: {source} has no table {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, sorted(there)))}."
        )
    parent = os.path.dirname(source)
    written = {name: os.path.join(parent, f"{name}.npz") for name in names}
    with remote.fetched(source, names) as path:
        chain = chains.resolve(path)
        for name in names:
            with tools.loaded(chain, name) as table:
                _write(table, written[name])
    return written


def _write(table: Any, path: str) -> None:
    if not remote.is_remote(path):
        archives.write_archive(table, path)
        return
    with tempfile.TemporaryDirectory(prefix="mxrec-export-") as here:
        local = os.path.join(here, os.path.basename(path))
        archives.write_archive(table, local)
        remote.copy(local, path)


def _names(table_list: Sequence[Any]) -> list[str]:
    if isinstance(table_list, str) or not isinstance(table_list, (list, tuple)):
        raise TypeError(
            f"table_list must be a list of tables or table names, got {table_list!r} "
            f"({type(table_list).__name__})."
        )
    return [item if isinstance(item, str) else item.table_name for item in table_list]


def _newest_checkpoint(model_dir: str | None) -> str:
    """Prefix of the newest checkpoint with tables."""
    last = table_checkpoint.last_prefix() if model_dir is None else None
    directory = os.path.dirname(last) if last else remote.absolute(model_dir or os.curdir)
    # `last` may have been a restore of an older one, or a save without dense variables.
    for candidate in (tf.train.latest_checkpoint(directory), last, _newest_directory(directory)):
        if candidate and table_checkpoint.has_manifest(
            table_checkpoint.sparse_directory(candidate)
        ):
            return str(candidate)
    raise FileNotFoundError(
        f"{directory} has no checkpoint with embedding tables. Save one with "
        "tf.compat.v1.train.Saver or an Estimator first, or name its directory in model_dir."
    )


def _newest_directory(directory: str) -> str | None:
    """Prefix of the latest ``sparse-*`` there, for checkpoints without a dense half."""
    if remote.is_remote(directory):
        links = remote.versions_in(directory)
        newest = max(links, key=lambda link: link.manifest.saved).path if links else None
    else:
        newest = next(reversed(catalog.entries(directory)), None)
    if newest is None or not os.path.basename(newest).startswith(naming.SPARSE_PREFIX):
        return None
    base = os.path.basename(newest).removeprefix(naming.SPARSE_PREFIX)
    return os.path.join(directory, base)
