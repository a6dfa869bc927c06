"""sparse_lookup."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import execute, record
from tensorflow.python.ops import resource_variable_ops
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.ops.control_flow_v2_func_graphs import WhileBodyFuncGraph, WhileCondFuncGraph

from mxrec.tf import graph_state, timestamps
from mxrec.tf.access import (
    AccessConfig,
    check_access_and_evict_config,
    configure,
    governors,
)
from mxrec.tf.communication import get_rank_size
from mxrec.tf.config import ConfigInitializer
from mxrec.tf.feature_spec import FeatureSpec
from mxrec.tf.keys import as_dense, keys_of
from mxrec.tf.log import warn_once
from mxrec.tf.lookup_ops import Lookup, build, insert_custom
from mxrec.tf.ops import library
from mxrec.tf.pooled import Pooling, as_composite, bags_of, pop_pooling
from mxrec.tf.table import SparseTable
from mxrec.tf.validation import INT32_MAX, check_bool, check_int, unknown


def sparse_lookup(
    hashtable: SparseTable,
    ids: Any,
    send_count: int | None = None,
    is_train: bool = True,
    name: str | None = None,
    modify_graph: bool = False,
    batch: Any = None,
    access_and_evict_config: dict[str, Any] | None = None,
    is_grad: bool = True,
    serving_default_value: Any = None,
    **kwargs: Any,
) -> Any:
    """Looks up embeddings.

    Args:
        hashtable: what ``create_table`` returned.
        ids: integer tensor of any shape, tf.SparseTensor or tf.RaggedTensor, or a FeatureSpec whose
            tensor is taken from ``batch``. Float ids are truncated to int64. A FeatureSpec's
            ``table_name``, ``batch_size`` and ``feat_count``, where given, must fit the table and
            the tensor.
        send_count: with ``use_dynamic=False``, the number of unique ids of a training lookup, per
            rank. Without it the unique size stays dynamic, with a warning.
        is_train: missing keys are inserted, and the lookup has a gradient. False: the table does
            not change.
        name: of the lookup; made unique.
        modify_graph: graph rewriting may move the ids' ops into the input pipeline; without one
            the lookup stays as it is.
        batch: element of the dataset, for a FeatureSpec.
        access_and_evict_config: dict with ``access_threshold``, ``eviction_threshold``,
            ``faae_coefficient``, as in ``FeatureSpec``, whose own are used where there is none.
            Lookups of one table may differ in what they say, but not in a threshold.
        is_grad: False: no gradient comes from this lookup.
        serving_default_value: what a key without a row reads, in training too (a key that is not
            admitted); a number or [dim]; default zeros.
        **kwargs: for sparse and ragged ids ``combiner`` ("sum", "mean", "sqrtn" or None) and
            ``sp_weights`` (or ``weights``): floats of the type and structure of ``ids``, default
            all 1; with ``is_train`` and ``is_grad`` they have a gradient. Others are ignored, with
            a warning.

    Returns:
        float32 tensor of shape ``ids.shape + [dim]``. With a combiner the last axis of ``ids`` is
        gone: its rows are summed, times the weights, and divided as in
        ``tf.nn.embedding_lookup_sparse``; a bag without ids is zeros. Without one, ragged ids give
        a RaggedTensor, and sparse ids a dense tensor with zeros where there is no id.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range, or the lookup is inside ``tf.while_loop``.
    """
    ConfigInitializer.get_instance()
    access = check_access_and_evict_config(access_and_evict_config)
    if access is None:
        access = ids.access if isinstance(ids, FeatureSpec) else AccessConfig()
    pooling = pop_pooling(kwargs)
    if kwargs:
        names = _unknown(tuple(kwargs))
        warn_once(
            ("sparse_lookup", names), "sparse_lookup: unknown arguments are ignored: %s", names
        )
    return look_up(
        hashtable,
        ids,
        send_count=send_count,
        is_train=is_train,
        name=name,
        modify_graph=modify_graph,
        batch=batch,
        access=access,
        is_grad=is_grad,
        serving_default_value=serving_default_value,
        pooling=pooling,
    )


def look_up(
    hashtable: SparseTable,
    ids: Any,
    *,
    send_count: int | None = None,
    is_train: bool = True,
    name: str | None = None,
    modify_graph: bool = False,
    batch: Any = None,
    access: AccessConfig,
    is_grad: bool = True,
    serving_default_value: Any = None,
    pooling: Pooling,
    whole_steps: bool = False,
) -> Any:
    """Does what ``sparse_lookup`` does, with checked arguments.

    Args:
        hashtable: as there.
        ids: as there.
        send_count: as there.
        is_train: as there.
        name: as there.
        modify_graph: as there.
        batch: as there.
        access: thresholds.
        is_grad: as there.
        serving_default_value: as there.
        pooling: combiner and weights.
        whole_steps: a ``tf.while_loop`` around has the step's gradients and updates inside as well.

    Returns:
        As there.

    Raises:
        TypeError: as there.
        ValueError: as there, or the lookup is compiled by XLA.
    """
    config = ConfigInitializer.get_instance()
    _check_lookup([hashtable], is_train, is_grad, send_count)
    check_bool("modify_graph", modify_graph)
    scope = _scope_name(name, hashtable)
    _refuse_xla(scope)
    if not whole_steps:
        _refuse_while_loop(scope)
    with tf.compat.v1.name_scope(scope) as full_scope:
        ids = _tensor_of(hashtable, ids, batch)
        bags = bags_of(ids, pooling)
        keys = _keys(hashtable, ids if bags is None else bags.ids)
        absent = _absent_row(serving_default_value, hashtable.dim)
        configure(hashtable, access, full_scope.rstrip("/"))
        times = timestamps.of_keys(hashtable, batch, ids) if is_train else None
        unique_size = 0
        if is_train and not config.use_dynamic:
            unique_size = _static_unique_size(send_count)
        rows = build(
            Lookup(
                table=hashtable,
                keys=keys,
                ids=ids,
                bags=None if bags is None or bags.combiner is None else bags,
                is_train=is_train,
                is_grad=is_grad,
                absent=absent,
                absent_identity=_identity_of_absent(serving_default_value, absent, hashtable.dim),
                unique_size=unique_size,
                expansion=config.use_dynamic_expansion,
                coefficient=access.faae_coefficient,
                timestamps=times,
                may_move_as=full_scope.rstrip("/") if modify_graph else None,
            )
        )
        return rows if bags is None else bags.finish(rows)


def grouped_lookup(
    tables: Sequence[SparseTable],
    ids: Sequence[Any],
    send_count: int | None = None,
    is_train: bool = True,
    name: str | None = None,
    is_grad: bool = True,
    serving_default_value: Any = None,
) -> list[tf.Tensor]:
    """Looks up embeddings of several tables; in eager mode by one op.

    In graphs and in ``tf.function`` it is a ``sparse_lookup`` for each table: there lookups are
    grouped when the graph runs (``mxrec.tf.grouping``). Results and gradients are those of the
    single lookups either way. A table may be given more than once.

    Args:
        tables: what ``create_table`` returned, [n].
        ids: n integer tensors of any shapes. With sparse or ragged ones among them, each table is
            looked up by itself.
        send_count: as in ``sparse_lookup``, for each table.
        is_train: missing keys are inserted, and the lookups have gradients.
        name: scope of the lookups.
        is_grad: False: no gradients come from these lookups.
        serving_default_value: what absent keys read with ``is_train=False``.

    Returns:
        n float32 tensors of shapes ``ids[i].shape + [tables[i].dim]``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the lengths differ, or an argument is out of its range.
        tf.errors.OpError: a lookup failed; its table is as it was, other tables may have changed.
    """
    tables, ids = list(tables), list(ids)
    if len(tables) != len(ids):
        raise ValueError(
            f"ids must hold one tensor for each of the {len(tables)} tables, got {len(ids)}."
        )
    with tf.compat.v1.name_scope(name or "grouped_lookup"):
        alone = len(tables) < 2 or any(as_composite(each) is not None for each in ids)
        if alone or not tf.executing_eagerly():
            return [
                sparse_lookup(
                    table,
                    each,
                    send_count=send_count,
                    is_train=is_train,
                    is_grad=is_grad,
                    serving_default_value=serving_default_value,
                )
                for table, each in zip(tables, ids, strict=True)
            ]
        config = ConfigInitializer.get_instance()
        _check_lookup(tables, is_train, is_grad, send_count)
        keys = [
            _keys(table, _tensor_of(table, each, None))
            for table, each in zip(tables, ids, strict=True)
        ]
        if not is_train:
            absents = [_absent_row(serving_default_value, table.dim) for table in tables]
            return _read_together(tables, keys, absents)
        unique_size = 0 if config.use_dynamic else _static_unique_size(send_count)
        absents = [_absent_row(serving_default_value, table.dim) for table in tables]
        return _train_together(tables, keys, unique_size, is_grad, absents)


@functools.cache
def _unknown(names: tuple[str, ...]) -> str:
    known = list(inspect.signature(sparse_lookup).parameters)[:-1]
    return unknown(names, [*known, "combiner", "sp_weights", "weights"])


# --- Arguments ----------------------------------------------------------------------------------


def _check_lookup(tables: list[Any], is_train: Any, is_grad: Any, send_count: Any) -> None:
    for table in tables:
        if not isinstance(table, SparseTable):
            raise TypeError(
                f"hashtable must be what create_table returned, got {table!r} "
                f"({type(table).__name__})."
            )
    check_bool("is_train", is_train)
    check_bool("is_grad", is_grad)
    if send_count is not None:
        check_int("send_count", send_count, 1, INT32_MAX)


def _scope_name(name: Any, table: SparseTable) -> str:
    if name is None:
        return f"lookup_{table.table_name}"
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {name!r} ({type(name).__name__}).")
    text = re.sub(r"[^A-Za-z0-9_.\-/]", "_", name).strip("/")
    return text if re.match(r"[A-Za-z0-9.]", text) else f"lookup_{text}"


def _static_unique_size(send_count: int | None) -> int:
    if send_count is None:
        warn_once(
            "send_count",
            "sparse_lookup: use_dynamic=False, but send_count is not given; the number of unique "
            "ids of a training lookup stays dynamic until it is.",
        )
        return 0
    return send_count * get_rank_size()


def _refuse_while_loop(scope: str) -> None:
    if tf.executing_eagerly():
        return
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsWhileContext():
                raise ValueError(_WHILE.format(scope))
            context = context.outer_context
        if isinstance(graph, (WhileBodyFuncGraph, WhileCondFuncGraph)):
            raise ValueError(_WHILE.format(scope))
        graph = getattr(graph, "outer_graph", None)


def _refuse_xla(scope: str) -> None:
    if tf.executing_eagerly():
        return
    if GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise ValueError(
            f"sparse_lookup {scope!r} is compiled by XLA, which has no tables: leave out "
            "jit_compile=True of tf.function, and of model.compile (or pass jit_compile=False). "
            "Parts of the model that look nothing up may still be compiled, each in a tf.function "
            "of its own."
        )


_WHILE = (
    "sparse_lookup {!r} is inside tf.while_loop, where it cannot be differentiated; look the ids "
    "up before the loop and index the result."
)


def _tensor_of(table: SparseTable, ids: Any, batch: Any) -> Any:
    """The ids themselves: a FeatureSpec's tensor, checked against the spec."""
    if isinstance(ids, FeatureSpec):
        if batch is None:
            raise ValueError(
                f"batch must be given to look up FeatureSpec {ids.name!r}: the dataset's element "
                "that holds its ids."
            )
        spec, ids = ids, ids.tensor_of(batch)
        spec.check_table(table.table_name)
        if spec.is_timestamp:
            raise ValueError(
                f"ids: FeatureSpec {spec.name!r} has is_timestamp=True; it holds times, not ids."
            )
        composite = as_composite(ids)
        ids = tf.convert_to_tensor(ids) if composite is None else composite
        spec.check_shape(ids)
    composite = as_composite(ids)
    return ids if composite is None else composite


def _keys(table: SparseTable, ids: Any) -> tf.Tensor:
    tensor = as_dense(ids)
    if tensor.dtype == tf.int64 and table.key_dtype == tf.int32:
        warn_once(
            ("key_dtype", table.table_name),
            "sparse_lookup: ids of dtype int64 are looked up in table %r of key_dtype=tf.int32; "
            "they are taken as they are. Create it with key_dtype=tf.int64, or cast the ids.",
            table.table_name,
        )
    return keys_of(tensor)


def _absent_row(value: Any, dim: int) -> Any:
    """[dim] floats that absent keys read; of size 0: zeros."""
    if value is None:
        return tf.zeros([0])
    try:
        row = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"serving_default_value must be a number or have shape [{dim}], got {value!r}."
        ) from error
    if not (row.dtype.is_floating or row.dtype.is_integer):
        raise TypeError(f"serving_default_value must be numeric, got dtype {row.dtype.name}.")
    row = tf.cast(row, tf.float32)
    if row.shape.rank not in (None, 0) and not row.shape.is_compatible_with([dim]):
        raise ValueError(
            f"serving_default_value must be a number or have shape [{dim}], got {row.shape}."
        )
    return tf.broadcast_to(row, [dim])


def _identity_of_absent(value: Any, absent: Any, dim: int) -> Hashable:
    """What is equal for two lookups in which absent keys read the same."""
    if value is None:
        return None
    identity: Hashable
    if isinstance(value, (tf.Tensor, tf.Variable)):
        identity = value.ref()
    elif any(tf.is_tensor(part) for part in tf.nest.flatten(value)):
        identity = absent.ref()
    else:
        identity = np.broadcast_to(np.asarray(value, np.float32), [dim]).tobytes()
    return identity


# --- Several tables -----------------------------------------------------------------------------


def _read_together(
    tables: list[SparseTable], keys: list[tf.Tensor], absents: list[Any]
) -> list[tf.Tensor]:
    values: list[tf.Tensor] = library.mxrec_grouped_read(
        tables=[table.nodes().handle for table in tables],
        ids=keys,
        likes=[tf.zeros([0, table.dim]) for table in tables],
        absents=absents,
    )
    return values


def _train_together(
    tables: list[SparseTable],
    keys: list[tf.Tensor],
    unique_size: int,
    is_grad: bool,
    absents: list[Any],
) -> list[tf.Tensor]:
    """Eager only: the custom rows of new keys are in before the lookup."""
    nodes = [table.nodes() for table in tables]
    for table, here, ids in zip(tables, nodes, keys, strict=True):
        governors(table, here.handle)
        insert_custom(table, here.handle, ids, 1)
        graph_state.state_here().trained.add(table.table_name)
    likes = [tf.zeros([0, table.dim]) for table in tables]
    times = [
        timestamps.of_keys(table, None, ids).tensor for table, ids in zip(tables, keys, strict=True)
    ]
    with record.stop_recording():
        outputs = library.mxrec_grouped_lookup(
            tables=[here.handle for here in nodes],
            proxies=[here.proxy.handle for here in nodes],
            ids=keys,
            likes=likes,
            absents=absents,
            timestamps=times,
            unique_size=[unique_size] * len(tables),
            coefficient=[1] * len(tables),
            makes_rows=[int(table.spec.initial_values.custom is None) for table in tables],
        )
    if is_grad:
        # Tapes learn of single lookups: a table whose output is not used has no gradient.
        for i, here in enumerate(nodes):
            attributes = ("unique_size", unique_size, "group", tables[i].grouped)
            resource_variable_ops.variable_accessed(here.proxy)
            inputs = [here.handle, here.proxy.handle, keys[i], likes[i], absents[i], times[i]]
            execute.record_gradient(
                "MxrecLookup", inputs, attributes, [output[i] for output in outputs]
            )
    return list(outputs.values)
