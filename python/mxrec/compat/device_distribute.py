"""``npu_device.distribute``: several accelerators; there is one process."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = [
    "all_reduce",
    "broadcast",
    "npu_distributed_keras_optimizer_wrapper",
    "shard_and_rebatch_dataset",
]


def all_reduce(values: Any, reduction: str = "mean", **_: Any) -> Any:
    """Reduces a tensor or a structure of them over all processes: they stay as they are."""
    del reduction
    return tf.nest.map_structure(tf.identity, values)


def broadcast(values: Any, root_rank: int = 0, **_: Any) -> None:
    """Gives all processes the variables of one: they stay as they are."""
    del values, root_rank


def shard_and_rebatch_dataset(dataset: Any, global_bs: int) -> tuple[Any, int]:
    """Returns this process's part of a dataset, all of it, and its batch size.

    Args:
        dataset: a ``tf.data.Dataset``.
        global_bs: batch size over all processes.
    """
    return dataset, global_bs


def npu_distributed_keras_optimizer_wrapper(optimizer: Any) -> Any:
    """Returns a Keras optimizer as it is."""
    return optimizer
