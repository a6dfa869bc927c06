"""Writes tables as NumPy archives."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows per step: bounds what is held besides the table itself.
CHUNK_ROWS = 65536


def write_archive(table: Any, path: str, progress: Callable[[int], None] | None = None) -> int:
    """Writes ``keys``, int64 [n], and ``values``, float32 [n, dim], of a table, chunk by chunk.

    The file is written beside its place and renamed. The table must not change meanwhile.

    Args:
        table: a ``_mxrec.Table``.
        path: of the ``.npz``; one that is there is replaced.
        progress: called with the rows written so far.

    Returns:
        The number of rows.

    Raises:
        OSError: the file could not be written; what was there is as before.
    """
    temporary = f"{path}.tmp-{os.getpid()}"
    rows = len(table)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            keys = (keys for keys, *_ in scan(table))
            _write_member(archive, "keys.npy", (rows,), np.dtype(np.int64), keys, None)
            values = (values for _, values, *_ in scan(table))
            shape = (rows, table.dim)
            _write_member(archive, "values.npy", shape, np.dtype(np.float32), values, progress)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
    return rows


def scan(table: Any) -> Iterator[tuple[NDArray[Any], ...]]:
    """The rows of a ``_mxrec.Table`` in chunks; in the same order each time, if nothing changes.

    Yields:
        What ``_mxrec.Table.scan`` gives: keys, values, slots, frequencies, last times.
    """
    cursor = (0, 0)
    while True:
        cursor, *columns = table.scan(cursor, CHUNK_ROWS)
        if not len(columns[0]):
            return
        yield tuple(columns)


def _write_member(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: Iterator[NDArray[Any]],
    progress: Callable[[int], None] | None,
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    done = 0
    with archive.open(name, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for chunk in chunks:
            member.write(np.ascontiguousarray(chunk, dtype).data)
            done += len(chunk)
            if progress is not None:
                progress(done)
