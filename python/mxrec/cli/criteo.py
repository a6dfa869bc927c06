"""Criteo's click-log format.

A line has a label, 13 integers and 26 hexadecimal categories, separated by tabs; the integers and
the categories may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

INTEGERS = 13
CATEGORIES = 26
FIELDS = 1 + INTEGERS + CATEGORIES
CATEGORY_WIDTH = 8
MISSING = np.iinfo(np.int32).min
INTEGER_NAMES = tuple(f"I{i}" for i in range(1, INTEGERS + 1))
CATEGORY_NAMES = tuple(f"C{i}" for i in range(1, CATEGORIES + 1))

_BYTE_AS_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), dtype="<u2")


@dataclass(frozen=True)
class CriteoChunk:
    """Consecutive impressions in Criteo's format.

    Attributes:
        labels: uint8 [n], 0 or 1.
        integers: int32 [n, 13]; ``MISSING`` stands for an empty field.
        categories: S8 [n, 26]; an empty string stands for an empty field.
    """

    labels: npt.NDArray[np.uint8]
    integers: npt.NDArray[np.int32]
    categories: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.labels)


def to_hex(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bytes_]:
    """Writes each code as eight lower-case hexadecimal digits.

    Args:
        codes: uint32 array of any shape.

    Returns:
        S8 array of the same shape.
    """
    octets = np.ascontiguousarray(codes.astype(">u4", copy=False)).view(np.uint8)
    digits = _BYTE_AS_HEX[octets]
    hexadecimal: npt.NDArray[np.bytes_] = digits.view(f"S{CATEGORY_WIDTH}").reshape(codes.shape)
    return hexadecimal


def write_tsv(chunk: CriteoChunk, stream: BinaryIO) -> None:
    """Appends a chunk to a stream as tab-separated lines.

    Args:
        chunk: the impressions.
        stream: an open binary stream.
    """
    integers = np.where(chunk.integers == MISSING, b"", chunk.integers.astype("S11"))
    columns = [chunk.labels.astype("S1").tolist()]
    columns.extend(integers[:, column].tolist() for column in range(INTEGERS))
    columns.extend(chunk.categories[:, column].tolist() for column in range(CATEGORIES))
    stream.write(b"\n".join(map(b"\t".join, zip(*columns, strict=True))))
    stream.write(b"\n")
