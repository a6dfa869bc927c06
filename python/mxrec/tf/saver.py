"""Makes ``tf.compat.v1.train.Saver`` cover the embedding tables of the graph.

After ``install()`` every Saver, those of Estimator and MonitoredTrainingSession included, saves
and restores the ``is_save`` tables of its session's graph together with the variables, as full
checkpoints or as deltas. Nothing changes for graphs without tables. ``save_tables`` and
``restore_tables`` do the same for programs that have no Saver (eager execution, ``tf.function``).
"""

from __future__ import annotations

import functools
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mxrec.checkpoints import saving
from mxrec.checkpoints.manifest import Manifest
from mxrec.tf import (
    config,
    graph_state,
    restore_version,
    saver_state,
    table_checkpoint,
    tables_only,
    warm_start,
)
from mxrec.tf.access import is_elsewhere
from mxrec.tf.checkpoint_save import CheckpointSave
from mxrec.tf.log import warn_once
from mxrec.tf.table import registered_tables, tables_of_graph
from mxrec.tf.table_checkpoint import Halves, SavedTable
from mxrec.tf.validation import check_bool

_INSTALLED = "_mxrec_covers_tables"
_DENSE = "_mxrec_without_tables"


def install() -> None:
    """Wraps ``Saver.build``, ``save``, ``restore`` and ``warm_start`` process-wide. Idempotent."""
    warm_start.install()
    saver_class = tf.compat.v1.train.Saver
    if getattr(saver_class, _INSTALLED, False):
        return
    saver_class.build = _covering_build(saver_class.build)
    saver_class.save = _covering_save(saver_class.save)
    saver_class.restore = _covering_restore(saver_class.restore)
    setattr(saver_class, _INSTALLED, True)


def save_tables(
    prefix: str | os.PathLike[str],
    step: int = 0,
    tables: Sequence[SavedTable] | None = None,
    is_incremental_checkpoint: bool = False,
    save_delta: bool = False,
) -> str:
    """Saves tables to ``<dirname>/sparse-<basename>/<table>/``, for programs without a Saver.

    Args:
        prefix: path prefix of the checkpoint, as given to ``tf.train.Checkpoint.write``.
        step: the global step to record, >= 0.
        tables: what ``create_table`` returned; None: every table of the process with
            ``is_save=True``.
        is_incremental_checkpoint: count changes from now on, so that a delta can follow.
        save_delta: store only what has changed since the last such save in this directory; all,
            where there is none.

    Returns:
        The directory written.

    Raises:
        ValueError: there are no tables, or ``step`` is negative.
        OSError: the tables could not be written; nothing is left of them.
    """
    if isinstance(step, bool) or not isinstance(step, numbers.Integral):
        raise TypeError(f"step must be an int, got {step!r} ({type(step).__name__}).")
    if not 0 <= step < 2**63:
        raise ValueError(f"step must be in [0, 2^63 - 1], got {step}.")
    path = os.fspath(prefix)
    _begin(path, _chosen(tables), int(step), is_incremental_checkpoint, save_delta).complete()
    return table_checkpoint.sparse_directory(path)


def restore_tables(
    prefix: str | os.PathLike[str], tables: Sequence[SavedTable] | None = None
) -> int:
    """Restores tables that ``save_tables`` or a Saver wrote; all of them or none.

    Args:
        prefix: the prefix that they were saved with.
        tables: what ``create_table`` returned; None: every table of the process with
            ``is_save=True``.

    Returns:
        The step that they were saved with.

    Raises:
        FileNotFoundError: the checkpoint or one of the tables is not there.
        ValueError: a table's dim differs, or there are no tables.
        RuntimeError: a table is trained by another optimizer than the saved one.
        OSError: a file is damaged; no table has changed.
    """
    path = os.fspath(prefix)
    chosen = _chosen(tables)
    with saving.turn(), table_checkpoint.restored(path, chosen, None, **_what_to_count()) as found:
        return found.step


def _chosen(tables: Sequence[SavedTable] | None) -> Sequence[SavedTable]:
    if tables is None:
        chosen: Sequence[SavedTable] = [table for table in registered_tables() if table.is_save]
    else:
        chosen = list(tables)
    if not chosen:
        raise ValueError(
            "tables: there is no table to save or restore. Call create_table(..., is_save=True) "
            "first."
        )
    return chosen


def _saved_tables(session: Any) -> list[SavedTable]:
    """The tables that a Saver covers: those of the session's graph, or of the eager context."""
    if tf.executing_eagerly():  # Saver then does without the session
        return [table for table in tables_of_graph(None) if table.is_save]
    graph = getattr(session, "graph", None)
    monitored = (tf.compat.v1.train.MonitoredSession, tf.compat.v1.train.SingularMonitoredSession)
    # Saver refuses these with a TypeError of its own.
    if graph is None or isinstance(session, monitored):
        return []
    tables: list[SavedTable] = [t for t in tables_of_graph(graph) if t.is_save]
    for table in tables:
        _warn_of_other_process(table, graph)
    return tables


def _warn_of_other_process(table: SavedTable, graph: Any) -> None:
    nodes = graph_state.state_of(graph).nodes.get(table.table_name)
    if nodes is not None and is_elsewhere(nodes.handle):
        warn_once(
            ("saved here", table.table_name),
            "Saver: table %r is placed on %s, but what is saved and restored is the table of the "
            "process that runs the Saver. Unless that is the same one, rows that are trained there "
            "are not in the checkpoint: save them in that process, by save_tables.",
            table.table_name,
            nodes.handle.device,
        )


def _covering_build(dense_build: Any) -> Any:
    @functools.wraps(dense_build)
    def build(self: Any) -> Any:
        if not tf.executing_eagerly():
            graph = tf.compat.v1.get_default_graph()
            if any(table.is_save for table in tables_of_graph(graph)):
                tables_only.give_variable(self)
        return dense_build(self)

    return build


class SaverSave:
    """One ``Saver.save`` of a session with tables: begun, and complete after ``complete``.

    The instant is that of the constructor, which also writes the dense half.

    Attributes:
        step: of the checkpoint.
        prefix: path prefix of its dense files.
    """

    def __init__(
        self,
        saver: Any,
        dense_save: Any,
        session: Any,
        tables: Sequence[SavedTable],
        save_path: Any,
        global_step: Any,
        *,
        incremental: bool = False,
        delta: bool = False,
        write_state: bool = True,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        **options: Any,
    ) -> None:
        """Fixes the instant and writes the dense half; the arguments are those of ``Saver.save``.

        Args:
            saver: a ``tf.compat.v1.train.Saver``.
            dense_save: its ``save`` without tables.
            session: as there, and so are those that are not named here.
            tables: of the session's graph.
            save_path: as there.
            global_step: as there.
            incremental: ``is_incremental_checkpoint``.
            delta: ``save_delta``.
            write_state: as there.
            latest_filename: as there.
            meta_graph_suffix: as there.
            **options: as there.
        """
        step = _value_of_step(session, global_step)
        self.prefix = _checkpoint_prefix(saver, save_path, step)
        self._saver = saver
        self._record = write_state
        self._latest_filename = latest_filename
        self._suffix = meta_graph_suffix
        dense_step, dense_step_name = _dense_step(session)
        self.step = next((s for s in (step, dense_step) if s is not None), 0)
        self._save = _begin(self.prefix, tables, self.step, incremental, delta)

        def save_dense(path: str) -> Any:
            return dense_save(
                saver,
                session,
                path,
                latest_filename=latest_filename,
                meta_graph_suffix=meta_graph_suffix,
                write_state=False,
                **options,
            )

        try:
            self._save.save_dense(save_dense, dense_step, dense_step_name)
        except BaseException:
            self._save.abandon()
            raise

    @property
    def kind(self) -> str:
        """``full`` or ``delta``."""
        return self._save.kind

    def complete(self) -> Any:
        """Writes the tables, puts all in its place, deletes old checkpoints; in any thread.

        Returns:
            What ``Saver.save`` returns.
        """
        result = self._save.result
        recorded = self._record and result is not None
        self._save.complete(self._make_known if recorded else None)
        restore_version.note_saved(self.prefix)
        if recorded:
            saver_state.delete_due(self._saver, self._suffix)
        return result

    def abandon(self) -> None:
        """Ends the save without a checkpoint, unless it has ended."""
        self._save.abandon()

    def _make_known(self, folder: str, keep: Callable[[], None]) -> None:
        saver_state.record(self._saver, self._save.result, self._latest_filename, folder, keep)


def _is_incremental() -> bool:
    """Whether ``init`` asked for incremental checkpoints."""
    settings = config.current()
    return settings is not None and settings.is_incremental_checkpoint


def _what_to_count() -> dict[str, bool]:
    """What restored tables count for the delta that may follow."""
    settings = config.current()
    return {
        "tracks": _is_incremental(),
        "counts_recent": settings is not None and settings.recent_key_count_threshold > 0,
    }


def _begin(
    prefix: str, tables: Sequence[SavedTable], step: int, incremental: bool, delta: bool
) -> CheckpointSave:
    delta = check_bool("save_delta", delta)
    incremental = check_bool("is_incremental_checkpoint", incremental)
    settings = config.current()
    return CheckpointSave(
        prefix,
        tables,
        step,
        delta=delta,
        tracks=incremental or delta or _is_incremental(),
        recent_threshold=0 if settings is None else settings.recent_key_count_threshold,
    )


def begin_save(saver: Any, session: Any, save_path: Any, global_step: Any, **options: Any) -> Any:
    """Begins what ``saver.save`` with the same arguments would do; ``complete`` does the rest.

    Args:
        saver: a ``tf.compat.v1.train.Saver``.
        session: as in ``Saver.save``, whose graph has tables.
        save_path: as there.
        global_step: as there.
        **options: of ``SaverSave``.

    Returns:
        A ``SaverSave``.
    """
    dense_save = getattr(type(saver).save, _DENSE)
    tables = _saved_tables(session)
    return SaverSave(saver, dense_save, session, tables, save_path, global_step, **options)


def holds(session: Any, prefix: str) -> bool:
    """Whether the tables of a session are in the state of a checkpoint that is whole.

    Args:
        session: a session.
        prefix: path prefix of the checkpoint's dense files.
    """
    tables = _saved_tables(session)
    return table_checkpoint.dense_exists(prefix) and table_checkpoint.holds(
        prefix, tables, _is_incremental()
    )


def has_tables(graph: Any) -> bool:
    """Whether a Saver saves tables with a graph.

    Args:
        graph: a ``tf.Graph``.
    """
    return any(table.is_save for table in tables_of_graph(graph))


def _covering_save(dense_save: Any) -> Any:
    @functools.wraps(dense_save)
    def save(
        self: Any,
        sess: Any,
        save_path: Any,
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
        is_incremental_checkpoint: bool = False,
        save_delta: bool = False,
    ) -> Any:
        options: dict[str, Any] = {
            "latest_filename": latest_filename,
            "meta_graph_suffix": meta_graph_suffix,
            "write_meta_graph": write_meta_graph,
            "write_state": write_state,
            "strip_default_attrs": strip_default_attrs,
            "save_debug_info": save_debug_info,
        }
        tables = _saved_tables(sess)
        if not tables:
            return dense_save(self, sess, save_path, global_step=global_step, **options)
        return SaverSave(
            self,
            dense_save,
            sess,
            tables,
            save_path,
            global_step,
            incremental=is_incremental_checkpoint,
            delta=save_delta,
            **options,
        ).complete()

    del save.__wrapped__  # inspect.signature is to show the two parameters more
    setattr(save, _DENSE, dense_save)
    return save


def _covering_restore(dense_restore: Any) -> Any:
    @functools.wraps(dense_restore)
    def restore(self: Any, sess: Any, save_path: Any) -> Any:
        tables = _saved_tables(sess) if save_path is not None else []
        if not tables:
            return dense_restore(self, sess, save_path)
        prefix = restore_version.chosen(tf.compat.as_text(os.fspath(save_path)))
        # A save that is under way comes first.
        with saving.turn():
            if not table_checkpoint.dense_exists(prefix) and not table_checkpoint.has_manifest(
                table_checkpoint.sparse_directory(prefix)
            ):
                dense_restore(self, sess, prefix)  # raises: this is no checkpoint at all
            halves = halves_of_same_step(prefix)
            with table_checkpoint.restored(prefix, tables, halves.directory, **_what_to_count()):
                if tables_only.has_nothing_to_restore(self, halves.dense):
                    return None
                return dense_restore(self, sess, halves.dense)

    return restore


def _value_of_step(session: Any, global_step: Any) -> int | None:
    """``global_step`` of ``Saver.save`` as a number: evaluated once, so both halves agree."""
    if global_step is None or isinstance(global_step, numbers.Integral):
        return None if global_step is None else int(global_step)
    return int(tf.compat.v1.train.global_step(session, global_step))


def _checkpoint_prefix(saver: Any, save_path: Any, step: int | None) -> str:
    path: str = tf.compat.as_text(os.fspath(save_path))
    if step is None:
        return path
    # A Saver has no public way to ask for its pad_step_number.
    padded = getattr(saver, "_pad_step_number", False)
    return f"{path}-{step:08d}" if padded else f"{path}-{step}"


def _dense_step(session: Any) -> tuple[int | None, str | None]:
    """Value and name of the graph's global step variable, if it has one with a value."""
    if tf.executing_eagerly():
        return None, None
    variable = tf.compat.v1.train.get_global_step(session.graph)
    if variable is None:
        return None, None
    try:
        return int(session.run(variable)), variable.op.name
    except tf.errors.FailedPreconditionError:  # uninitialised: the saver does not save it either
        return None, None


def halves_of_same_step(prefix: str) -> Halves:
    """Where the tables and the dense half of a checkpoint lie that belong together.

    Args:
        prefix: path prefix of the checkpoint's dense files.

    Raises:
        ValueError: there are tables, but they are of another step.
    """

    def dense_step(manifest: Manifest, dense: str) -> int | None:
        name = None if manifest.dense is None else manifest.dense.step_name
        if name is None or not table_checkpoint.dense_exists(dense):
            return manifest.dense_step  # nothing to compare
        reader = tf.compat.v1.train.NewCheckpointReader(dense)
        return int(reader.get_tensor(name)) if reader.has_tensor(name) else manifest.dense_step

    found = table_checkpoint.find_halves(prefix, lambda m, d: dense_step(m, d) == m.dense_step)
    directory = table_checkpoint.sparse_directory(prefix)
    if found is None and table_checkpoint.has_manifest(directory):
        manifest = table_checkpoint.read_manifest(directory)
        raise ValueError(
            f"The checkpoint {prefix} is not complete: its variables are of step "
            f"{dense_step(manifest, prefix)}, the tables in {directory} of step "
            f"{manifest.dense_step}. Restore another checkpoint."
        )
    return found or Halves(directory, prefix)
