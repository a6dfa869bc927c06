"""Writes the tables of a checkpoint as NumPy archives."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mxrec import _mxrec
from mxrec.tf import table_checkpoint

# Rows per step: bounds what is held besides the table itself.
_CHUNK_ROWS = 65536


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
    written = {}
    for name in names:
        written[name] = os.path.join(parent, f"{name}.npz")
        _write_archive(os.path.join(source, name), written[name])
    return written


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
    directory = os.path.dirname(last) if last else os.path.abspath(model_dir or os.curdir)
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
    found = []
    for entry in os.scandir(directory):
        manifest = os.path.join(entry.path, table_checkpoint.MANIFEST_NAME)
        hidden = ".tmp-" in entry.name or ".old-" in entry.name
        if entry.name.startswith("sparse-") and not hidden and os.path.isfile(manifest):
            prefix = os.path.join(directory, entry.name.removeprefix("sparse-"))
            found.append((os.path.getmtime(manifest), prefix))
    return max(found)[1] if found else None


def _write_archive(checkpoint: str, path: str) -> None:
    temporary = f"{path}.tmp-{os.getpid()}"
    table = _mxrec.Table.load(checkpoint)
    try:
        rows = len(table)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            _write_member(
                archive, "keys.npy", (rows,), np.dtype(np.int64), (keys for keys, _ in _scan(table))
            )
            _write_member(
                archive,
                "values.npy",
                (rows, table.dim),
                np.dtype(np.float32),
                (values for _, values in _scan(table)),
            )
        os.replace(temporary, path)
    finally:
        table.close()
        if os.path.exists(temporary):
            os.remove(temporary)


def _scan(table: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The table's rows in chunks; the order is the same each time, as nothing changes them."""
    cursor = (0, 0)
    while True:
        cursor, keys, values, *_ = table.scan(cursor, _CHUNK_ROWS)
        if not len(keys):
            return
        yield keys, values


def _write_member(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: Iterator[NDArray[Any]],
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(name, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for chunk in chunks:
            member.write(np.ascontiguousarray(chunk, dtype).data)
