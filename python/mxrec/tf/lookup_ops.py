"""The ops of one lookup."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from mxrec.tf import constants, graph_state, timestamps
from mxrec.tf.access import governors, note_governed
from mxrec.tf.initial_values import call_custom
from mxrec.tf.ops import library
from mxrec.tf.pooled import Bags
from mxrec.tf.rewrite.state import note_lookup
from mxrec.tf.serving import scope
from mxrec.tf.table import SparseTable


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A lookup, checked and converted.

    Attributes:
        table: what is looked up.
        keys: int64 or int32, dense.
        ids: as they were given: dense, sparse, ragged, or ``timestamps.Joined``.
        bags: how rows are combined; None: they are not.
        is_train: missing keys are inserted.
        is_grad: the rows have a gradient.
        absent: [dim] that keys without a row read, or [0] for zeros.
        absent_identity: equal for lookups whose ``absent`` is equal.
        unique_size: number of unique keys; 0: dynamic.
        expansion: the table grows without limit.
        coefficient: weight of an occurrence in admission.
        timestamps: of the keys; None: ``is_train`` is False.
        may_move_as: its name, if the graph may be rewritten for it; None: it stays in place.
    """

    table: SparseTable
    keys: Any
    ids: Any
    bags: Bags | None
    is_train: bool
    is_grad: bool
    absent: Any
    absent_identity: Hashable
    unique_size: int
    expansion: bool
    coefficient: int
    timestamps: timestamps.Timestamps | None
    may_move_as: str | None


@dataclasses.dataclass(frozen=True)
class BuiltLookup:
    """A lookup in a graph.

    Attributes:
        lookup: what was built.
        op: the op that looks up.
        outlet: an identity of the rows, behind which everybody uses them.
        after: ops that the lookup was told to wait for.
    """

    lookup: Lookup
    op: Any
    outlet: Any
    after: list[Any]


def build(lookup: Lookup) -> tf.Tensor:
    """Builds the ops of a lookup here, and notes them where ``do_merge_lookup`` may merge them.

    Returns:
        The rows of the bags, or of the keys: float32.
    """
    freezer = scope.current()
    if freezer is not None:
        return freezer.look_up(lookup)
    rows, output = _train(lookup) if lookup.is_train else _read(lookup)
    if lookup.may_move_as is not None:
        note_lookup(lookup.may_move_as, lookup.table.table_name, output, trains=lookup.is_train)
    stops = lookup.is_train and not lookup.is_grad
    if not _in_plain_graph():
        return tf.stop_gradient(rows) if stops else rows
    result = tf.stop_gradient(rows) if stops else tf.identity(rows)
    after = list(rows.graph._control_dependencies_for_inputs(()))
    graph_state.state_of(rows.graph).lookups.append(
        BuiltLookup(lookup, output.op, result.op, after)
    )
    return result


def insert_custom(table: SparseTable, handle: Any, keys: tf.Tensor, coefficient: int) -> list[Any]:
    """Builds the ops that must run before a lookup: rows from the table's own initializer.

    Args:
        table: what is looked up.
        handle: its resource.
        keys: of the lookup. Those that it would insert get a row.
        coefficient: weight of an occurrence in admission.
    """
    values = table.spec.initial_values
    if values.custom is None:
        return []
    missing = library.mxrec_missing(table=handle, ids=keys, coefficient=coefficient)
    rows = call_custom(values, tf.size(missing, tf.int64), table.dim)
    insert = library.mxrec_insert(table=handle, keys=missing, values=rows)
    return [] if insert is None else [insert]


def _read(lookup: Lookup) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows, and an output of the op that looks up."""
    table, bags = lookup.table, lookup.bags
    arguments = {
        "table": table.nodes().handle,
        "ids": lookup.keys,
        "like": tf.zeros([0, table.dim]),
        "absent": lookup.absent,
        "group": table.grouped,
    }
    if bags is None:
        rows = library.mxrec_read(**arguments)
    else:
        rows = bags.with_count(
            library.mxrec_pooled_read(**arguments, **bags.pooling, weights=bags.weight_list)
        )
    return rows, rows


def _train(lookup: Lookup) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows, and an output of the op that looks up."""
    table, bags, times = lookup.table, lookup.bags, lookup.timestamps
    assert times is not None
    nodes = table.nodes()
    graph_state.state_here().trained.add(table.table_name)
    if lookup.is_grad:
        resource_variable_ops.variable_accessed(nodes.proxy)  # tapes watch it
    rules = governors(table, nodes.handle)
    with tf.control_dependencies(rules):
        custom = insert_custom(table, nodes.handle, lookup.keys, lookup.coefficient)
    with tf.control_dependencies(rules + custom), _beside(nodes.handle):
        arguments = {
            "table": nodes.handle,
            "proxy": nodes.proxy_handle(),
            "ids": lookup.keys,
            "like": tf.zeros([0, table.dim]),
            "unique_size": lookup.unique_size,
            "group": table.grouped,
            "absent": lookup.absent,
            "timestamps": times.tensor,
            "coefficient": lookup.coefficient,
            "makes_rows": int(table.spec.initial_values.custom is None),
        }
        collects = lookup.is_grad and lookup.expansion and _collects()
        # The gradient of weights needs the rows.
        if not collects and (bags is None or bags.weights is None):
            values, unique_keys, addresses, _ = (
                library.mxrec_lookup(**arguments)
                if bags is None
                else library.mxrec_pooled_lookup(**arguments, **bags.pooling)
            )
            _set_unique_size(lookup.unique_size, unique_keys, addresses)
            timestamps.note_lookup(values, times, lookup.ids)
            note_governed(table, nodes.handle, values)
            return (values if bags is None else bags.with_count(values)), values
        unique = library.mxrec_lookup_unique(**arguments)
        timestamps.note_lookup(unique.rows, times, lookup.ids)
        note_governed(table, nodes.handle, unique.rows)
    _set_unique_size(lookup.unique_size, unique.rows, unique.unique_keys, unique.addresses)
    if collects:
        collect = tf.compat.v1.add_to_collection
        collect(constants.ASCEND_SPARSE_LOOKUP_LOCAL_EMB, unique.rows)
        collect(constants.ASCEND_SPARSE_LOOKUP_ID_OFFSET, unique.addresses)
        collect(constants.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS, unique.unique_keys)
    arguments = {"rows": unique.rows, "inverse": unique.inverse, "group": table.grouped}
    if bags is None:
        return library.mxrec_restore(**arguments), unique.rows
    pooled = library.mxrec_pooled_restore(**arguments, **bags.pooling, weights=bags.weight_list)
    return bags.with_count(pooled), unique.rows


def _beside(handle: Any) -> Any:
    """Where a table is, whatever device functions around say.

    TensorFlow runs the lookup there in any case. It places gradients by what the lookup says.
    """
    if tf.executing_eagerly() or not handle.device:
        return contextlib.nullcontext()
    return tf.device(handle.device)


def _set_unique_size(unique_size: int, *tensors: Any) -> None:
    # The op's shape function cannot read the attribute.
    if unique_size:
        for tensor in tensors:
            tensor.set_shape([unique_size, *tensor.shape[1:]])


def _in_plain_graph() -> bool:
    """Whether this is neither eager, nor in a function, nor in a branch of tf.cond."""
    if tf.executing_eagerly():
        return False
    return not hasattr(tf.compat.v1.get_default_graph(), "outer_graph") and _collects()


def _collects() -> bool:
    """Whether the tensors of a lookup here can be used for tf.gradients by the caller."""
    if tf.executing_eagerly():
        return False
    # Inside tf.cond they belong to one branch, and a step that takes the other has none.
    graph = tf.compat.v1.get_default_graph()
    return graph._get_control_flow_context() is None
