"""Lookups of sparse and ragged ids: bags of ids, whose rows are combined into one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mxrec.tf.ops import library
from mxrec.tf.serving import bags as frozen_bags
from mxrec.tf.serving import scope

COMBINERS = ("sum", "mean", "sqrtn")


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How rows are combined.

    Attributes:
        combiner: "sum", "mean" or "sqrtn"; None: they are not.
        weights: of the same type and structure as the ids; None: all 1.
    """

    combiner: str | None = None
    weights: Any = None


def pop_pooling(kwargs: dict[str, Any]) -> Pooling:
    """Takes ``combiner`` and ``sp_weights`` (or ``weights``) out of a call's keyword arguments.

    Raises:
        ValueError: unknown combiner, weights without one, or weights given twice.
    """
    combiner = kwargs.pop("combiner", None)
    if combiner is not None and combiner not in COMBINERS:
        kind = ValueError if isinstance(combiner, str) else TypeError
        raise kind(f"combiner must be None, 'sum', 'mean' or 'sqrtn', got {combiner!r}.")
    given = [kwargs.pop(name, None) for name in ("sp_weights", "weights")]
    if given[0] is not None and given[1] is not None:
        raise ValueError("sp_weights and weights are the same; pass one of them.")
    weights = given[1] if given[0] is None else given[0]
    if weights is not None and combiner is None:
        raise ValueError(
            "sp_weights need a combiner: without one each id has a row of its own, which they do "
            "not change. Pass combiner='sum', 'mean' or 'sqrtn'."
        )
    return Pooling(combiner, weights)


def as_composite(value: Any) -> tf.SparseTensor | tf.RaggedTensor | None:
    """Returns sparse or ragged tensors, or their values, as tensors; None for anything else."""
    if isinstance(value, tf.compat.v1.SparseTensorValue):
        return tf.SparseTensor.from_value(value)
    if isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
        return tf.RaggedTensor.from_nested_row_splits(value.flat_values, value.nested_row_splits)
    return value if isinstance(value, (tf.SparseTensor, tf.RaggedTensor)) else None


@dataclasses.dataclass(frozen=True)
class Bags:
    """Ids that are not a dense tensor.

    Attributes:
        ids: the ids in a row, a dense tensor.
        shape: static shape of what was given.
        combiner: None: rows are not combined, and what follows is None.
        splits: int64 [bags + 1]: bag b holds the ids [splits[b], splits[b + 1]).
        count: number of bags, where it is known.
        weights: float32, as many as ids; None: all 1.
        finish: gives the rows (of the bags, or of the ids) the structure of what was given.
    """

    ids: Any
    shape: tf.TensorShape
    finish: Callable[[Any], Any]
    combiner: str | None = None
    splits: Any = None
    count: int | None = None
    weights: Any = None

    @property
    def pooling(self) -> dict[str, Any]:
        """The arguments that every pooled op takes, but for weights."""
        return {"splits": self.splits, "combiner": self.combiner}

    @property
    def weight_list(self) -> list[Any]:
        """The argument ``weights`` of a pooled op."""
        return [] if self.weights is None else [self.weights]

    def with_count(self, pooled: Any) -> Any:
        """Tells TensorFlow the number of rows of ``pooled``."""
        if not tf.executing_eagerly():
            pooled.set_shape([self.count, *pooled.shape[1:]])
        return pooled


def bags_of(ids: Any, pooling: Pooling) -> Bags | None:
    """Returns the bags of sparse or ragged ids; None for dense ones.

    Raises:
        ValueError: dense ids with a combiner, ids of too few axes, weights of another structure.
        TypeError: weights of another type.
    """
    composite = as_composite(ids)
    if isinstance(composite, tf.SparseTensor):
        return _of_sparse(composite, pooling)
    if isinstance(composite, tf.RaggedTensor):
        return _of_ragged(composite, pooling)
    if pooling.combiner is not None:
        raise ValueError(
            f"combiner={pooling.combiner!r} needs ids that are a tf.SparseTensor or a "
            f"tf.RaggedTensor, got {type(ids).__name__}; leave it out, or pass "
            "tf.RaggedTensor.from_tensor(ids) to combine the last axis."
        )
    return None


# --- Sparse -------------------------------------------------------------------------------------


def _of_sparse(ids: tf.SparseTensor, pooling: Pooling) -> Bags:
    if pooling.combiner is None:
        return Bags(ids.values, ids.shape, lambda rows: _scattered(ids, rows))
    if ids.shape.rank is not None and ids.shape.rank < 2:
        raise ValueError(
            f"ids must have rank 2 or more to be combined along the last axis, got {ids.shape}."
        )
    same = []  # checked when the op runs
    weights = pooling.weights
    if weights is not None:
        weights = _weights_like(tf.SparseTensor, weights)
        _check_static("shape", ids.shape, weights.shape)
        _check_static("shape of the values", ids.values.shape, weights.values.shape)
        if weights.indices is not ids.indices:
            same = [weights.indices]
        weights = _as_float(weights.values)
    outer = ids.shape[:-1] if ids.shape.rank is not None else tf.TensorShape(None)
    if scope.current() is None:
        splits = library.mxrec_bag_splits(
            indices=ids.indices, dense_shape=ids.dense_shape, weights_indices=same
        )
    else:  # an exported model may have to do without the library
        splits = frozen_bags.splits_of(ids.indices, ids.dense_shape, same)

    def finish(pooled: Any) -> Any:
        if outer.rank == 1:
            return pooled
        shape = tf.concat([ids.dense_shape[:-1], pooled.shape.as_list()[-1:]], axis=0)
        result = tf.reshape(pooled, shape)
        if not tf.executing_eagerly():
            result.set_shape(outer.concatenate(pooled.shape[-1:]))
        return result

    return Bags(
        ids.values,
        ids.shape,
        finish,
        pooling.combiner,
        splits,
        outer.num_elements(),
        weights,
    )


def _scattered(ids: tf.SparseTensor, rows: Any) -> Any:
    shape = tf.concat([ids.dense_shape, rows.shape.as_list()[-1:]], axis=0)
    dense = tf.scatter_nd(ids.indices, rows, shape)
    if not tf.executing_eagerly():
        dense.set_shape(ids.shape.concatenate(rows.shape[-1:]))
    return dense


# --- Ragged -------------------------------------------------------------------------------------


def _of_ragged(ids: tf.RaggedTensor, pooling: Pooling) -> Bags:
    flat = ids.flat_values
    if pooling.combiner is None:
        return Bags(flat, ids.shape, ids.with_flat_values)
    if flat.shape.rank not in (None, 1):
        raise ValueError(
            f"ids has shape {ids.shape}, whose last axis is not ragged; to combine it, pass "
            "tf.RaggedTensor.from_tensor(ids.flat_values) in its place."
        )
    *outer, inner = ids.nested_row_splits
    weights, checks = _ragged_weights(ids, pooling.weights)
    with tf.control_dependencies(checks):
        splits = tf.cast(tf.identity(inner) if checks else inner, tf.int64)

    def finish(pooled: Any) -> Any:
        if not outer:
            return pooled
        return tf.RaggedTensor.from_nested_row_splits(pooled, outer, validate=False)

    (count,) = splits.shape.as_list()
    return Bags(
        flat,
        ids.shape,
        finish,
        pooling.combiner,
        splits,
        None if count is None else count - 1,
        weights,
    )


def _ragged_weights(ids: tf.RaggedTensor, given: Any) -> tuple[Any, list[Any]]:
    """The weights in a row, and ops that fail if their structure is not that of the ids."""
    if given is None:
        return None, []
    weights = _weights_like(tf.RaggedTensor, given)
    if weights.ragged_rank != ids.ragged_rank:
        raise ValueError(
            f"sp_weights has {weights.ragged_rank} ragged axes, ids {ids.ragged_rank}; give them "
            "the same row splits."
        )
    _check_static("shape", ids.shape, weights.shape)
    checks = []
    pairs = zip(ids.nested_row_splits, weights.nested_row_splits, strict=True)
    for of_ids, of_weights in pairs:
        if of_ids is of_weights:
            continue
        _check_static("shape of the row splits", of_ids.shape, of_weights.shape)
        check = tf.debugging.assert_equal(
            tf.cast(of_weights, tf.int64),
            tf.cast(of_ids, tf.int64),
            message="sp_weights has other row splits than ids; give one weight for each id",
        )
        if check is not None:
            checks.append(check)
    return _as_float(weights.flat_values), checks


# --- Weights ------------------------------------------------------------------------------------


def _weights_like(wanted: type[Any], given: Any) -> Any:
    weights = as_composite(given)
    if not isinstance(weights, wanted):
        raise TypeError(
            f"sp_weights must be a tf.{wanted.__name__}, as ids is, or None, got "
            f"{type(given).__name__}."
        )
    return weights


def _as_float(weights: Any) -> Any:
    if not weights.dtype.is_floating:
        raise TypeError(f"sp_weights must be floating point, got dtype {weights.dtype.name}.")
    return tf.cast(weights, tf.float32)


def _check_static(what: str, ids: tf.TensorShape, weights: tf.TensorShape) -> None:
    if not ids.is_compatible_with(weights):
        raise ValueError(
            f"sp_weights must have the {what} of ids, {ids}, got {weights}; give one weight for "
            "each id."
        )
