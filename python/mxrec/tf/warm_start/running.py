"""Warm-starts tables and dense variables."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.training import warm_starting_util

from mxrec import _mxrec
from mxrec.tf.log import logger
from mxrec.tf.table import SparseTable, tables_of_graph
from mxrec.tf.warm_start import report
from mxrec.tf.warm_start.plan import DenseLoad, Plan, TableLoad, make_plan
from mxrec.tf.warm_start.report import WarmStarted
from mxrec.tf.warm_start.settings import Source, sources_of


def warm_start(
    session: Any,
    ckpt_to_initialize_from: Any,
    vars_to_warm_start: Any = ".*",
    var_name_to_vocab_info: Any = None,
    var_name_to_prev_var_name: Any = None,
    *,
    slots: Any = None,
    mode: Any = None,
    model_dir: str | os.PathLike[str] | None = None,
) -> list[WarmStarted]:
    """Begins with what other models have learnt, outside of an Estimator.

    Tables have their rows when the call returns. Dense variables get their values when their
    initializers run, as with ``tf.compat.v1.train.warm_start``; with a ``session`` the call runs
    them, and without graphs it assigns the values. All reasons why it cannot be are found before
    anything changes. docs/warm-start.md has examples.

    Args:
        session: a ``tf.compat.v1.Session``, whose graph is meant. None: the default graph or, when
            executing eagerly, the tables of the eager context.
        ckpt_to_initialize_from: a directory with checkpoints, the prefix of one, or a
            ``WarmStartPath``; or a list of these, applied in order; or a
            ``tf.estimator.WarmStartSettings``, which then says the next three, too: leave them out.
            Beside a list the other arguments may be lists of the same length.
        vars_to_warm_start: a regular expression: trainable variables, and tables that checkpoints
            hold. A list of such: all variables. A list of variables and tables. None: variables in
            ``var_name_to_vocab_info`` alone. The exact name of a table means that table alone.
        var_name_to_vocab_info: ``tf.train.VocabInfo`` by name of a variable.
        var_name_to_prev_var_name: name in the checkpoint by name of a variable or table. A table
            may also come from a floating-point tensor [n, dim]: row i is then that of key i.
        slots: "keep" (None, too) or "reset" the optimizer state of rows; what a ``WarmStartPath``
            says itself goes before.
        mode: "replace" (None, too) the rows of a table, or "merge" the source's into them;
            likewise.
        model_dir: where the model's own checkpoints will be: if there is one, nothing is done.

    Returns:
        What came from where; it is also logged.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range, or the warm start cannot be; the message
            lists every reason.
        RuntimeError: the graph is finalized, and variables are selected.
        OSError: a file is damaged; nothing has changed.
        MemoryError: rows do not fit; nothing has changed.
    """
    settings = (
        ckpt_to_initialize_from,
        vars_to_warm_start,
        var_name_to_vocab_info,
        var_name_to_prev_var_name,
    )
    if hasattr(ckpt_to_initialize_from, "ckpt_to_initialize_from"):
        _check_left_out(settings)
        settings = tuple(ckpt_to_initialize_from)
    sources = sources_of(*settings, slots, mode)
    if model_dir is not None and (own := tf.train.latest_checkpoint(os.fspath(model_dir))):
        logger.info("Not warm-started: the model has its own checkpoint %s.", own)
        return []
    if session is None:
        return run(sources)
    if not callable(getattr(session, "run", None)) or not hasattr(session, "graph"):
        raise TypeError(
            f"session must be a tf.compat.v1.Session or None, got {session!r} "
            f"({type(session).__name__})."
        )
    with session.graph.as_default():
        return run(sources, session)


def _check_left_out(settings: Sequence[Any]) -> None:
    fields = ("vars_to_warm_start", "var_name_to_vocab_info", "var_name_to_prev_var_name")
    for field, value, default in zip(fields, settings[1:], (".*", None, None), strict=True):
        if not (value is default or (isinstance(value, str) and value == default)):
            raise ValueError(
                f"{field}={value!r} beside WarmStartSettings, which say it themselves: "
                f"{field}={getattr(settings[0], field)!r}; give it in one place."
            )


def run(sources: Sequence[Source], session: Any = None) -> list[WarmStarted]:
    """Warm-starts the tables and variables of the default graph, or of the eager context.

    Args:
        sources: in order.
        session: runs the initializers of the variables; None: they are left to the program.

    Raises:
        ValueError: it cannot be; and what ``warm_start`` raises.
    """
    graph = _graph_here()
    with contextlib.ExitStack() as until:
        plan = make_plan(sources, tables_of_graph(graph), until)
        if plan.of_variables() and graph is not None and graph.finalized:
            raise RuntimeError(
                "The graph is finalized, so its variables cannot be warm-started; call "
                "mxrec.warm_start while the graph is built, before a MonitoredTrainingSession."
            )
        prepared = [_prepared(loads) for loads in plan.of_tables().values()]
    for load in plan.of_variables():
        _load_variables(load)
    if session is not None:
        _initialize(session, plan)
    for rows in prepared:
        rows.commit()
    entries = _entries(plan)
    logger.info("Warm start:\n%s", report.as_text(entries))
    return entries


def tables_here() -> list[SparseTable]:
    """The tables of the default graph, or of the eager context."""
    return tables_of_graph(_graph_here())


def _graph_here() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _effective(loads: Sequence[TableLoad]) -> Sequence[TableLoad]:
    """The sources of a table that leave something: those from the last that replaces all on."""
    replacing = [i for i, load in enumerate(loads) if load.source.mode == "replace"]
    return loads[replacing[-1] if replacing else 0 :]


def _prepared(loads: Sequence[TableLoad]) -> Any:
    """The rows of a table, which ``commit`` gives it."""
    rows = _mxrec.WarmStart(loads[0].table.engine)
    for load in _effective(loads):
        with _named(load):
            _add(rows, load)
    return rows


def _add(rows: Any, load: TableLoad) -> None:
    checkpoint, source = load.checkpoint, load.source
    options = {"mode": source.mode, "int32_keys": load.table.key_dtype == tf.int32}
    if load.is_tensor:
        tensor = checkpoint.tensor(load.saved_name)
        rows.add_matrix(np.ascontiguousarray(tensor, np.float32), **options)
    else:
        paths = checkpoint.table_paths(load.saved_name)
        load.rows = rows.add_checkpoint(paths, slots=source.slots, **options)


@contextlib.contextmanager
def _named(load: TableLoad) -> Iterator[None]:
    """Says in an error of the engine which source it was."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        error.add_note(f"Warm start of table {load.table.table_name!r}, {load.source.label}.")
        raise


def _load_variables(load: DenseLoad) -> None:
    variables = [part for parts in load.variables.values() for part in parts]
    warm_starting_util.warm_start(load.checkpoint.prefix, variables, load.vocabularies, load.names)


def _initialize(session: Any, plan: Plan) -> None:
    parts = {
        id(part): part
        for load in plan.of_variables()
        for parts in load.variables.values()
        for part in parts
    }
    if parts:  # or else the graph counts as run, and can no longer be rewritten
        session.run([part.initializer for part in parts.values()])


def _entries(plan: Plan) -> list[WarmStarted]:
    entries: list[WarmStarted] = []
    lasting = {id(load) for loads in plan.of_tables().values() for load in _effective(loads)}
    for load in plan.loads:
        if isinstance(load, DenseLoad):
            entries += _entries_of_variables(load, plan)
            continue
        done = "merged" if load.source.mode == "merge" else "replaced"
        entries.append(
            WarmStarted(
                name=load.table.table_name,
                kind="table",
                path=load.checkpoint.prefix,
                saved_name=load.saved_name,
                rows=load.rows,
                slots="kept" if load.keeps_slots else "fresh",
                outcome=done if id(load) in lasting else "superseded",
            )
        )
    return entries


def _entries_of_variables(load: DenseLoad, plan: Plan) -> Iterator[WarmStarted]:
    last = {name: other for other in plan.of_variables() for name in other.variables}
    for name, saved_name in load.saved_names.items():
        shape = load.checkpoint.tensors[saved_name]
        yield WarmStarted(
            name=name,
            kind="variable",
            path=load.checkpoint.prefix,
            saved_name=saved_name,
            rows=shape[0] if shape else 1,
            slots="",
            outcome="replaced" if last[name] is load else "superseded",
        )
