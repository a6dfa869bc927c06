"""TableSummaryHook."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import tensorflow as tf

from mxrec.tf import graph_state
from mxrec.tf.summaries import TableSummaries
from mxrec.tf.table import SparseTable, tables_of_graph
from mxrec.tf.validation import INT32_MAX, check_bool, check_int


@dataclasses.dataclass
class _Training:
    """What the hook does in one graph."""

    tables: list[SparseTable]
    global_step: Any
    written: int | None = None  # the step that was written last


class TableSummaryHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """Writes what becomes of the keys of each table of the graph, for TensorBoard.

    Scalars ``mxrec/<table>/<what>``, where what is one of

    * ``seen`` (keys of training lookups, repetitions included), ``inserts``, ``admitted``,
      ``refused``, ``evicted_by_age``, ``evicted_by_rows``, ``evicted_by_l2``, ``erased``,
      ``growth_events`` (segments of the index that were split), ``growth_micros`` (what that took,
      in all threads), ``longest_growth_micros`` (what the longest split took): since the table was
      created or restored;
    * ``rows``, ``bytes``, ``load``, and whatever ``stats()`` says of parts of the memory
      (``bytes_rows``, ``bytes_index``, ...): now;
    * of a table with an SSD tier the numbers of ``stats()["tiers"]``, with the tier in front of
      the name (``memory_rows``, ``ssd_rows``, ``ssd_bytes_read``, ``ssd_bytes_written``, ...); and
      ``memory_hit_rate`` and ``ssd_wait_rate``: of the keys looked up since the summary before that
      had a row, the share that memory served, and the share that waited for the disk;
    * ``hit_rate`` and ``hot_rate``: of the keys looked up since the summary before, the share that
      had a row, and that had one among the hot rows; left out where no key was looked up;
    * ``save_seconds`` and ``restore_seconds``: of the table's part in the latest checkpoint that
      this process wrote or read; left out before there is one.

    With histograms also ``frequencies`` and ``ages`` of the rows (``mxrec.Table.histograms``). In a
    graph without training lookups the hook does nothing.

    Args:
        save_steps: global steps between summaries, in [1, 2^31). The first step of a session and
            its end have one, too.
        output_dir: directory of the event files. They are shared with other hooks that write there.
        summary_writer: a ``tf.compat.v1.summary.FileWriter``, instead of ``output_dir``.
        histograms: write histograms as well; each reads all rows.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range, or not exactly one of ``output_dir`` and
            ``summary_writer`` is given; from ``begin``: the graph has no global step.
    """

    def __init__(
        self,
        save_steps: int = 100,
        output_dir: Any = None,
        summary_writer: Any = None,
        histograms: bool = False,
    ) -> None:
        self._steps = check_int("save_steps", save_steps, 1, INT32_MAX)
        if (output_dir is None) == (summary_writer is None):
            raise ValueError(
                "TableSummaryHook: give output_dir or summary_writer, and not both, got "
                f"output_dir={output_dir!r} and summary_writer={summary_writer!r}."
            )
        self._directory = output_dir
        self._writer = summary_writer
        self._summaries = TableSummaries(check_bool("histograms", histograms))
        # By graph: train_and_evaluate evaluates in the middle of training.
        self._trainings: weakref.WeakKeyDictionary[Any, _Training] = weakref.WeakKeyDictionary()

    def tables(self, graph: Any) -> list[SparseTable]:
        """Returns the tables that are written about.

        Args:
            graph: that of the session.
        """
        return tables_of_graph(graph)

    def begin(self) -> None:
        """Finds the tables, and opens the event file."""
        graph = tf.compat.v1.get_default_graph()
        tables = self.tables(graph) if graph_state.state_of(graph).trained else []
        if not tables:
            return
        global_step = tf.compat.v1.train.get_global_step()
        if global_step is None:
            raise ValueError(
                "TableSummaryHook needs a global step; call "
                "tf.compat.v1.train.get_or_create_global_step()."
            )
        if self._directory is not None:
            self._writer = tf.compat.v1.summary.FileWriterCache.get(self._directory)
        self._trainings[graph] = _Training(tables, global_step)

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step."""
        training = self._trainings.get(run_context.session.graph)
        if training is None:
            return None
        return tf.compat.v1.train.SessionRunArgs(training.global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Writes where it is due."""
        training = self._trainings.get(run_context.session.graph)
        # The step may have been read before this run counted itself.
        if training is None or not self._is_due(training, int(run_values.results) + 1):
            return
        step = int(run_context.session.run(training.global_step))
        if self._is_due(training, step):
            self._write(training, step)

    def end(self, session: Any) -> None:
        """Writes how the session ends."""
        training = self._trainings.get(session.graph)
        if training is None:
            return
        step = int(session.run(training.global_step))
        if step != training.written:
            self._write(training, step)
        self._writer.flush()

    def _is_due(self, training: _Training, step: int) -> bool:
        return training.written is None or step - training.written >= self._steps

    def _write(self, training: _Training, step: int) -> None:
        training.written = step
        self._writer.add_summary(self._summaries.of(training.tables), step)


class GovernedTableSummaryHook(TableSummaryHook):
    """The same for those tables that admit or evict; does nothing in a graph without any."""

    def tables(self, graph: Any) -> list[SparseTable]:
        """Returns the tables that have admission or a rule of eviction."""
        return [table for table in super().tables(graph) if table.admits or table.evicts]
