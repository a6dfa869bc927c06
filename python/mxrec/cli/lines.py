"""Text files of examples: plain or gzip, with malformed lines counted, reported and bounded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

CHUNK_LINES = 65_536
MAX_FIELD_BYTES = 1024
MALFORMED_LIMIT = 0.01
_FIRST_REPORTED = 5
_GZIP_MAGIC = b"\x1f\x8b"


class DataError(ValueError):
    """Unusable input data; the message names the file and, where there is one, the line."""


class MalformedLines:
    """Counts the lines of one file and those that had to be skipped.

    Attributes:
        path: the file.
        lines: data lines seen.
        count: malformed ones among them.
        first: (line number, reason) of the first ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def record(self, line: int, reason: str) -> None:
        """Counts one malformed line, numbered from 1."""
        self.count += 1
        if len(self.first) < _FIRST_REPORTED:
            self.first.append((line, reason))

    def check(self) -> None:
        """Checks the share of malformed lines so far.

        Raises:
            DataError: when it is above 1 %.
        """
        if self.count > MALFORMED_LIMIT * self.lines:
            raise DataError(
                f"{self.path}: {self.count:,} of {self.lines:,} lines are malformed, "
                f"more than {MALFORMED_LIMIT:.0%}. {self._first_text()} "
                "Correct or remove these lines."
            )

    def summary(self) -> str | None:
        """One sentence on the malformed lines, None when there are none."""
        if not self.count:
            return None
        noun = "line" if self.count == 1 else "lines"
        counts = f"{self.count:,} malformed {noun} of {self.lines:,}"
        return f"{self.path}: skipped {counts}. {self._first_text()}"

    def _first_text(self) -> str:
        text = "; ".join(f"line {line}: {reason}" for line, reason in self.first)
        return f"First: {text}."


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Reads a file line by line; gzip is recognised by its first bytes, not by the name.

    Args:
        path: the file.

    Yields:
        (line number from 1, the line with its line end).

    Raises:
        DataError: when the file cannot be opened or read; names the file and the last good line.
    """
    number = 0
    try:
        with path.open("rb") as probe:
            compressed = probe.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path}, after line {number}" if number else str(path)
        raise DataError(f"{where}: cannot read: {error}") from error


def shorten(value: str | bytes) -> str:
    """A field's value as it appears in a message."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= 40 else text[:37] + "...")
