"""Makes ``tf.compat.v1.train.Saver`` cover the embedding tables of the graph.

After ``install()`` every Saver, those of Estimator and MonitoredTrainingSession included, saves
and restores the ``is_save`` tables of its session's graph together with the variables. Nothing
changes for graphs without tables. ``save_tables`` and ``restore_tables`` do the same for programs
that have no Saver (eager execution, ``tf.function``).
"""

from __future__ import annotations

import functools
import numbers
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mxrec.tf import graph_state, table_checkpoint, tables_only, warm_start
from mxrec.tf.access import is_elsewhere
from mxrec.tf.log import warn_once
from mxrec.tf.table import registered_tables, tables_of_graph
from mxrec.tf.table_checkpoint import SavedTable
from mxrec.tf.unsupported import not_delivered

_INSTALLED = "_mxrec_covers_tables"


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
    prefix: str | os.PathLike[str], step: int = 0, tables: Sequence[SavedTable] | None = None
) -> str:
    """Saves tables to ``<dirname>/sparse-<basename>/<table>/``, for programs without a Saver.

    Args:
        prefix: path prefix of the checkpoint, as given to ``tf.train.Checkpoint.write``.
        step: the global step to record, >= 0.
        tables: what ``create_table`` returned; None: every table of the process with
            ``is_save=True``.

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
    with table_checkpoint.saving(path, _chosen(tables), int(step)):
        pass
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
    with table_checkpoint.restoring(path, _chosen(tables)):
        return table_checkpoint.read_manifest(table_checkpoint.sparse_directory(path)).step


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
        for name, value in (
            ("is_incremental_checkpoint", is_incremental_checkpoint),
            ("save_delta", save_delta),
        ):
            if value:
                raise not_delivered(
                    "incremental checkpoints",
                    f"Saver.save({name}={value!r})",
                    f"leave {name} at False: every checkpoint is then a full one",
                )
        options = {
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

        step = _value_of_step(sess, global_step)
        prefix = _checkpoint_prefix(self, save_path, step)
        dense_step, dense_step_name = _dense_step(sess)
        earlier = self.last_checkpoints
        with table_checkpoint.saving(
            prefix,
            tables,
            next((s for s in (step, dense_step) if s is not None), 0),
            dense_step=dense_step,
            dense_step_name=dense_step_name,
        ):
            result = dense_save(self, sess, save_path, global_step=step, **options)
        kept = set(self.last_checkpoints)
        for old in earlier:
            # What max_to_keep drops may live on because of keep_checkpoint_every_n_hours.
            if old not in kept and not _dense_exists(old):
                table_checkpoint.remove(old)
        return result

    del save.__wrapped__  # inspect.signature is to show the two parameters more
    return save


def _covering_restore(dense_restore: Any) -> Any:
    @functools.wraps(dense_restore)
    def restore(self: Any, sess: Any, save_path: Any) -> Any:
        tables = _saved_tables(sess) if save_path is not None else []
        if not tables:
            return dense_restore(self, sess, save_path)
        prefix = tf.compat.as_text(os.fspath(save_path))
        if not _dense_exists(prefix) and not table_checkpoint.has_manifest(
            table_checkpoint.sparse_directory(prefix)
        ):
            dense_restore(self, sess, save_path)  # raises: this is no checkpoint at all
        with table_checkpoint.restoring(prefix, tables, _directory_of_same_step(prefix)):
            if tables_only.has_nothing_to_restore(self, prefix):
                return None
            return dense_restore(self, sess, save_path)

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


def _dense_exists(prefix: str) -> bool:
    return bool(
        tf.io.gfile.exists(prefix + ".index")
        or tf.io.gfile.exists(prefix)
        or ("-?????-of-" in prefix and tf.io.gfile.glob(prefix))
    )


def _directory_of_same_step(prefix: str) -> str:
    """Where the tables lie that belong to the dense half of a checkpoint.

    Raises:
        ValueError: there are tables, but they are of another step.
    """
    reader = tf.compat.v1.train.NewCheckpointReader(prefix) if _dense_exists(prefix) else None

    def dense_step(manifest: table_checkpoint.Manifest) -> int | None:
        name = manifest.dense_step_name
        if name is None or reader is None or not reader.has_tensor(name):
            return manifest.dense_step  # nothing to compare
        return int(reader.get_tensor(name))

    found = table_checkpoint.find_directory(prefix, lambda m: dense_step(m) == m.dense_step)
    directory = table_checkpoint.sparse_directory(prefix)
    if found is None and table_checkpoint.has_manifest(directory):
        manifest = table_checkpoint.read_manifest(directory)
        raise ValueError(
            f"The checkpoint {prefix} is not complete: its variables are of step "
            f"{dense_step(manifest)}, the tables in {directory} of step {manifest.dense_step}. "
            "Restore another checkpoint."
        )
    return found or directory
