"""What ids become before a table sees them."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.tf.log import warn_once


def as_dense(ids: Any) -> tf.Tensor:
    """Returns dense ids, or what makes some, as a tensor. No ids at all are int64."""
    try:
        if isinstance(ids, (list, tuple, np.ndarray)) and np.size(ids) == 0:
            ids = np.asarray(ids, np.int64)
        return tf.convert_to_tensor(ids)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "ids must be an integer tensor, a FeatureSpec, or what makes a tensor, got "
            f"{reprlib.repr(ids)} ({type(ids).__name__}): {error} Lists of several lengths are "
            "tf.ragged.constant(ids, dtype=tf.int64)."
        ) from error


def keys_of(tensor: tf.Tensor, source: str = "ids") -> tf.Tensor:
    """Returns ids as the keys that the ops take: int64 or int32.

    Args:
        tensor: dense, of an integer or floating type; floats are truncated, with a warning.
        source: what the ids are, for messages.

    Raises:
        TypeError: another type.
    """
    if tensor.dtype in (tf.int64, tf.int32):
        return tensor
    if tensor.dtype.is_floating:
        warn_once(
            "float ids",
            "sparse_lookup: ids of dtype %s are truncated to int64; above 2^24 float32 is not "
            "exact, so that different ids may become one.",
            tensor.dtype.name,
        )
    elif not tensor.dtype.is_integer or tensor.dtype.is_quantized:
        raise TypeError(
            f"{source} must be an integer tensor or a FeatureSpec, got dtype {tensor.dtype.name}."
        )
    return tf.cast(tensor, tf.int64)
