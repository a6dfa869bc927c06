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
    MalformedLines,
    read_lines,
    shorten,
)

_SAMPLE_RECORDS = 10_000
_Record = tuple[int, list[str]]


class CsvReader:
    """A CSV, plain or gzip, whose columns become numeric or categorical features.

    The first 10,000 records decide. A column is numeric when at least 99 % of its non-empty values
    are finite numbers, else categorical. The label column holds 0 and 1, or two distinct strings,
    of which the lexicographically greater one is 1 (``>50K`` of ``<=50K`` and ``>50K``; ``yes`` of
    ``no`` and ``yes``).

    A line is malformed when it has another number of fields than the header, a label that is
    neither of the two values, a value of a numeric column that is no finite number, or a field
    longer than 1,024 bytes. Blank lines are ignored.

    Attributes:
        path: the file.
        label: the label column.
        label_values: the strings that mean 0 and 1.
        numeric_names: the numeric columns in the header's order.
        category_names: the categorical columns in the header's order.
        malformed: the lines skipped by the latest pass.
    """

    def __init__(self, path: Path, label: str) -> None:
        """Reads the header and the first records.

        Args:
            path: the file.
            label: name of the label column.

        Raises:
            DataError: when the file is unreadable, the header has duplicates or lacks the label, or
                the label is not binary.
        """
        self.path = path
        self.label = label
        self.malformed = MalformedLines(path)
        records = self._records()
        header = next(records, None)
        if header is None:
            raise DataError(f"{path}: the file is empty; a CSV starts with a header line")
        self._header = [name.strip() for name in header[1]]
        self._check_header()
        self._label_index = self._header.index(label)
        sample = [
            fields
            for _, fields in islice(records, _SAMPLE_RECORDS)
            if len(fields) == len(self._header)
        ]
        if not sample:
            raise DataError(f"{path}: no line after the header has its {len(self._header)} fields")
        columns = list(zip(*sample, strict=True))
        self.label_values = self._binary_label(Counter(columns[self._label_index]))
        features = [index for index in range(len(self._header)) if index != self._label_index]
        numeric = {index for index in features if _is_numeric(columns[index])}
        self._numeric = [index for index in features if index in numeric]
        self._categories = [index for index in features if index not in numeric]
        self.numeric_names = tuple(self._header[index] for index in self._numeric)
        self.category_names = tuple(self._header[index] for index in self._categories)

    def count(self) -> int:
        """Counts the records after the header."""
        return sum(1 for _ in self._records()) - 1

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Examples]:
        """Streams examples of records [start, stop), numbered from 0 after the header.

        Args:
            start: first record.
            stop: record to stop before; None reads to the end.

        Yields:
            Chunks of at most 65,536 examples.

        Raises:
            DataError: when the file is unreadable or more than 1 % of its lines are malformed.
        """
        self.malformed = MalformedLines(self.path)
        records = islice(self._records(), 1 + start, None if stop is None else 1 + stop)
        while rows := list(islice(records, CHUNK_LINES)):
            good = []
            for number, fields in rows:
                reason = self._reason(fields)
                if reason is None:
                    good.append(fields)
                else:
                    self.malformed.record(number, reason)
            self.malformed.lines += len(rows)
            self.malformed.check()
            if good:
                yield self._to_examples(good)

    def _records(self) -> Iterator[_Record]:
        """Yields (line number, fields) of every record that is not blank, the header included."""
        # surrogateescape: keys are hashes of the file's own bytes, whatever their encoding.
        texts = (line.decode("utf-8", "surrogateescape") for _, line in read_lines(self.path))
        reader = csv.reader(texts, skipinitialspace=True)
        try:
            first = True
            for fields in reader:
                if first and fields:
                    fields[0] = fields[0].removeprefix("\ufeff")
                    first = False
                if fields:
                    yield reader.line_num, fields
        except csv.Error as error:
            raise DataError(f"{self.path}, line {reader.line_num}: not CSV: {error}") from error

    def _check_header(self) -> None:
        repeated = [name for name, times in Counter(self._header).items() if times > 1]
        if repeated:
            raise DataError(
                f"{self.path}, line 1: column {shorten(repeated[0])} appears more than once"
            )
        if self.label not in self._header:
            raise DataError(
                f"{self.path}, line 1: no column {self.label!r} for --label; "
                f"the columns are {', '.join(self._header)}"
            )

    def _binary_label(self, counts: Counter[str]) -> tuple[str, str]:
        frequent = [value for value, _ in counts.most_common(2)]
        others = sum(counts.values()) - sum(counts[value] for value in frequent)
        if len(frequent) < 2 or others > MALFORMED_LIMIT * sum(counts.values()):
            shown = ", ".join(shorten(value) for value, _ in counts.most_common(5))
            raise DataError(
                f"{self.path}: label {self.label!r} has {len(counts)} distinct values ({shown}) "
                "in the first "
                f"{_SAMPLE_RECORDS:,} records; a binary label has two"
            )
        low, high = sorted(frequent)
        return low, high

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
        return Examples(labels.astype(np.float32), numeric, keys)


def _is_number(value: str) -> bool:
    try:
        return isfinite(float(value))
    except ValueError:
        return False


def _is_numeric(values: tuple[str, ...]) -> bool:
    present = [value for value in values if value.strip()]
    numbers = sum(map(_is_number, present))
    return bool(present) and numbers >= (1.0 - MALFORMED_LIMIT) * len(present)
