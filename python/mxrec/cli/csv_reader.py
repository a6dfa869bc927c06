"""Streams a CSV file with a header line and a binary label column."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import isfinite, nan
from pathlib import Path

import numpy as np

from mxrec.cli.examples import Examples
from mxrec.cli.hashing import hash_bytes
from mxrec.cli.lines import (
    CHUNK_LINES,
    MALFORMED_LIMIT,
    MAX_FIELD_BYTES,
    DataError,
    LineTally,
    read_lines,
    shorten,
)

_SAMPLE_RECORDS = 10_000
# Line number, fields, and why the line is no CSV or None.
_Record = tuple[int, list[str], str | None]


class CsvReader:
    """A CSV, plain or gzip, whose columns become numeric or categorical features.

    The first 10,000 records decide. A column is numeric when at least 99 % of its non-empty values
    are finite numbers, else categorical. The label column holds 0 and 1, or two distinct strings,
    of which the lexicographically greater one is 1 (``>50K`` of ``<=50K`` and ``>50K``; ``yes`` of
    ``no`` and ``yes``).

    A record is one line: a quoted field may hold commas and doubled quotes, but no line break, so
    a stray quote costs its own line and no other.

    A line is malformed when a quote is not closed on it, it has another number of fields than the
    header, a label that is neither of the two values, a value of a numeric column that is no finite
    number, a timestamp that is no whole number of seconds in [0, 2^32), or a field longer than
    1,024 bytes. Blank lines are ignored.

    Attributes:
        path: the file.
        label: the label column.
        timestamp: the column of timestamps, which is no feature; None: there is none.
        label_values: the strings that mean 0 and 1.
        numeric_names: the numeric columns in the header's order.
        category_names: the categorical columns in the header's order.
    """

    def __init__(self, path: Path, label: str, timestamp: str | None = None) -> None:
        """Reads the header and the first records.

        Args:
            path: the file.
            label: name of the label column.
            timestamp: name of the column of timestamps, in seconds; None: there is none.

        Raises:
            DataError: when the file is unreadable, the header is no CSV, has duplicates or lacks
                the label or the timestamp, these two are the same column, or the label has one
                value only.
        """
        self.path = path
        self.label = label
        self.timestamp = timestamp
        records = self._records()
        header = next(records, None)
        if header is None:
            raise DataError(f"{path}: the file is empty; a CSV starts with a header line")
        if header[2] is not None:
            raise DataError(f"{path}, line {header[0]}: the header is malformed: {header[2]}")
        self._header = [name.strip() for name in header[1]]
        self._check_header()
        self._label_index = self._header.index(label)
        self._time_index = None if timestamp is None else self._header.index(timestamp)
        sample = [
            fields
            for _, fields, reason in islice(records, _SAMPLE_RECORDS)
            if reason is None and len(fields) == len(self._header)
        ]
        if not sample:
            raise DataError(f"{path}: no line after the header has its {len(self._header)} fields")
        columns = list(zip(*sample, strict=True))
        self._label_counts = Counter(columns[self._label_index])
        frequent = [value for value, _ in self._label_counts.most_common(2)]
        if len(frequent) < 2:
            raise self._label_error()
        self.label_values = (min(frequent), max(frequent))
        others = (self._label_index, self._time_index)
        features = [index for index in range(len(self._header)) if index not in others]
        numeric = {index for index in features if _is_numeric(columns[index])}
        self._numeric = [index for index in features if index in numeric]
        self._categories = [index for index in features if index not in numeric]
        self.numeric_names = tuple(self._header[index] for index in self._numeric)
        self.category_names = tuple(self._header[index] for index in self._categories)

    def tally(self) -> LineTally:
        """Counts and checks every record after the header.

        Raises:
            DataError: when the file is unreadable or more than 1 % of its lines are malformed.
        """
        tally = LineTally(self.path)
        for number, fields, reason in islice(self._records(), 1, None):
            tally.add(number, reason or self._reason(fields))
        others = sum(self._label_counts.values()) - sum(
            self._label_counts[value] for value in self.label_values
        )
        if tally.too_many and others > MALFORMED_LIMIT * sum(self._label_counts.values()):
            raise self._label_error()
        tally.check()
        return tally

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Examples]:
        """Streams examples of records [start, stop), numbered from 0 after the header.

        Malformed ones are skipped.

        Args:
            start: first record.
            stop: record to stop before; None reads to the end.

        Yields:
            Chunks of at most 65,536 examples.

        Raises:
            DataError: when the file is unreadable.
        """
        records = islice(self._records(), 1 + start, None if stop is None else 1 + stop)
        while rows := list(islice(records, CHUNK_LINES)):
            good = [
                fields
                for _, fields, reason in rows
                if reason is None and self._reason(fields) is None
            ]
            if good:
                yield self._to_examples(good)

    def _records(self) -> Iterator[_Record]:
        """Yields every line that is not blank, the header included."""
        first = True
        for number, line in read_lines(self.path):
            # surrogateescape: keys are hashes of the file's own bytes, whatever their encoding.
            text = line.decode("utf-8", "surrogateescape")
            if first:
                text = text.removeprefix("\ufeff")
            fields, reason = _parse(text.rstrip("\r\n"))
            if fields or reason is not None:
                first = False
                yield number, fields, reason

    def _check_header(self) -> None:
        repeated = [name for name, times in Counter(self._header).items() if times > 1]
        if repeated:
            raise DataError(
                f"{self.path}, line 1: column {shorten(repeated[0])} appears more than once"
            )
        for option, name in (("--label", self.label), ("--timestamp-column", self.timestamp)):
            if name is not None and name not in self._header:
                raise DataError(
                    f"{self.path}, line 1: no column {name!r} for {option}; "
                    f"the columns are {', '.join(self._header)}"
                )
        if self.label == self.timestamp:
            raise DataError(
                f"--timestamp-column is {self.timestamp!r}, which is the column of --label; "
                "choose another one"
            )

    def _label_error(self) -> DataError:
        counts = self._label_counts
        shown = ", ".join(shorten(value) for value, _ in counts.most_common(5))
        return DataError(
            f"{self.path}: label {self.label!r} has {len(counts)} distinct values ({shown}) "
            f"in the first {_SAMPLE_RECORDS:,} records; a binary label has two"
        )

    def _reason(self, fields: list[str]) -> str | None:
        """Why a record is malformed; None when it is not."""
        if len(fields) != len(self._header):
            return f"{len(fields)} fields instead of {len(self._header)}"
        if fields[self._label_index] not in self.label_values:
            low, high = self.label_values
            return f"{self.label} is {shorten(fields[self._label_index])}, not {low!r} or {high!r}"
        for index in self._numeric:
            if fields[index].strip() and not _is_number(fields[index]):
                return f"{self._header[index]} is {shorten(fields[index])}, not a number"
        if self._time_index is not None and not _is_timestamp(fields[self._time_index]):
            return (
                f"{self.timestamp} is {shorten(fields[self._time_index])}, "
                "not a whole number of seconds in [0, 2^32)"
            )
        if max(map(len, fields)) > MAX_FIELD_BYTES:
            return f"a field is longer than {MAX_FIELD_BYTES} bytes"
        return None

    def _to_examples(self, records: list[list[str]]) -> Examples:
        columns = list(zip(*records, strict=True))
        numeric = np.empty((len(records), len(self._numeric)), dtype=np.float32)
        keys = np.empty((len(records), len(self._categories)), dtype=np.int64)
        for position, index in enumerate(self._numeric):
            numeric[:, position] = [
                float(value) if value.strip() else nan for value in columns[index]
            ]
        for position, index in enumerate(self._categories):
            encoded = [value.encode("utf-8", "surrogateescape") for value in columns[index]]
            keys[:, position] = hash_bytes(np.array(encoded, dtype="S"))
        labels = np.array([value == self.label_values[1] for value in columns[self._label_index]])
        times = (
            None
            if self._time_index is None
            else np.array([int(value) for value in columns[self._time_index]], dtype=np.int64)
        )
        return Examples(labels.astype(np.float32), numeric, keys, timestamps=times)


def _parse(text: str) -> tuple[list[str], str | None]:
    """The fields of a line without its end, none when it is blank, and why it is no CSV or None."""
    try:
        # A parser of its own for each line: an open quote must not reach into the next one.
        fields = next(csv.reader((text + "\n",), skipinitialspace=True))
    except csv.Error as error:
        return [], f"not CSV: {error}"
    # A line end is part of a field only where a quote is still open.
    if fields and fields[-1].endswith("\n"):
        return fields, "a quote is not closed"
    return fields, None


def _is_number(value: str) -> bool:
    try:
        return isfinite(float(value))
    except ValueError:
        return False


def _is_timestamp(value: str) -> bool:
    digits = value.strip()
    # The length first: int() refuses to read thousands of digits.
    return digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) < 2**32


def _is_numeric(values: tuple[str, ...]) -> bool:
    present = [value for value in values if value.strip()]
    numbers = sum(map(_is_number, present))
    return bool(present) and numbers >= (1.0 - MALFORMED_LIMIT) * len(present)
