"""Finds the table that a gradient is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import EagerTensor

from mxrec.tf.graph_state import state_of
from mxrec.tf.table import SparseTable, is_resource, table_of_proxy, table_of_resource_name

_LOOKUPS = ("MxrecLookup", "MxrecLookupUnique", "MxrecPooledLookup")
_SEGMENT_SUMS = ("MxrecSegmentSum", "MxrecPooledSegmentSum")
_KIND_OF_OUTPUT = {1: "keys", 2: "addresses"}


@dataclasses.dataclass(frozen=True)
class Update:
    """Gradients for rows of one table.

    Attributes:
        table: the table.
        by: "addresses" or "keys".
        rows: int64 [m], of that kind.
        grads: float32 [m, dim].
        carried_by_user: the addresses came from the caller, not with the gradient.
    """

    table: SparseTable
    by: str
    rows: Any
    grads: Any
    carried_by_user: bool


def update_for(grad: Any, target: Any) -> Update:
    """Returns what to update with a gradient.

    Args:
        grad: gradient of ``target``, or of the local embeddings that ``target`` goes with.
        target: a sparse variable, or an int64 tensor of addresses or unique keys.

    Raises:
        TypeError: ``target`` is neither.
        ValueError: the table of ``target`` cannot be found.
    """
    if is_resource(target) or isinstance(target, tf.Variable):
        return _update_of_variable(grad, target)
    if not tf.is_tensor(target) or target.dtype != tf.int64:
        raise TypeError(
            "grads_and_vars must pair gradients with sparse variables "
            "(get_dense_and_sparse_variable()[1]) or with int64 tensors of the collections "
            f"ASCEND_SPARSE_LOOKUP_ID_OFFSET or ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS, got {target!r}."
        )
    table, by = _origin(grad, target)
    rows = tf.reshape(target, [-1])
    if isinstance(grad, tf.IndexedSlices):  # of local embeddings that the model gathers from
        rows, grad = tf.gather(rows, grad.indices), grad.values
    return Update(table, by, rows, _rows_of(grad, table), carried_by_user=True)


def _update_of_variable(grad: Any, variable: Any) -> Update:
    table = table_of_proxy(variable)
    if table is None:
        raise TypeError(
            f"grads_and_vars: {variable.name!r} is no sparse variable of the current tables; give "
            "dense variables to a dense optimizer."
        )
    if not isinstance(grad, tf.IndexedSlices):
        raise TypeError(
            f"grads_and_vars: the gradient of the sparse variable of table {table.table_name!r} "
            f"must be tf.IndexedSlices, as tf.gradients returns it, got {type(grad).__name__}."
        )
    addresses = tf.reshape(tf.cast(grad.indices, tf.int64), [-1])
    grads = _rows_of(grad.values, table)
    return Update(table, "addresses", addresses, grads, carried_by_user=False)


def _rows_of(grad: Any, table: SparseTable) -> Any:
    """Gradients [..., dim] as rows; other values of as many bytes would be taken apart wrongly."""
    grad = tf.cast(tf.convert_to_tensor(grad), tf.float32)
    shape = grad.shape
    if shape.rank == 0 or (shape.rank is not None and shape[-1] not in (None, table.dim)):
        raise ValueError(
            f"grads_and_vars: the gradient of table {table.table_name!r} has the shape {shape}; "
            f"its last dimension must be the table's dim, {table.dim}, as that of the looked-up "
            "rows is whose gradient tf.gradients returns."
        )
    return tf.reshape(grad, [-1, table.dim])


# --- Where a tensor comes from --------------------------------------------------------------------


def _origin(grad: Any, target: Any) -> tuple[SparseTable, str]:
    found = _walk_back(target, _lookup_output)
    if len(found) == 1:
        table, by = found[0]
        return table, by
    if len(found) > 1:
        names = ", ".join(f"{by} of {table.table_name!r}" for table, by in found)
        raise ValueError(
            f"grads_and_vars: {target!r} mixes {names}; pass one pair per table and kind."
        )
    # An address by itself does not say when the graph is built which table it is of.
    gradient = grad.values if isinstance(grad, tf.IndexedSlices) else grad
    tables = _walk_back(gradient, _segment_sum_table, nearest=True)
    if len(tables) == 1:
        return tables[0], "addresses"
    raise ValueError(
        f"grads_and_vars: the table of {target!r} cannot be found; pass a tensor of the collection "
        "ASCEND_SPARSE_LOOKUP_ID_OFFSET or ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS (or one derived from "
        "it), or the table's sparse variable, with the gradient of the same lookup."
    )


def _walk_back(start: Any, match: Callable[[Any], Any], *, nearest: bool = False) -> list[Any]:
    """What ``match`` returns on the tensors that ``start`` is computed from; stops at matches.

    With ``nearest`` only those with the fewest ops in between.
    """
    if isinstance(start, EagerTensor):
        return []
    found: list[Any] = []
    level, seen = [start], set()
    while level and not (nearest and found):
        following = []
        for tensor in level:
            if tensor.ref() in seen:
                continue
            seen.add(tensor.ref())
            tensor = _outside_of_function(tensor)
            if isinstance(tensor, EagerTensor):
                continue
            result = match(tensor)
            if result is None:
                following.extend(tensor.op.inputs)
            elif result not in found:
                found.append(result)
        level = following
    return found


def _outside_of_function(tensor: Any) -> Any:
    """The tensor that a function captured, if this is its placeholder inside."""
    while tensor.op.type == "Placeholder" and hasattr(tensor.graph, "captures"):
        outside = [outer for outer, inner in tensor.graph.captures if inner is tensor]
        if not outside:
            return tensor
        tensor = outside[0]
        if isinstance(tensor, EagerTensor):
            return tensor
    return tensor


def _lookup_output(tensor: Any) -> tuple[SparseTable, str] | None:
    if tensor.op.type not in _LOOKUPS:
        return None
    by = _KIND_OF_OUTPUT.get(tensor.value_index)
    table = _table_of_lookup(tensor.op)
    return None if by is None or table is None else (table, by)


def _segment_sum_table(tensor: Any) -> SparseTable | None:
    if tensor.op.type not in _SEGMENT_SUMS:
        return None
    lookup = _outside_of_function(tensor.op.inputs[1])
    if isinstance(lookup, EagerTensor) or lookup.op.type not in _LOOKUPS:
        return None
    return _table_of_lookup(lookup.op)


def _table_of_lookup(op: Any) -> SparseTable | None:
    handle = _outside_of_function(op.inputs[0])
    if isinstance(handle, EagerTensor):
        eager = state_of(None)
        for name, nodes in eager.nodes.items():
            if nodes.handle is handle:
                return eager.tables[name]
        return None
    if handle.op.type != "VarHandleOp":
        return None
    return table_of_resource_name(tf.compat.as_text(handle.op.get_attr("shared_name")))
