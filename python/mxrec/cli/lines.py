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


class LineTally:
    """Counts the lines of a whole file and those that have to be skipped.

    The share of malformed lines has a meaning for the whole file only: a few together may be many
    of a chunk or of the part that is held out.

    Attributes:
        path: the file.
        lines: lines that hold data.
        malformed: those among them that cannot be used.
        first: (line number, reason) of the first malformed ones.
        first_good: position among the lines, from 0, of the first that can be used; None without.
        last_good: position of the last that can be used; None without.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.malformed = 0
        self.first: list[tuple[int, str]] = []
        self.first_good: int | None = None
        self.last_good: int | None = None

    def add(self, number: int, reason: str | None) -> None:
        """Counts the next line.

        Args:
            number: of the line in the file, from 1.
            reason: why it is malformed; None when it is not.
        """
        if reason is None:
            if self.first_good is None:
                self.first_good = self.lines
            self.last_good = self.lines
        else:
            self.malformed += 1
            if len(self.first) < _FIRST_REPORTED:
                self.first.append((number, reason))
        self.lines += 1

    @property
    def too_many(self) -> bool:
        """Whether more than 1 % of the lines are malformed."""
        return self.malformed > MALFORMED_LIMIT * self.lines

    def check(self) -> None:
        """Checks the share of malformed lines; call it after the last line.

        Raises:
            DataError: when it is above 1 %.
        """
        if self.too_many:
            raise DataError(
                f"{self.path}: {self.malformed:,} of {self.lines:,} lines are malformed, "
                f"more than {MALFORMED_LIMIT:.0%}. {self._first_text()} "
                "Correct or remove these lines."
            )

    def summary(self) -> str | None:
        """One sentence on the malformed lines, None when there are none."""
        if not self.malformed:
            return None
        noun = "line" if self.malformed == 1 else "lines"
        counts = f"{self.malformed:,} malformed {noun} of {self.lines:,}"
        return f"{self.path}: skipping {counts}. {self._first_text()}"

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
