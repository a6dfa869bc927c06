"""Exporting graphs of TensorFlow 1."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from mxrec.tf.serving import bags
from mxrec.tf.serving.freezer import MARKER_NAME, Freezer, Placement
from mxrec.tf.serving.specs import split
from mxrec.tf.table import table_of_resource_name

v1 = tf.compat.v1

_LOOKUP_TABLES = ("HashTable", "HashTableV2", "MutableHashTableV2", "MutableDenseHashTableV2")
_MAX_GRAPH_BYTES = 2_000_000_000  # of a GraphDef, which is a protocol buffer


def export(
    session: Any,
    inputs: Any,
    outputs: Any,
    placement: Placement,
    model_dir: str,
    tables_dir: str,
) -> None:
    """Writes a SavedModel of a part of a Session's graph; see ``export_saved_model``."""
    for name, given in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(given, Mapping) or not given:
            raise TypeError(f"{name} must be a dict from names to tensors, got {given!r}.")
        for key, tensor in given.items():
            if not isinstance(tensor, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
                raise TypeError(f"{name}[{key!r}] must be a tensor of the graph, got {tensor!r}.")
    signature = v1.saved_model.predict_signature_def(_flat(inputs), _flat(outputs))
    signatures = {v1.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
    export_signatures(session, signatures, placement, model_dir, tables_dir)


def export_signatures(
    session: Any,
    signatures: dict[str, Any],
    placement: Placement,
    model_dir: str,
    tables_dir: str,
) -> None:
    """Writes a SavedModel with these signatures, variables as constants and tables frozen.

    Args:
        session: holds the variables.
        signatures: ``SignatureDef`` by name, with tensors of the session's graph.
        placement: where tables go.
        model_dir: directory to write.
        tables_dir: where tables that do not go into the graph are put.
    """
    exporter = _Export(session, signatures, placement, tables_dir, os.path.dirname(model_dir))
    exporter.write(model_dir)


def _flat(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Composite tensors as their parts, named as in signatures of functions."""
    flat = {}
    for name, tensor in tensors.items():
        for suffix, part in split(tf.type_spec_from_value(tensor), tensor).items():
            flat[name + suffix] = part
    return flat


class _Export:
    def __init__(
        self,
        session: Any,
        signatures: dict[str, Any],
        placement: Placement,
        tables_dir: str,
        stage: str,
    ) -> None:
        self._session = session
        self._signatures = signatures
        self._outputs = _tensor_names(signatures, "outputs")
        self._placeholders: list[str] = []
        self._initializers: list[str] = []  # of TensorFlow's own lookup tables
        self._marker = os.path.join(stage, MARKER_NAME)
        self._path_name = f"mxrec_tables_{uuid.uuid4().hex}"  # of the variable, in every process
        self._path: Any = None
        self._freezer = Freezer(placement, tables_dir, _constants, self._asset)

    def write(self, model_dir: str) -> None:
        frozen = self._with_constants(self._with_frozen_tables())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            starts = [graph.get_operation_by_name(name) for name in self._initializers]
            for path in self._session.graph.get_collection(v1.GraphKeys.ASSET_FILEPATHS):
                if path.op.name in {node.name for node in frozen.node}:
                    here = graph.get_tensor_by_name(path.name)
                    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, here)
            if self._freezer.uses_directory:
                with open(self._marker, "w", encoding="utf-8") as file:
                    file.write(self._freezer.marker())
                asset = tf.constant(self._marker, name="mxrec_tables_asset")
                v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
                handle = graph.get_tensor_by_name(f"{self._path_name}:0")
                starts.append(tf.raw_ops.AssignVariableOp(resource=handle, value=asset))
            with v1.Session(graph=graph) as session:
                builder = v1.saved_model.Builder(model_dir)
                builder.add_meta_graph_and_variables(
                    session,
                    [v1.saved_model.tag_constants.SERVING],
                    signature_def_map=self._signatures,
                    assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS) or None,
                    main_op=tf.group(*starts) if starts else None,
                    strip_default_attrs=True,
                )
                builder.save()

    # --- Tables ---------------------------------------------------------------------------------

    def _with_frozen_tables(self) -> Any:
        """The part of the graph between inputs and outputs, in which no op reads a table."""
        source = self._part_of(self._session.graph.as_graph_def(add_shapes=False))
        if any(node.op in _LOOKUP_TABLES for node in source.node):
            initializers = self._session.graph.get_collection(v1.GraphKeys.TABLE_INITIALIZERS)
            self._initializers = [op.name for op in initializers]
            source = self._part_of(self._session.graph.as_graph_def(add_shapes=False))
        names = {node.name for node in source.node}
        with tf.Graph().as_default() as graph:
            replaced = {}
            for number, name in enumerate(sorted(_tensor_names(self._signatures, "inputs"))):
                old = self._session.graph.get_tensor_by_name(name)
                replaced[name] = v1.placeholder(old.dtype, old.shape, f"mxrec_input_{number}")
            used = {n: new for n, new in replaced.items() if n.rsplit(":", 1)[0] in names}
            tf.import_graph_def(source, name="", input_map=used)
            self._rename(replaced)
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
        return sorted({*_ops_of(self._outputs), *self._placeholders, *self._initializers})

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

    def _with_constants(self, graph_def: Any) -> Any:
        frozen = v1.graph_util.convert_variables_to_constants(
            self._session, graph_def, self._needed(), variable_names_blacklist=[self._path_name]
        )
        size = frozen.ByteSize()
        if size > _MAX_GRAPH_BYTES:
            raise ValueError(
                f"The frozen graph has {size} bytes, more than the {_MAX_GRAPH_BYTES} that a graph "
                "may have; export with tables='directory'."
            )
        return frozen


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
