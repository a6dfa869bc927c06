"""TableSummaryCallback."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from mxrec.tf.keras.saving import tables_of_model
from mxrec.tf.summaries import TableSummaries
from mxrec.tf.table import SparseTable
from mxrec.tf.validation import INT32_MAX, check_bool, check_int


class TableSummaryCallback(tf.keras.callbacks.Callback):  # type: ignore[misc]  # TensorFlow is untyped
    """Writes about the tables of a model's layers while it is fitted, for TensorBoard.

    The same as ``mxrec.tf.TableSummaryHook`` does for Sessions, with the dense optimizer's
    ``iterations`` as step.

    Args:
        log_dir: directory of the event files.
        update_freq: "epoch", or steps between summaries, in [1, 2^31). The end of ``fit`` has one
            in any case.
        histograms: write histograms of the rows' frequencies and ages as well; each reads all rows.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        update_freq: int | str = "epoch",
        histograms: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(f"log_dir must be a directory, got {log_dir!r}.")
        self._directory = os.fspath(log_dir)
        if isinstance(update_freq, str):
            if update_freq != "epoch":
                raise ValueError(
                    f"update_freq must be 'epoch' or an int in [1, 2^31), got {update_freq!r}."
                )
            self._steps = None
        else:
            self._steps = check_int("update_freq", update_freq, 1, INT32_MAX)
        self._summaries = TableSummaries(check_bool("histograms", histograms))
        self._tables: list[SparseTable] = []
        self._writer: Any = None
        self._written: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the tables, and opens the event file."""
        self._tables = tables_of_model(self.model)
        if self._tables:
            self._writer = tf.summary.create_file_writer(self._directory)
        self._written = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes where it is due."""
        if self._steps is None or not self._tables:
            return
        step = self._step()
        if self._written is None or step - self._written >= self._steps:
            self._write(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes, with ``update_freq="epoch"``."""
        if self._steps is None and self._tables:
            self._write(self._step())

    def on_train_end(self, logs: Any = None) -> None:
        """Writes how it ends, and closes the event file."""
        if not self._tables:
            return
        step = self._step()
        if step != self._written:
            self._write(step)
        self._writer.close()
        self._writer = None

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _write(self, step: int) -> None:
        self._written = step
        summary = self._summaries.of(self._tables)
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
