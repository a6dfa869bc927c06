"""What goes where, and whether it can; nothing has changed until all of it has been checked."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from mxrec.tf import graph_state, remote
from mxrec.tf.access import is_elsewhere
from mxrec.tf.table import SparseTable
from mxrec.tf.warm_start.checkpoints import Checkpoint, open_checkpoint
from mxrec.tf.warm_start.selection import Selection, listed, select
from mxrec.tf.warm_start.settings import Source


@dataclasses.dataclass
class TableLoad:
    """One source of one table.

    Attributes:
        table: what gets the rows.
        source: as the user gave it.
        checkpoint: the source.
        saved_name: name of the saved table, or of a tensor whose row i is key i.
        is_tensor: which of the two.
        rows: that the source has; None: of a delta that has not been read.
        keeps_slots: whether the rows bring slots.
    """

    table: SparseTable
    source: Source
    checkpoint: Checkpoint
    saved_name: str
    is_tensor: bool
    rows: int | None = 0
    keeps_slots: bool = False


@dataclasses.dataclass
class DenseLoad:
    """The dense variables of one source.

    Attributes:
        checkpoint: the source.
        variables: by name; the parts of a partitioned variable together.
        vocabularies: as TensorFlow takes them.
        names: name in the source by name in the model, as TensorFlow takes them.
        saved_names: the same for every variable.
    """

    checkpoint: Checkpoint
    variables: dict[str, list[Any]]
    vocabularies: dict[str, Any]
    names: dict[str, str]
    saved_names: dict[str, str]


@dataclasses.dataclass
class Plan:
    """A warm start that has been checked.

    Attributes:
        loads: of tables and of variables, in the order of the sources.
    """

    loads: list[TableLoad | DenseLoad] = dataclasses.field(default_factory=list)

    def of_tables(self) -> dict[str, list[TableLoad]]:
        """The sources of each table, in order, by the table's name."""
        loads: dict[str, list[TableLoad]] = {}
        for load in self.loads:
            if isinstance(load, TableLoad):
                loads.setdefault(load.table.table_name, []).append(load)
        return loads

    def of_variables(self) -> list[DenseLoad]:
        """The sources of dense variables, in order."""
        return [load for load in self.loads if isinstance(load, DenseLoad)]


def make_plan(
    sources: Sequence[Source], tables: Sequence[SparseTable], until: contextlib.ExitStack
) -> Plan:
    """Checks a warm start of tables, and of the variables of the default graph.

    Args:
        sources: in order.
        tables: of the graph.
        until: when it closes, local copies of remote tables go.

    Raises:
        ValueError: it cannot be; the message lists every reason.
    """
    plan = Plan()
    problems: list[str] = []
    for source in sources:
        planner = _Planner(source, tables, until)
        plan.loads += planner.loads()
        problems += [f"{source.label}: {problem}" for problem in dict.fromkeys(planner.problems)]
    if problems:
        raise ValueError("The warm start cannot begin:\n- " + "\n- ".join(problems))
    return plan


class _Planner:
    """Plans one source."""

    def __init__(
        self, source: Source, tables: Sequence[SparseTable], until: contextlib.ExitStack
    ) -> None:
        self._source = source
        self._until = until
        self._names = dict(source.names)
        self._tables = tables
        self.problems: list[str] = []

    def loads(self) -> list[TableLoad | DenseLoad]:
        source = self._source
        selected = select(source.selection, self._tables, source.vocabularies)
        self.problems += selected.problems
        self._check_names_are_used(selected)
        try:
            checkpoint = open_checkpoint(source.path)
        except (OSError, ValueError) as error:
            self.problems.append(str(error))
            return []
        loads: list[TableLoad | DenseLoad] = []
        if selected.tables:
            loads += self._table_loads(checkpoint, selected.tables)
        if selected.variables:
            with self._reasons():
                loads.append(self._dense_load(checkpoint, selected.variables))
        return loads

    @contextlib.contextmanager
    def _reasons(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self.problems.append(str(error))

    def _check_names_are_used(self, selected: Selection) -> None:
        tables = [table.table_name for table in selected.tables]
        there = [*tables, *selected.variables]
        for name in self._names:
            if name not in there:
                self.problems.append(
                    f"var_name_to_prev_var_name: {name!r} is not selected by vars_to_warm_start; "
                    f"selected are {listed(there)}"
                )
        for name in self._source.vocabularies:
            if name in selected.variables:
                continue
            if any(name == table.table_name for table in self._tables):
                self.problems.append(
                    f"var_name_to_vocab_info: {name!r} is an embedding table, whose rows have keys "
                    "and no vocabulary; leave it out"
                )
            else:
                self.problems.append(
                    f"var_name_to_vocab_info: {name!r} is not selected by vars_to_warm_start; "
                    f"selected are {listed(selected.variables)}"
                )

    # --- Tables

    def _table_loads(
        self, checkpoint: Checkpoint, tables: Sequence[SparseTable]
    ) -> list[TableLoad | DenseLoad]:
        loads: list[TableLoad | DenseLoad] = []
        wanted = {t.table_name: self._names.get(t.table_name, t.table_name) for t in tables}
        try:
            saved = checkpoint.tables
            if there := [name for name in wanted.values() if name in saved]:
                checkpoint.fetch(there, self._until)
        except (OSError, ValueError) as error:
            self.problems.append(str(error))
            return loads
        for table in tables:
            saved_name = wanted[table.table_name]
            load = TableLoad(table, self._source, checkpoint, saved_name, saved_name not in saved)
            before = len(self.problems)
            self._check_place(table)
            with self._reasons():
                if load.is_tensor:
                    self._check_tensor(load)
                else:
                    self._check_saved_table(load)
            if len(self.problems) == before:
                loads.append(load)
        return loads

    def _check_place(self, table: SparseTable) -> None:
        nodes = graph_state.state_here().nodes.get(table.table_name)
        if nodes is not None and is_elsewhere(nodes.handle):
            self.problems.append(
                f"table {table.table_name!r} is placed on {nodes.handle.device}, and only the "
                "process that holds a table can load it: call mxrec.warm_start(None, ...) there "
                "before server.join(), and leave the table out here"
            )

    def _check_saved_table(self, load: TableLoad) -> None:
        table, name = load.table, load.saved_name
        info = load.checkpoint.table_info(name)
        path = load.checkpoint.table_paths(name)[-1]
        is_delta = bool(info["parent"])
        if info["dim"] != table.dim:
            self.problems.append(
                f"table {table.table_name!r} has dim {table.dim}, but the saved table {name!r} has "
                f"dim {info['dim']}; warm-start a table of dim {info['dim']} from it"
            )
        saved, own = info["optimizer"].kind, table.engine.optimizer.kind
        load.keeps_slots = self._source.slots == "keep" and saved != "None"
        if load.keeps_slots and own not in ("None", saved):
            self.problems.append(
                f"table {table.table_name!r} is trained by {own}, but the rows in {path} have "
                f"slots of {saved}; reset them (WarmStartPath(path, slots='reset'), or "
                "slots='reset' of mxrec.warm_start), or use the same optimizer"
            )
        load.rows = None if is_delta else int(info["rows"])
        self._check_capacity(load)

    def _check_tensor(self, load: TableLoad) -> None:
        table, name = load.table, load.saved_name
        shape = load.checkpoint.tensors.get(name)
        if shape is None:
            wide = [
                tensor
                for tensor, found in load.checkpoint.tensors.items()
                if len(found) == 2 and found[1] == table.dim
            ]
            foreign = remote.problem_of(load.checkpoint.halves.directory)
            if foreign is not None:
                self.problems.append(
                    f"{load.checkpoint.prefix} has no table {name!r}: {foreign.rstrip('.')}"
                )
                return
            mapped = "" if name == table.table_name else f" for the table {table.table_name!r}"
            self.problems.append(
                f"{load.checkpoint.prefix} has no table {name!r}{mapped}; it has the tables "
                f"{listed(load.checkpoint.tables)}, and the tensors {listed(wide)} whose rows "
                f"could be those of keys 0, 1, ... Map names by var_name_to_prev_var_name, or "
                "select other tables by vars_to_warm_start"
            )
            return
        if len(shape) != 2 or shape[1] != table.dim:
            self.problems.append(
                f"table {table.table_name!r} has dim {table.dim}, but the tensor {name!r} has "
                f"shape {shape}; rows come from tensors of shape [n, {table.dim}]"
            )
            return
        if not load.checkpoint.dtype(name).is_floating:
            self.problems.append(
                f"the tensor {name!r} is of {load.checkpoint.dtype(name).name}; the rows of table "
                f"{table.table_name!r} need a floating-point type"
            )
        load.rows = shape[0]
        self._check_capacity(load)

    def _check_capacity(self, load: TableLoad) -> None:
        capacity = load.table.capacity()
        if self._source.mode == "replace" and load.rows is not None and load.rows > capacity:
            self.problems.append(
                f"table {load.table.table_name!r} holds {capacity} rows, but {load.saved_name!r} "
                f"has {load.rows}; raise device_vocabulary_size or host_vocabulary_size, or use "
                "dynamic expansion"
            )

    # --- Dense variables

    def _dense_load(self, checkpoint: Checkpoint, variables: dict[str, list[Any]]) -> DenseLoad:
        names = {new: old for new, old in self._names.items() if new in variables}
        renames: dict[str, str] = {}
        if not names:
            # As TensorFlow does: an object-based checkpoint has keys of its own.
            try:
                renames = checkpoint.keys_of(variables)
            except ValueError as error:
                self.problems.append(str(error))
                renames = {name: name for name in variables}
        vocabularies = {n: v for n, v in self._source.vocabularies.items() if n in variables}
        saved_names = {n: names.get(n) or renames.get(n, n) for n in variables}
        for name, parts in variables.items():
            with self._reasons():
                self._check_variable(checkpoint, name, parts, saved_names[name])
        for vocabulary in vocabularies.values():
            for path in (vocabulary.new_vocab, vocabulary.old_vocab):
                if not tf.io.gfile.exists(path):
                    self.problems.append(
                        f"var_name_to_vocab_info: there is no vocabulary file {path!r}"
                    )
        return DenseLoad(checkpoint, variables, vocabularies, names, saved_names)

    def _check_variable(
        self, checkpoint: Checkpoint, name: str, parts: list[Any], saved_name: str
    ) -> None:
        shape = checkpoint.tensors.get(saved_name)
        if shape is None:
            close = difflib.get_close_matches(saved_name, checkpoint.tensors, cutoff=0.5)
            mapped = "" if name == saved_name else f" for the variable {name!r}"
            self.problems.append(
                f"{checkpoint.prefix} has no variable {saved_name!r}{mapped}; the closest names "
                f"are {listed(close)}. Map names by var_name_to_prev_var_name, or select other "
                "variables by vars_to_warm_start"
            )
            return
        self._check_type(checkpoint, name, parts, saved_name)
        checkpoint.tensor(saved_name)  # TensorFlow would find damage with half the variables set
        info = parts[0]._get_save_slice_info()
        own = tf.TensorShape(info.full_shape if info is not None else parts[0].shape)
        if name in self._source.vocabularies:
            self._check_mapped_shape(name, own, saved_name, tf.TensorShape(shape))
            return
        if not own.is_compatible_with(shape):
            self.problems.append(
                f"the variable {name!r} has shape {own}, but {saved_name!r} in "
                f"{checkpoint.prefix} has shape {tf.TensorShape(shape)}"
            )

    def _check_mapped_shape(
        self, name: str, own: tf.TensorShape, saved_name: str, saved: tf.TensorShape
    ) -> None:
        vocabulary = self._source.vocabularies[name]
        axis = int(vocabulary.axis)
        size = vocabulary.new_vocab_size + vocabulary.num_oov_buckets
        if own.rank != 2 or saved.rank != 2 or own[1 - axis] != saved[1 - axis]:
            self.problems.append(
                f"var_name_to_vocab_info: the variable {name!r} has shape {own}, but "
                f"{saved_name!r} {saved}; a vocabulary maps matrices, which may "
                f"differ in axis {axis} alone"
            )
        elif own[axis] > size or (axis == 1 and own[axis] < size):
            self.problems.append(
                f"var_name_to_vocab_info: the variable {name!r} has shape {own}, but its "
                f"vocabulary with num_oov_buckets makes {size} in axis {axis}"
            )

    def _check_type(
        self, checkpoint: Checkpoint, name: str, parts: list[Any], saved_name: str
    ) -> None:
        own = tf.as_dtype(parts[0].dtype).base_dtype
        saved = checkpoint.dtype(saved_name)
        if own != saved:
            self.problems.append(
                f"the variable {name!r} is of {own.name}, but {saved_name!r} in "
                f"{checkpoint.prefix} is of {saved.name}; make the variable of {saved.name}, or "
                "leave it out by vars_to_warm_start"
            )
        elif name in self._source.vocabularies and own != tf.float32:
            self.problems.append(
                f"var_name_to_vocab_info: the variable {name!r} is of {own.name}; TensorFlow maps "
                "rows of float32 alone"
            )
