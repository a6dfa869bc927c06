"""Collective operations between ranks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.communication import get_device_id, get_rank_id, get_rank_size
from mxrec.tf.validation import check_choice

__all__ = ["allreduce", "get_device_id", "get_rank_id", "get_rank_size"]

_REDUCTIONS = ("sum", "prod", "max", "min")


def allreduce(tensor: Any, reduction: str = "sum", **_: Any) -> tf.Tensor:
    """Reduces a tensor over all ranks; on one rank it is the tensor itself.

    Args:
        tensor: the tensor of this rank.
        reduction: one of "sum", "prod", "max", "min".

    Returns:
        A tensor like ``tensor``.

    Raises:
        ValueError: unknown reduction.
    """
    check_choice("reduction", reduction, _REDUCTIONS)
    return tf.identity(tensor)
