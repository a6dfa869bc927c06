"""Exporting graphs of TensorFlow 1."""

from __future__ import annotations

import copy
import dataclasses
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mxrec.tf.serving import bags
from mxrec.tf.serving.freezer import MARKER_NAME, TABLES_FOLDER, Freezer, Placement
from mxrec.tf.serving.graph_variables import GraphVariables, copy_values
from mxrec.tf.serving.specs import split
from mxrec.tf.table import table_of_resource_name

v1 = tf.compat.v1

_LOOKUP_TABLES = ("HashTable", "HashTableV2", "MutableHashTableV2", "MutableDenseHashTableV2")
_MAX_GRAPH_BYTES = 2_000_000_000  # of a GraphDef, which is a protocol buffer


def export(session: Any, inputs: Any, outputs: Any, placement: Placement, model_dir: str) -> None:
    """Writes a SavedModel of a part of a Session's graph; see ``export_saved_model``."""
    for name, given in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(given, Mapping) or not given:
            raise TypeError(f"{name} must be a dict from names to tensors, got {given!r}.")
        for key, tensor in given.items():
            if not isinstance(tensor, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
                raise TypeError(f"{name}[{key!r}] must be a tensor of the graph, got {tensor!r}.")
    signature = v1.saved_model.predict_signature_def(_flat(inputs), _flat(outputs))
    signatures = {v1.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
    builder = v1.saved_model.Builder(model_dir)

    def add(frozen: Any, **what: Any) -> None:
        builder.add_meta_graph_and_variables(
            frozen, [v1.saved_model.tag_constants.SERVING], strip_default_attrs=True, **what
        )

    folder = os.path.join(model_dir, TABLES_FOLDER)
    assets = session.graph.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
    frozen = FrozenGraph(session, session.graph, signatures, Tables(placement, folder), None)
    frozen.add_to(add, assets, saves_variables=True)
    builder.save()


def _flat(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Composite tensors as their parts, named as in signatures of functions."""
    flat = {}
    for name, tensor in tensors.items():
        for suffix, part in split(tf.type_spec_from_value(tensor), tensor).items():
            flat[name + suffix] = part
    return flat


@dataclasses.dataclass(frozen=True)
class Tables:
    """Where the tables of a model go.

    Attributes:
        placement: into the graph or into directories.
        folder: of the directories.
        uids: of the tables in ``folder``, by name; grows.
    """

    placement: Placement
    folder: str
    uids: dict[str, str] = dataclasses.field(default_factory=dict)


class FrozenGraph:
    """The part of a graph behind some signatures, in which nothing needs the process's tables.

    Args:
        session: has the variables; None: they are not needed.
        graph: the graph.
        signatures: ``SignatureDef`` by name, with tensors of the graph.
        tables: where they go.
        main_op: what a process that loads the model runs first; None: nothing.

    Raises:
        ValueError: an output cannot be had without the tables.
        RuntimeError: a table changed meanwhile.
    """

    def __init__(
        self, session: Any, graph: Any, signatures: dict[str, Any], tables: Tables, main_op: Any
    ) -> None:
        self._session = session
        self._graph = graph
        self._signatures = {name: copy.deepcopy(each) for name, each in signatures.items()}
        self._main_op = main_op
        self._outputs = _tensor_names(self._signatures, "outputs")
        self._placeholders: list[str] = []
        self._starts = [] if main_op is None else [main_op.name]
        self._variables = GraphVariables(graph, (), None)
        self._path_name = f"mxrec_tables_{uuid.uuid4().hex}"  # of the variable, in every process
        self._path: Any = None
        self._freezer = Freezer(
            tables.placement, tables.folder, _constants, self._asset, tables.uids
        )
        self._graph_def = self._without_other_variables(self._with_frozen_tables())

    def add_to(self, add: Callable[..., None], assets: list[Any], saves_variables: bool) -> None:
        """Adds the graph to a model.

        Args:
            add: adds the default graph; called with a session of it, and with the arguments
                ``signature_def_map``, ``assets_collection`` and ``main_op`` of SavedModel builders.
            assets: tensors of the source graph that hold paths of files of the model.
            saves_variables: give the session's variables their values.
        """
        with tempfile.TemporaryDirectory() as stage, tf.Graph().as_default() as graph:
            tf.import_graph_def(self._graph_def, name="")
            names = {node.name for node in self._graph_def.node}
            paths = [graph.get_tensor_by_name(a.name) for a in assets if a.op.name in names]
            starts = [graph.get_operation_by_name(name) for name in self._starts]
            if self._path is not None:
                marker = os.path.join(stage, MARKER_NAME)
                with open(marker, "w", encoding="utf-8") as file:
                    file.write(self._freezer.marker())
                asset = tf.constant(marker, name="mxrec_tables_asset")
                paths.append(asset)
                handle = graph.get_tensor_by_name(f"{self._path_name}:0")
                starts.append(tf.raw_ops.AssignVariableOp(resource=handle, value=asset))
            variables = self._variables.recreate()
            with v1.Session(graph=graph) as session:
                if saves_variables:
                    copy_values(variables, self._session, session)
                add(
                    session,
                    signature_def_map=self._signatures,
                    assets_collection=paths or None,
                    main_op=tf.group(*starts) if starts else None,
                )

    # --- Tables ---------------------------------------------------------------------------------

    def _with_frozen_tables(self) -> Any:
        """The part of the graph between inputs and outputs, in which no op reads a table."""
        whole = self._graph.as_graph_def(add_shapes=False)
        source = self._part_of(whole)
        if any(node.op in _LOOKUP_TABLES for node in source.node):
            initializers = self._graph.get_collection(v1.GraphKeys.TABLE_INITIALIZERS)
            self._starts += [op.name for op in initializers if op.name not in self._starts]
            source = self._part_of(whole)
        names = [node.name for node in source.node]
        self._variables = GraphVariables(self._graph, names, self._main_op)
        source = self._part_of(whole)
        with tf.Graph().as_default() as graph:
            self._import_behind_placeholders(source)
            for op in [op for op in graph.get_operations() if op.type in _FROZEN]:
                self._freeze(op)
        result = self._part_of(graph.as_graph_def())
        _drop_unused_functions(result)
        _check_no_tables_left(result)
        return result

    def _part_of(self, graph_def: Any) -> Any:
        """What the signatures need of a graph."""
        return v1.graph_util.extract_sub_graph(graph_def, self._needed())

    def _needed(self) -> list[str]:
        starts = [*self._starts, *self._variables.ops()]
        return sorted({*_ops_of(self._outputs), *self._placeholders, *starts})

    def _import_behind_placeholders(self, source: Any) -> None:
        """Imports a graph with placeholders for the inputs, whatever computes them in it.

        Inputs that are placeholders keep their names.
        """
        controlling = {name for node in source.node for name in node.input if name[:1] == "^"}
        names = {node.name for node in source.node}
        replaced = {}
        kept = set()
        for number, name in enumerate(sorted(_tensor_names(self._signatures, "inputs"))):
            old = self._graph.get_tensor_by_name(name)
            new_name = f"mxrec_input_{number}"
            if old.op.type == "Placeholder" and f"^{old.op.name}" not in controlling:
                kept.add(old.op.name)
                new_name = f"{old.op.name}/"  # a name with a slash at its end is taken as it is
            replaced[name] = v1.placeholder(old.dtype, old.shape, new_name)
        used = {n: new for n, new in replaced.items() if n.rsplit(":", 1)[0] in names}
        for number in reversed([i for i, node in enumerate(source.node) if node.name in kept]):
            del source.node[number]
        tf.import_graph_def(source, name="", input_map=used)
        self._rename(replaced)

    def _rename(self, replaced: dict[str, Any]) -> None:
        for signature in self._signatures.values():
            for info in signature.inputs.values():
                for field in _named_fields(info):
                    name = getattr(field[0], field[1])
                    setattr(field[0], field[1], replaced[name].name)
            for info in signature.outputs.values():  # an input may be an output
                for field in _named_fields(info):
                    name = getattr(field[0], field[1])
                    if name in replaced:
                        setattr(field[0], field[1], replaced[name].name)
        self._outputs = _tensor_names(self._signatures, "outputs")
        self._placeholders = [tensor.op.name for tensor in replaced.values()]

    def _freeze(self, op: Any) -> None:
        with tf.control_dependencies(None), v1.name_scope(f"{op.name}_frozen/"):
            outputs = _FROZEN[op.type](op, self._freezer)
        for index, tensor in outputs.items():
            for consumer in list(op.outputs[index].consumers()):
                for place, each in enumerate(consumer.inputs):
                    if each is op.outputs[index]:
                        consumer._update_input(place, tensor)
        for index, tensor in outputs.items():
            if op.outputs[index].name in self._outputs:
                self._rename_output(op.outputs[index].name, tensor.name)

    def _rename_output(self, old: str, new: str) -> None:
        for signature in self._signatures.values():
            for info in signature.outputs.values():
                for owner, attribute in _named_fields(info):
                    if getattr(owner, attribute) == old:
                        setattr(owner, attribute, new)
        self._outputs = _tensor_names(self._signatures, "outputs")

    def _asset(self) -> Any:
        if self._path is None:
            with tf.control_dependencies(None), v1.name_scope(None):
                self._path = tf.raw_ops.VarHandleOp(
                    dtype=tf.string, shape=[], shared_name=self._path_name, name=self._path_name
                )
        return tf.raw_ops.ReadVariableOp(resource=self._path, dtype=tf.string)

    # --- Variables ------------------------------------------------------------------------------

    def _without_other_variables(self, graph_def: Any) -> Any:
        """Makes constants of variables that no collection of the graph has."""
        others = [n for n in self._variables.others(graph_def) if n != self._path_name]
        if others:
            if self._session is None:
                raise ValueError(
                    f"Variables without a collection, such as {others[0]!r}, are saved as "
                    "constants; add the graph while its session is the default one."
                )
            graph_def = v1.graph_util.convert_variables_to_constants(
                self._session, graph_def, self._needed(), variable_names_whitelist=others
            )
        size = graph_def.ByteSize()
        if size > _MAX_GRAPH_BYTES:
            raise ValueError(
                f"The frozen graph has {size} bytes, more than the {_MAX_GRAPH_BYTES} that a graph "
                "may have; export with tables='directory'."
            )
        return graph_def


def _constants(keys: Any, values: Any) -> tuple[Any, Any]:
    with tf.control_dependencies(None), v1.name_scope(None):
        return tf.constant(keys, name="mxrec_keys"), tf.constant(values, name="mxrec_rows")


def _named_fields(info: Any) -> list[tuple[Any, str]]:
    """Where a TensorInfo names tensors: (message, field) each."""
    if info.WhichOneof("encoding") == "coo_sparse":
        sparse = info.coo_sparse
        names = ("values_tensor_name", "indices_tensor_name", "dense_shape_tensor_name")
        return [(sparse, name) for name in names]
    if info.WhichOneof("encoding") == "composite_tensor":
        return [field for part in info.composite_tensor.components for field in _named_fields(part)]
    return [(info, "name")]


def _tensor_names(signatures: dict[str, Any], side: str) -> set[str]:
    return {
        getattr(owner, attribute)
        for signature in signatures.values()
        for info in getattr(signature, side).values()
        for owner, attribute in _named_fields(info)
    }


def _ops_of(tensor_names: set[str]) -> list[str]:
    return sorted({name.rsplit(":", 1)[0] for name in tensor_names})


def _drop_unused_functions(graph_def: Any) -> None:
    """Gradients of functions, for one, stay in a graph's library when nothing calls them."""
    functions = {function.signature.name: function for function in graph_def.library.function}
    used: set[str] = set()
    waiting = list(graph_def.node)
    while waiting:
        node = waiting.pop()
        called = {node.op}
        for value in node.attr.values():
            called.add(value.func.name)
            called.update(each.name for each in value.list.func)
        for name in (called & functions.keys()) - used:
            used.add(name)
            waiting.extend(functions[name].node_def)
    kept = [function for name, function in functions.items() if name in used]
    gradients = [each for each in graph_def.library.gradient if each.function_name in used]
    del graph_def.library.function[:], graph_def.library.gradient[:]
    graph_def.library.function.extend(kept)
    graph_def.library.gradient.extend(gradients)


def _check_no_tables_left(graph_def: Any) -> None:
    functions = [node for function in graph_def.library.function for node in function.node_def]
    for node in [*graph_def.node, *functions]:
        if node.op.startswith("Mxrec") and node.op != "MxrecServedRead":
            raise ValueError(
                f"{node.name!r} ({node.op}) cannot be frozen: outputs must need nothing but "
                "lookups outside of functions, and no gradients. Choose tensors of the forward "
                "pass as outputs; build lookups outside of tf.function, and outside of tf.cond or "
                "with TensorFlow 1's control flow (tf.compat.v1.disable_control_flow_v2)."
            )


# --- Ops that read tables -----------------------------------------------------------------------

Outputs = dict[int, Any]


def _table_of(op: Any) -> Any:
    handle = op.inputs[0].op
    table = None
    if handle.type == "VarHandleOp":
        table = table_of_resource_name(tf.compat.as_text(handle.get_attr("shared_name")))
    if table is None:
        raise ValueError(
            f"The table of {op.name!r} is not one of this process; export it where it is."
        )
    return table


def _combiner_of(op: Any) -> str:
    text: str = tf.compat.as_text(op.get_attr("combiner"))
    return text


def _read(op: Any, freezer: Freezer) -> Outputs:
    _, keys, _, absent = op.inputs
    return {0: freezer.read(_table_of(op), keys, absent)}


def _pooled_read(op: Any, freezer: Freezer) -> Outputs:
    _, keys, _, absent, splits, *weights = op.inputs
    rows = freezer.read(_table_of(op), keys, absent)
    return {0: bags.pool(rows, splits, weights[0] if weights else None, _combiner_of(op))}


def _lookup(op: Any, freezer: Freezer) -> Outputs:
    return {0: freezer.read(_table_of(op), op.inputs[2], op.inputs[4])}


def _pooled_lookup(op: Any, freezer: Freezer) -> Outputs:
    rows = freezer.read(_table_of(op), op.inputs[2], op.inputs[4])
    return {0: bags.pool(rows, op.inputs[6], None, _combiner_of(op))}


def _lookup_unique(op: Any, freezer: Freezer) -> Outputs:
    keys = op.inputs[2]
    unique, inverse = tf.unique(tf.reshape(tf.cast(keys, tf.int64), [-1]))
    rows = freezer.read(_table_of(op), unique, op.inputs[4])
    return {0: rows, 1: unique, 3: tf.reshape(inverse, tf.shape(keys))}


def _restore(op: Any, freezer: Freezer) -> Outputs:
    del freezer
    rows, inverse = op.inputs
    return {0: _by_inverse(rows, inverse)}


def _pooled_restore(op: Any, freezer: Freezer) -> Outputs:
    del freezer
    rows, inverse, splits, *weights = op.inputs
    each = _by_inverse(rows, inverse)
    return {0: bags.pool(each, splits, weights[0] if weights else None, _combiner_of(op))}


def _by_inverse(rows: Any, inverse: Any) -> Any:
    padded = tf.pad(rows, [[0, 1], [0, 0]])  # what a negative place reads
    return tf.gather(padded, tf.where(inverse < 0, tf.shape(rows)[0], inverse))


def _bag_splits(op: Any, freezer: Freezer) -> Outputs:
    del freezer
    indices, dense_shape, *weights_indices = op.inputs
    return {0: bags.splits_of(indices, dense_shape, weights_indices)}


_FROZEN = {
    "MxrecRead": _read,
    "MxrecPooledRead": _pooled_read,
    "MxrecLookup": _lookup,
    "MxrecPooledLookup": _pooled_lookup,
    "MxrecLookupUnique": _lookup_unique,
    "MxrecRestore": _restore,
    "MxrecPooledRestore": _pooled_restore,
    "MxrecBagSplits": _bag_splits,
}
