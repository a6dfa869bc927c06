"""``npu_bridge.hccl.hccl_ops``: collective operations, on one rank."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.compat.absent import absent
from mxrec.tf.hccl_ops import allreduce
from mxrec.tf.validation import check_choice, check_int

__all__ = [
    "all_to_all_v",
    "allgather",
    "allreduce",
    "broadcast",
    "receive",
    "reduce",
    "reduce_scatter",
    "remote_read",
    "remote_write",
    "send",
]

_PLACE = "npu_bridge.hccl.hccl_ops"
_ALONE = "There is one rank, and nobody to exchange with; leave the call out."
_REDUCTIONS = ("sum", "prod", "max", "min")


def allgather(tensor: Any, rank_size: int = 1, **_: Any) -> tf.Tensor:
    """Concatenates the tensors of all ranks: the tensor itself.

    Args:
        tensor: of this rank.
        rank_size: number of ranks: 1.

    Raises:
        ValueError: ``rank_size`` is another number.
    """
    check_int("rank_size", rank_size, 1, 1)
    return tf.identity(tensor)


def broadcast(tensor: Any, root_rank: int, **_: Any) -> list[tf.Tensor]:
    """Returns the tensors of a list as the root rank has them: as they are.

    Args:
        tensor: list of tensors.
        root_rank: 0.

    Raises:
        ValueError: ``root_rank`` is another number.
    """
    check_int("root_rank", root_rank, 0, 0)
    return [tf.identity(each) for each in tensor]


def reduce(tensor: Any, reduction: str, root_rank: int, **_: Any) -> tf.Tensor:
    """Reduces a tensor over all ranks, to one of them: the tensor itself.

    Args:
        tensor: of this rank.
        reduction: one of "sum", "prod", "max", "min".
        root_rank: 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_choice("reduction", reduction, _REDUCTIONS)
    check_int("root_rank", root_rank, 0, 0)
    return tf.identity(tensor)


def reduce_scatter(tensor: Any, reduction: str, rank_size: int = 1, **_: Any) -> tf.Tensor:
    """Reduces a tensor over all ranks, a part of it to each: the tensor itself.

    Args:
        tensor: of this rank.
        reduction: one of "sum", "prod", "max", "min".
        rank_size: number of ranks: 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_choice("reduction", reduction, _REDUCTIONS)
    check_int("rank_size", rank_size, 1, 1)
    return tf.identity(tensor)


all_to_all_v = absent(_PLACE, "all_to_all_v", _ALONE)
send = absent(_PLACE, "send", _ALONE)
receive = absent(_PLACE, "receive", _ALONE)
remote_read = absent(_PLACE, "remote_read", _ALONE)
remote_write = absent(_PLACE, "remote_write", _ALONE)
