"""What a training run measured while it ran."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mxrec.cli.metrics import roc_auc


@dataclass
class History:
    """Points of the training curves; all lists have one entry per point.

    Attributes:
        rows: examples trained on so far.
        loss: mean cross entropy since the previous point.
        auc: over the latest examples, each predicted before it was trained on.
        table_rows: rows of all tables together.
    """

    rows: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    table_rows: list[int] = field(default_factory=list)

    def add(self, rows: int, loss: float, auc: float, table_rows: int) -> None:
        """Appends a point."""
        self.rows.append(rows)
        self.loss.append(loss)
        self.auc.append(auc)
        self.table_rows.append(table_rows)

    def drop_last(self) -> None:
        """Removes the last point."""
        for column in (self.rows, self.loss, self.auc, self.table_rows):
            del column[-1]


class RecentAuc:
    """The exact AUC of the latest predictions."""

    def __init__(self, window: int) -> None:
        """Starts empty.

        Args:
            window: predictions to keep, at least 1; whole batches leave when more are held.
        """
        self._window = window
        self._parts: deque[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = deque()
        self._held = 0

    def add(self, labels: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> None:
        """Adds the predictions of one batch."""
        self._parts.append((labels, logits))
        self._held += len(labels)
        while len(self._parts) > 1 and self._held - len(self._parts[0][0]) >= self._window:
            self._held -= len(self._parts.popleft()[0])

    def value(self) -> float:
        """The AUC; NaN while there is only one class."""
        if not self._parts:
            return float("nan")
        labels, logits = zip(*self._parts, strict=True)
        return roc_auc(np.concatenate(labels), np.concatenate(logits))
