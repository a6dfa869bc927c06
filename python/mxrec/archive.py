"""Saved tables as NumPy archives."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxrec import _mxrec

__all__ = ["write_archive"]

# Rows per step: bounds what is held besides the table itself.
_CHUNK_ROWS = 65_536


def write_archive(
    directory: str, path: str, progress: Callable[[int], None] = lambda rows: None
) -> int:
    """Writes a saved table as an ``.npz`` file.

    The file holds ``keys``, int64 [n], and ``values``, float32 [n, dim], row i being the embedding
    of key i; the order of the keys is not specified. It is written beside ``path`` and renamed, so
    that ``path`` is complete or as it was. Held in memory are the table and 65,536 rows.

    Args:
        directory: What ``Table.save`` has written.
        path: The file to write; one that is there is replaced.
        progress: Called now and then with the rows written so far, up to n.

    Returns:
        The number of rows.

    Raises:
        FileNotFoundError: There is no saved table.
        DataLossError: A file is damaged or truncated.
        OSError: The operating system refused to read or write.
        CapacityError: Memory ran out.
    """
    temporary = f"{path}.tmp-{os.getpid()}"
    table = _mxrec.Table.load(directory)
    try:
        rows = len(table)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            keys = (keys for keys, _ in _scan(table))
            _write_member(archive, "keys.npy", (rows,), np.dtype(np.int64), keys)
            values = _counted((values for _, values in _scan(table)), progress)
            _write_member(archive, "values.npy", (rows, table.dim), np.dtype(np.float32), values)
        os.replace(temporary, path)
    finally:
        table.close()
        if os.path.exists(temporary):
            os.remove(temporary)
    return rows


def _scan(table: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The table's rows in chunks; the order is the same each time, as nothing changes them."""
    cursor = (0, 0)
    while True:
        cursor, keys, values, *_ = table.scan(cursor, _CHUNK_ROWS)
        if not len(keys):
            return
        yield keys, values


def _counted(
    chunks: Iterator[NDArray[np.float32]], progress: Callable[[int], None]
) -> Iterator[NDArray[np.float32]]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(done)


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
