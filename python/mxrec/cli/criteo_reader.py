"""Streams a file in Criteo's format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mxrec.cli.criteo import (
    CATEGORIES,
    CATEGORY_NAMES,
    FIELDS,
    INTEGER_NAMES,
    INTEGERS,
    MISSING,
    CriteoChunk,
)
from mxrec.cli.examples import Examples
from mxrec.cli.hashing import hash_bytes
from mxrec.cli.lines import (
    CHUNK_LINES,
    MAX_FIELD_BYTES,
    DataError,
    LineTally,
    read_lines,
    shorten,
)

# float32 holds numbers of this many digits; longer ones are no counts.
_MAX_DIGITS = 30


def chunk_to_examples(
    chunk: CriteoChunk,
    probabilities: npt.NDArray[np.float64] | None = None,
    timestamps: npt.NDArray[np.int64] | None = None,
) -> Examples:
    """Hashes the categories of a chunk and turns its integers into floats, ``MISSING`` into NaN."""
    numeric = chunk.integers.astype(np.float32)
    numeric[chunk.integers == MISSING] = np.nan
    return Examples(
        chunk.labels.astype(np.float32),
        numeric,
        hash_bytes(chunk.categories),
        probabilities,
        timestamps,
    )


class CriteoReader:
    """A Criteo TSV, plain or gzip.

    A line is malformed when it does not have 40 fields, its label is not 0 or 1, one of its 13
    numbers is no integer, or a field is longer than 1,024 bytes. Categories may be any string;
    usually they are eight hexadecimal digits.

    Attributes:
        path: the file.
        numeric_names: I1 … I13.
        category_names: C1 … C26.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numeric_names: tuple[str, ...] = INTEGER_NAMES
        self.category_names: tuple[str, ...] = CATEGORY_NAMES

    def tally(self) -> LineTally:
        """Counts and checks every line of the file.

        Raises:
            DataError: when the file is unreadable or empty, or more than 1 % of its lines are
                malformed.
        """
        tally = LineTally(self.path)
        for number, line in read_lines(self.path):
            tally.add(number, _split(line)[1])
        if tally.lines == 0:
            raise DataError(
                f"{self.path}: the file is empty; Criteo's format has one impression per line"
            )
        tally.check()
        return tally

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Examples]:
        """Streams examples of lines [start, stop), numbered from 0; malformed ones are skipped.

        Args:
            start: first line.
            stop: line to stop before; None reads to the end.

        Yields:
            Chunks of at most 65,536 examples.

        Raises:
            DataError: when the file is unreadable.
        """
        rows: list[bytes] = []
        for number, line in read_lines(self.path):
            if number <= start:
                continue
            if stop is not None and number > stop:
                break
            rows.append(line)
            if len(rows) == CHUNK_LINES:
                yield from _parse(rows)
                rows = []
        yield from _parse(rows)


def _parse(lines: list[bytes]) -> Iterator[Examples]:
    """Yields the well-formed lines' examples in one chunk, nothing when there are none."""
    good = [fields for fields, reason in map(_split, lines) if reason is None]
    if good:
        yield _columns_to_examples(list(zip(*good, strict=True)))


def _split(line: bytes) -> tuple[list[bytes], str | None]:
    """The fields of a line, and why the line is malformed or None when it is not."""
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != FIELDS:
        return fields, f"{len(fields)} fields instead of {FIELDS}"
    if fields[0] not in (b"0", b"1"):
        return fields, f"the label is {shorten(fields[0])}, not 0 or 1"
    integers = fields[1 : 1 + INTEGERS]
    digits = b"".join(integers)
    # One test decides nearly every line; only negative, long or malformed numbers need the second.
    if digits and (len(digits) > _MAX_DIGITS or not digits.isdigit()):
        for name, field in zip(INTEGER_NAMES, integers, strict=True):
            if field and not (field.isdigit() or (field[:1] == b"-" and field[1:].isdigit())):
                return fields, f"{name} is {shorten(field)}, not an integer"
            if len(field) > _MAX_DIGITS:
                return fields, f"{name} is {shorten(field)}, longer than {_MAX_DIGITS} digits"
    if len(line) > MAX_FIELD_BYTES and max(map(len, fields)) > MAX_FIELD_BYTES:
        return fields, f"a field is longer than {MAX_FIELD_BYTES} bytes"
    return fields, None


def _columns_to_examples(columns: list[tuple[bytes, ...]]) -> Examples:
    count = len(columns[0])
    numeric = np.empty((count, INTEGERS), dtype=np.float32)
    keys = np.empty((count, CATEGORIES), dtype=np.int64)
    for index in range(INTEGERS):
        numeric[:, index] = [float(field) if field else np.nan for field in columns[1 + index]]
    for index in range(CATEGORIES):
        keys[:, index] = hash_bytes(np.array(columns[1 + INTEGERS + index], dtype="S"))
    labels = np.array(columns[0], dtype="S1") == b"1"
    return Examples(labels.astype(np.float32), numeric, keys)
