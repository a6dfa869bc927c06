"""Where examples come from: the generator or a file.

Each source has earlier data to train on and later data to evaluate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mxrec.cli import criteo
from mxrec.cli.criteo_reader import CriteoReader, chunk_to_examples
from mxrec.cli.criteo_synthetic import CHUNK_ROWS, CriteoSynthetic
from mxrec.cli.csv_reader import CsvReader
from mxrec.cli.examples import Examples
from mxrec.cli.lines import DataError, LineTally


class Source(Protocol):
    """Examples in time order, split in two."""

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the numeric columns."""

    @property
    def category_names(self) -> tuple[str, ...]:
        """Names of the categorical columns."""

    @property
    def has_timestamps(self) -> bool:
        """Whether the examples have timestamps."""

    @property
    def train_rows(self) -> int:
        """Rows to train on, malformed lines included."""

    @property
    def holdout_rows(self) -> int:
        """Later rows to evaluate on, malformed lines included."""

    def train(self) -> Iterator[Examples]:
        """Streams the earlier examples."""

    def holdout(self) -> Iterator[Examples]:
        """Streams the later examples."""

    def malformed(self) -> str | None:
        """One sentence on the malformed lines of the whole data; None when there are none."""

    def to_json(self) -> dict[str, Any]:
        """What `source_from_json` needs to open the same data in another process."""

    def describe(self) -> str:
        """One line for the reader of the terminal."""


def _split(rows: int, holdout: float, what: str) -> int:
    """The number of training rows; both parts have at least one row."""
    if not 0.0 < holdout < 1.0:
        raise ValueError(f"holdout is {holdout}; it must be between 0 and 1, both excluded")
    train = rows - round(rows * holdout)
    if not 0 < train < rows:
        raise DataError(
            f"{what} has {rows} rows; too few to hold out {holdout:g} of them for evaluation"
        )
    return train


def _check_parts(tally: LineTally, train_rows: int) -> None:
    """Checks that both parts of a file have a line that can be used."""
    if tally.first_good is None or tally.last_good is None:
        raise DataError(f"{tally.path}: no line can be used")
    for part, usable in (
        (f"first {train_rows:,} lines, to train on", tally.first_good < train_rows),
        (
            f"last {tally.lines - train_rows:,} lines, to evaluate on",
            tally.last_good >= train_rows,
        ),
    ):
        if not usable:
            raise DataError(
                f"{tally.path}: all of the {part}, are malformed. {tally.summary()} "
                "Correct these lines or choose another --holdout."
            )


class SyntheticSource:
    """Generated impressions in Criteo's format."""

    def __init__(self, impressions: int, seed: int, holdout: float) -> None:
        """Plans the stream; nothing is generated yet.

        Args:
            impressions: rows in all.
            seed: of the generator.
            holdout: share of the rows, at the end, to evaluate on.
        """
        self.impressions = impressions
        self.seed = seed
        self._holdout = holdout
        self._generator = CriteoSynthetic(seed)
        self.numeric_names: tuple[str, ...] = criteo.INTEGER_NAMES
        self.category_names: tuple[str, ...] = criteo.CATEGORY_NAMES
        self.has_timestamps = True
        self.train_rows = _split(impressions, holdout, "the generated stream")
        self.holdout_rows = impressions - self.train_rows

    def train(self) -> Iterator[Examples]:
        """Streams the earlier examples."""
        return self._range(0, self.train_rows)

    def holdout(self) -> Iterator[Examples]:
        """Streams the later examples."""
        return self._range(self.train_rows, self.impressions)

    def _range(self, start: int, stop: int) -> Iterator[Examples]:
        for index in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
            chunk = self._generator.chunk(index)
            base = index * CHUNK_ROWS
            rows = slice(max(start - base, 0), min(stop - base, CHUNK_ROWS))
            examples = chunk_to_examples(chunk.rows, chunk.probabilities, chunk.timestamps)
            yield examples.take(rows)

    def write_tsv(self, path: Path) -> None:
        """Writes the whole stream to a file in Criteo's format."""
        with path.open("wb") as stream:
            for base in range(0, self.impressions, CHUNK_ROWS):
                chunk = self._generator.chunk(base // CHUNK_ROWS).rows
                rows = slice(0, self.impressions - base)
                criteo.write_tsv(
                    criteo.CriteoChunk(
                        chunk.labels[rows], chunk.integers[rows], chunk.categories[rows]
                    ),
                    stream,
                )

    def malformed(self) -> str | None:
        """None: generated lines are well-formed."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The plan of the stream."""
        return {
            "kind": "synthetic",
            "impressions": self.impressions,
            "seed": self.seed,
            "holdout": self._holdout,
        }

    def describe(self) -> str:
        """One line for the reader of the terminal."""
        return f"{self.impressions:,} generated impressions in Criteo's format, seed {self.seed}"


@dataclass
class FileSource:
    """A Criteo TSV, or a CSV with a label column.

    Attributes:
        path: the file.
        label: the label column of a CSV; None for a Criteo TSV.
        share: of the rows, at the end of the file, to evaluate on.
        timestamp: the column of timestamps of a CSV, in seconds; None: there is none.
    """

    path: Path
    label: str | None
    share: float
    timestamp: str | None = None

    def __post_init__(self) -> None:
        if self.timestamp is not None and self.label is None:
            raise DataError(
                f"--timestamp-column is {self.timestamp!r}, but Criteo's format has no timestamps; "
                "give --label for a CSV, or leave it out (then the wall clock counts)"
            )
        if not self.path.is_file():
            what = "is a directory" if self.path.is_dir() else "no such file"
            raise DataError(
                f"{self.path}: {what}; --data names a Criteo TSV or, with --label, a CSV"
            )
        self._reader: CriteoReader | CsvReader = self._open()
        self._tally = self._reader.tally()
        self.numeric_names = self._reader.numeric_names
        self.category_names = self._reader.category_names
        if not self.category_names:
            raise DataError(f"{self.path}: no column is categorical; there is nothing to embed")
        rows = self._tally.lines
        self.train_rows = _split(rows, self.share, str(self.path))
        self.holdout_rows = rows - self.train_rows
        _check_parts(self._tally, self.train_rows)

    def _open(self) -> CriteoReader | CsvReader:
        # One reader per pass: an input pipeline may still hold the iterator of another one.
        if self.label is None:
            return CriteoReader(self.path)
        return CsvReader(self.path, self.label, self.timestamp)

    @property
    def has_timestamps(self) -> bool:
        """Whether the examples have timestamps."""
        return self.timestamp is not None

    def train(self) -> Iterator[Examples]:
        """Streams the earlier examples."""
        return self._open().read(0, self.train_rows)

    def holdout(self) -> Iterator[Examples]:
        """Streams the later examples."""
        return self._open().read(self.train_rows, self._tally.lines)

    def malformed(self) -> str | None:
        """One sentence on the malformed lines of the whole file; None when there are none."""
        return self._tally.summary()

    def to_json(self) -> dict[str, Any]:
        """The file and its split."""
        return {
            "kind": "file",
            "path": str(self.path.resolve()),
            "label": self.label,
            "holdout": self.share,
            "timestamp": self.timestamp,
        }

    def describe(self) -> str:
        """One line for the reader of the terminal."""
        rows = f"{self.train_rows + self.holdout_rows:,} rows"
        if isinstance(self._reader, CsvReader):
            low, high = self._reader.label_values
            times = "" if self.timestamp is None else f"; timestamps in {self.timestamp}"
            return f"{self.path}, {rows}, label {self.label}: {low!r} is 0, {high!r} is 1{times}"
        return f"{self.path}, {rows} in Criteo's format"


def source_from_json(description: dict[str, Any]) -> Source:
    """Opens the data that ``Source.to_json`` described.

    Raises:
        DataError: when the kind is unknown or the data has gone.
    """
    kind = description.get("kind")
    if kind == "synthetic":
        return SyntheticSource(
            description["impressions"], description["seed"], description["holdout"]
        )
    if kind == "file":
        return FileSource(
            Path(description["path"]),
            description["label"],
            description["holdout"],
            description.get("timestamp"),
        )
    raise DataError(f"data kind is {kind!r}; it must be 'synthetic' or 'file'")
