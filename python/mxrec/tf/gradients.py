"""Gradients of the ops.

The gradient of a lookup goes to its proxy variable, as IndexedSlices whose indices are row
addresses. The proxy has no rows: only the optimizers of this package can use such a gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mxrec.tf.ops import library

Gradients = list[Any]


def _slices(values: Any, addresses: Any, like: Any) -> tf.IndexedSlices:
    # Without dense_shape the gradient of tf.cond fails. A constant: reading the proxy's shape at
    # run time would need an initialized variable. int32, as TensorFlow makes it for the branch
    # that has no gradient.
    dense_shape = tf.constant([0, like.shape.as_list()[-1]], tf.int32)
    return tf.IndexedSlices(values, addresses, dense_shape)


def _lookup_gradient(op: Any, values: Any, *_: Any) -> Gradients:
    _, unique_keys, addresses, inverse = op.outputs
    sums = library.mxrec_segment_sum(
        values=values, inverse=inverse, unique=unique_keys, group=op.get_attr("group")
    )
    return [None, _slices(sums, addresses, op.inputs[3]), None, None, None, None]


def _lookup_unique_gradient(op: Any, rows: Any, *_: Any) -> Gradients:
    slices = _slices(tf.convert_to_tensor(rows), op.outputs[2], op.inputs[3])
    return [None, slices, None, None, None, None]


def _restore_gradient(op: Any, values: Any) -> Gradients:
    rows, inverse = op.inputs
    # Only the size of `unique` matters.
    unique = tf.zeros(tf.shape(rows)[:1], tf.int64)
    sums = library.mxrec_segment_sum(
        values=values, inverse=inverse, unique=unique, group=op.get_attr("group")
    )
    return [sums, None]


def _segment_sum_gradient(op: Any, sums: Any) -> Gradients:
    group = op.get_attr("group")
    return [library.mxrec_restore(rows=sums, inverse=op.inputs[1], group=group), None, None]


def _pooled_lookup_gradient(op: Any, pooled: Any, *_: Any) -> Gradients:
    _, unique_keys, addresses, inverse = op.outputs
    splits = op.inputs[6]
    sums = library.mxrec_pooled_segment_sum(
        grads=pooled,
        inverse=inverse,
        unique=unique_keys,
        splits=splits,
        weights=[],
        combiner=op.get_attr("combiner"),
        group=op.get_attr("group"),
    )
    return [None, _slices(sums, addresses, op.inputs[3]), None, None, None, None, None]


def _pooled_restore_gradient(op: Any, pooled: Any) -> Gradients:
    rows, inverse, splits, *weights = op.inputs
    pooling = _pooling(op, splits, weights)
    # Only the size of `unique` matters.
    unique = tf.zeros(tf.shape(rows)[:1], tf.int64)
    sums = library.mxrec_pooled_segment_sum(grads=pooled, inverse=inverse, unique=unique, **pooling)
    return [sums, None, None, *_weight_gradients(pooled, rows, inverse, pooling)]


def _pooled_segment_sum_gradient(op: Any, sums: Any) -> Gradients:
    # It is linear in grads, and its product with `sums` is that of pooled `sums` with grads.
    grads, inverse, _, splits, *weights = op.inputs
    pooling = _pooling(op, splits, weights)
    pooled = library.mxrec_pooled_restore(rows=sums, inverse=inverse, **pooling)
    return [pooled, None, None, None, *_weight_gradients(grads, sums, inverse, pooling)]


def _pooling(op: Any, splits: Any, weights: list[Any]) -> dict[str, Any]:
    attributes = {name: op.get_attr(name) for name in ("combiner", "group")}
    return {"splits": splits, "weights": weights, **attributes}


def _weight_gradients(grads: Any, rows: Any, inverse: Any, pooling: dict[str, Any]) -> Gradients:
    if not pooling["weights"]:
        return []
    return [
        library.mxrec_pooled_weight_gradients(grads=grads, rows=rows, inverse=inverse, **pooling)
    ]


for _name, _gradient in (
    ("MxrecLookup", _lookup_gradient),
    ("MxrecLookupUnique", _lookup_unique_gradient),
    ("MxrecRestore", _restore_gradient),
    ("MxrecSegmentSum", _segment_sum_gradient),
    ("MxrecPooledLookup", _pooled_lookup_gradient),
    ("MxrecPooledRestore", _pooled_restore_gradient),
    ("MxrecPooledSegmentSum", _pooled_segment_sum_gradient),
):
    tf.RegisterGradient(_name)(_gradient)
for _name in (
    "MxrecRead",
    "MxrecPooledRead",
    "MxrecServedRead",
    "MxrecBagSplits",
    "MxrecMissing",
    "MxrecPrepare",
    "MxrecInsert",
    "MxrecSetThreshold",
    "MxrecEvict",
    "MxrecApplyAddresses",
    "MxrecApplyKeys",
    "MxrecGroupedApplyAddresses",
    "MxrecGroupedRead",
    "MxrecSize",
    "MxrecCapacity",
):
    tf.no_gradient(_name)


_FILTERED = "_mxrec_leaves_out_proxies"
_PROXY_MARK = "_mxrec_proxy"


def mark_proxy(variable: Any) -> None:
    """Notes that a variable is the proxy of a table."""
    setattr(variable, _PROXY_MARK, True)


def is_proxy(variable: Any) -> bool:
    """Returns whether a variable is the proxy of a table."""
    return hasattr(variable, _PROXY_MARK)


def install() -> None:
    """Keeps proxies out of ``tf.GradientTape.watched_variables``. Idempotent.

    Optimizers that are given a callable loss and no variables update what the tape has watched.
    """
    if not getattr(tf.GradientTape.watched_variables, _FILTERED, False):
        tf.GradientTape.watched_variables = _without_proxies(tf.GradientTape.watched_variables)


def _without_proxies(watched_variables: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(watched_variables)
    def dense_watched_variables(self: Any) -> Any:
        watched = watched_variables(self)
        return tuple(variable for variable in watched if not is_proxy(variable))

    setattr(dense_watched_variables, _FILTERED, True)
    return dense_watched_variables


install()
