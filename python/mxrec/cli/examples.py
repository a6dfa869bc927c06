"""Arrays of training examples, cut into batches and scaled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Examples:
    """Consecutive examples, ready for the model.

    Attributes:
        labels: float32 [n], 0 or 1.
        numeric: float32 [n, numeric columns]; NaN stands for an empty field.
        keys: int64 [n, categorical columns].
        probabilities: float64 [n], the true probabilities, where they are known.
        timestamps: int64 [n], seconds, where they are known.
    """

    labels: npt.NDArray[np.float32]
    numeric: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64] | None = None
    timestamps: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: slice | npt.NDArray[np.int64]) -> Examples:
        """Selects rows by a slice or by an array of row numbers."""
        return Examples(
            self.labels[rows],
            self.numeric[rows],
            self.keys[rows],
            None if self.probabilities is None else self.probabilities[rows],
            None if self.timestamps is None else self.timestamps[rows],
        )

    @staticmethod
    def concatenate(parts: list[Examples]) -> Examples:
        """Joins parts in order; what not every part has is left out."""
        if len(parts) == 1:
            return parts[0]
        known = [part.probabilities for part in parts if part.probabilities is not None]
        times = [part.timestamps for part in parts if part.timestamps is not None]
        return Examples(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.numeric for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate(known) if len(known) == len(parts) else None,
            np.concatenate(times) if len(times) == len(parts) else None,
        )


@dataclass(frozen=True)
class NumericScaler:
    """Signed logarithms, then mean 0 and variance 1 per column; empty fields become 0, the mean.

    Attributes:
        means: per column, of the signed logarithms.
        deviations: per column, likewise, never 0.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @staticmethod
    def fit(numeric: npt.NDArray[np.float32]) -> NumericScaler:
        """Measures means and deviations.

        Args:
            numeric: float32 [n, columns]; NaN stands for an empty field.

        Returns:
            The scaler of these columns.
        """
        logs = _signed_log(numeric).astype(np.float64)
        present = ~np.isnan(logs)
        counts = np.maximum(present.sum(axis=0), 1)
        means = np.where(present, logs, 0.0).sum(axis=0) / counts
        variances = (np.where(present, logs - means, 0.0) ** 2).sum(axis=0) / counts
        deviations = np.sqrt(variances)
        deviations[deviations < 1e-6] = 1.0
        return NumericScaler(tuple(means.tolist()), tuple(deviations.tolist()))

    def __call__(self, numeric: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scales float32 [n, columns]; the result has no NaN and lies in [-8, 8]."""
        means = np.asarray(self.means, dtype=np.float32)
        deviations = np.asarray(self.deviations, dtype=np.float32)
        scaled = (_signed_log(numeric) - means) / deviations
        clipped: npt.NDArray[np.float32] = np.clip(
            np.nan_to_num(scaled, nan=0.0), -8.0, 8.0
        ).astype(np.float32)
        return clipped


def _signed_log(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    logs: npt.NDArray[np.float32] = np.copysign(np.log1p(np.abs(values)), values)
    return logs


def batches(
    chunks: Iterable[Examples], batch_size: int, shuffle: np.random.Generator | None = None
) -> Iterator[Examples]:
    """Cuts a stream of chunks into batches of one size; only the last may be smaller.

    Args:
        chunks: the stream.
        batch_size: rows per batch, at least 1.
        shuffle: when given, rows are shuffled inside each chunk (never across: later data stays
            later).

    Yields:
        The batches in order.
    """
    pending: list[Examples] = []
    held = 0
    for chunk in chunks:
        if shuffle is not None:
            chunk = chunk.take(shuffle.permutation(len(chunk)))
        pending.append(chunk)
        held += len(chunk)
        if held < batch_size:
            continue
        rows = Examples.concatenate(pending)
        whole = held - held % batch_size
        for start in range(0, whole, batch_size):
            yield rows.take(slice(start, start + batch_size))
        pending = [rows.take(slice(whole, held))] if whole < held else []
        held -= whole
    if held:
        yield Examples.concatenate(pending)
