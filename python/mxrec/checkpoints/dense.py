"""Checks the half of a checkpoint that TensorFlow has written, without TensorFlow.

Its ``.index`` is a table of sorted strings (LevelDB's format) from the name of a tensor to where
its bytes lie in the ``.data-SSSSS-of-NNNNN`` files. The checksum of the ``.index`` is in the
version's manifest; of the ``.data`` files it is known how long they must be, not what is in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from mxrec import _mxrec
from mxrec.checkpoints import naming, regular
from mxrec.checkpoints.manifest import FORMAT, Manifest
from mxrec.errors import DataLossError

COPY = "dense-half"  # in a version directory that was set aside

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER_BYTES = 5  # of a block: kind of compression, CRC
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def prefix_of(path: str) -> str | None:
    """Path prefix of the dense files that belong to a version; None: it is a numbered one.

    Args:
        path: of the version's directory.
    """
    parent, name = os.path.split(path)
    name = naming.place_of(name)
    if not name.startswith(naming.SPARSE_PREFIX):
        return None
    base = name.removeprefix(naming.SPARSE_PREFIX)
    copy = os.path.join(path, COPY, base)
    return copy if os.path.exists(copy + ".index") else os.path.join(parent, base)


def check(path: str, manifest: Manifest) -> None:
    """Checks the dense half of a version, if it has one.

    Args:
        path: of the version's directory.
        manifest: of that directory.

    Raises:
        DataLossError: a file is missing, too short, or not the one that was saved; it is named.
        OSError: a file cannot be read.
    """
    prefix = prefix_of(path)
    if prefix is None or manifest.dense is None:
        return
    index = prefix + ".index"
    known = manifest.dense.index
    try:
        data = regular.read(index, links=True)
    except FileNotFoundError as error:
        if known is not None:
            raise DataLossError(
                f"{index} is missing: the version has lost its dense half."
            ) from error
        # TensorFlow's first format has no index; the earliest manifests do not say which one it is.
        if manifest.format == FORMAT and not _has_first_format(prefix):
            raise DataLossError(
                f"{prefix} is missing: the version has lost its dense half."
            ) from error
        return
    if known is not None and f"{_mxrec.checksum(data):016x}" != known:
        raise DataLossError(
            f"{index} is not the one that was saved with the tables in {path}: it is damaged, or "
            "was written again by another program."
        )
    try:
        needed = data_bytes(data)
    except (ValueError, IndexError) as error:
        raise DataLossError(f"{index}: damaged: it is no index of a checkpoint.") from error
    for shard, wanted in enumerate(needed):
        part = f"{prefix}.data-{shard:05d}-of-{len(needed):05d}"
        try:
            found = os.stat(part).st_size
        except FileNotFoundError as error:
            raise DataLossError(f"{part} is missing, but {index} names it.") from error
        if found < wanted:
            raise DataLossError(
                f"{part}: damaged: it has {found} bytes, its tensors need {wanted}."
            )


def _has_first_format(prefix: str) -> bool:
    folder, base = os.path.split(prefix)
    part = re.compile(re.escape(base) + r"(-\d{5}-of-\d{5})?")
    return any(part.fullmatch(name) for name in os.listdir(folder or os.curdir))


def data_bytes(index: bytes) -> list[int]:
    """How many bytes each ``.data`` file must have at least.

    Args:
        index: contents of an ``.index`` file.

    Returns:
        By number of the file; as many as there are files.

    Raises:
        ValueError: it is no index, or one that is compressed, which TensorFlow does not write.
        IndexError: likewise.
    """
    if len(index) < _FOOTER_BYTES or int.from_bytes(index[-8:], "little") != _MAGIC:
        raise ValueError("the footer is not that of a table")
    footer = index[-_FOOTER_BYTES:-8]
    _, at = _varint(footer, 0)  # the block of metadata, empty
    _, at = _varint(footer, at)
    place, _ = _handle(footer, at)
    needed: list[int] = []
    for _, handle in _entries(index, place):
        for key, value in _entries(index, _handle(handle, 0)[0]):
            fields = _fields(value)
            if not key:  # the header, which is the first: the number of files
                count = fields.get(1, 0)
                if not 1 <= count <= 99_999:
                    raise ValueError(f"{count} files")
                needed = [0] * count
                continue
            # What TensorFlow leaves out is 0. A tensor that is in slices has an entry for each.
            shard, end = fields.get(3, 0), fields.get(4, 0) + fields.get(5, 0)
            needed[shard] = max(needed[shard], end)
    if not needed:
        raise ValueError("it has no header")
    return needed


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _entries(table: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    offset, size = place
    if size < 4 or offset + size + _TRAILER_BYTES > len(table):
        raise ValueError("a block is not in the file")
    if table[offset + size]:
        raise ValueError("a block is compressed")
    block = table[offset : offset + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # behind it: where keys are whole
    if end < 0:
        raise ValueError("a block is too short")
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + rest + length > end:
            raise ValueError("an entry is not in its block")
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _fields(message: bytes) -> dict[int, int]:
    """The integers of a protocol buffer's message, by number of the field."""
    found: dict[int, int] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            found[field], at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
    if at != len(message):
        raise ValueError("a message is cut")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where what follows it begins."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
