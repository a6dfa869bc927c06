"""Pooling in plain TensorFlow, bit for bit as the engine does it.

The engine adds the rows of a bag in the order of its ids, in float32, and divides by a divisor that
is summed in float64. ``tf.math.unsorted_segment_sum`` adds in that order too; the other segment
sums of TensorFlow do not.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def pool(rows: Any, splits: Any, weights: Any, combiner: str) -> Any:
    """Combines the rows of each bag.

    Args:
        rows: float32 [n, dim].
        splits: int64 [bags + 1].
        weights: float32 [n]; None: all 1.
        combiner: "sum", "mean" or "sqrtn".

    Returns:
        float32 [bags, dim]; zeros for a bag without ids, or whose divisor is 0.
    """
    count = tf.size(splits, tf.int64) - 1
    bag = tf.repeat(tf.range(count), splits[1:] - splits[:-1])
    terms = rows if weights is None else rows * weights[:, tf.newaxis]
    sums = tf.math.unsorted_segment_sum(terms, bag, count)
    if combiner == "sum":
        return sums
    if weights is None:
        squares = parts = tf.ones_like(bag, tf.float64)
    else:
        parts = tf.cast(weights, tf.float64)
        squares = parts * parts
    if combiner == "mean":
        divisor = tf.math.unsorted_segment_sum(parts, bag, count)
    else:
        divisor = tf.sqrt(tf.math.unsorted_segment_sum(squares, bag, count))
    return tf.math.divide_no_nan(sums, tf.cast(divisor, tf.float32)[:, tf.newaxis])


def splits_of(indices: Any, dense_shape: Any, weights_indices: Any = ()) -> Any:
    """Returns where the bags of a sparse tensor begin, one for each of its outer places.

    Args:
        indices: int64 [n, rank], ordered by bag.
        dense_shape: int64 [rank].
        weights_indices: those of the weights, to be compared; empty: there are none.
    """
    outer = dense_shape[:-1]
    strides = tf.math.cumprod(outer, exclusive=True, reverse=True)
    bag = tf.reduce_sum(indices[:, :-1] * strides, axis=1)
    checks = [
        tf.debugging.assert_non_negative(
            bag[1:] - bag[:-1],
            message="ids: the indices are not in row-major order; call tf.sparse.reorder",
        )
    ]
    checks += [
        tf.debugging.assert_equal(
            other,
            indices,
            message="sp_weights has other indices than ids; give one weight for each id",
        )
        for other in weights_indices
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        bounds = tf.range(tf.reduce_prod(outer) + 1)
        return tf.searchsorted(tf.identity(bag), bounds, out_type=tf.int64)
