"""``npu_bridge.estimator.npu.npu_optimizer``: wrappers that average gradients over ranks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.compat.loss_scale import NPULossScaleOptimizer
from mxrec.compat.wrapper import WrappedOptimizer
from mxrec.tf.validation import check_bool

__all__ = [
    "KerasDistributeOptimizer",
    "NPUDistributedOptimizer",
    "NPUOptimizer",
    "npu_allreduce",
    "npu_distributed_optimizer_wrapper",
    "npu_keras_optimizer",
    "npu_tf_optimizer",
]


class NPUDistributedOptimizer(WrappedOptimizer):
    """Averages gradients over all ranks, of which there is one.

    Args:
        optimizer: a ``tf.compat.v1.train.Optimizer``.
        is_weight_update_sharding: accepted.
        name: of the optimizer.
    """

    def __init__(
        self, optimizer: Any, is_weight_update_sharding: bool = False, name: str | None = None
    ) -> None:
        check_bool("is_weight_update_sharding", is_weight_update_sharding)
        super().__init__(optimizer, name or f"Distributed{type(optimizer).__name__}")


def NPUOptimizer(
    opt: Any,
    loss_scale_manager: Any = None,
    is_distributed: bool = False,
    is_loss_scale: bool = False,
    is_tailing_optimization: bool = False,
    name: str | None = None,
) -> Any:
    """Returns an optimizer that averages gradients and scales losses, where these are asked for.

    Args:
        opt: a ``tf.compat.v1.train.Optimizer``.
        loss_scale_manager: of ``npu_loss_scale_manager``; needed with ``is_loss_scale``.
        is_distributed: gradients are averaged over all ranks, of which there is one.
        is_loss_scale: the loss is scaled; steps whose gradients are not finite are left out.
        is_tailing_optimization: accepted.
        name: of the optimizer.

    Raises:
        ValueError: ``is_loss_scale`` without ``loss_scale_manager``.
    """
    check_bool("is_tailing_optimization", is_tailing_optimization)
    wrapped = NPUDistributedOptimizer(opt, name=name) if is_distributed else opt
    if not is_loss_scale:
        return wrapped
    if loss_scale_manager is None:
        raise ValueError(
            "NPUOptimizer(is_loss_scale=True) needs loss_scale_manager: a FixedLossScaleManager or "
            "an ExponentialUpdateLossScaleManager."
        )
    return NPULossScaleOptimizer(wrapped, loss_scale_manager, is_distributed)


def KerasDistributeOptimizer(optimizer: Any, name: str = "NpuKerasOptimizer") -> Any:
    """Returns a Keras optimizer as it is: it would average gradients over the one rank."""
    del name
    return optimizer


def npu_distributed_optimizer_wrapper(optimizer: Any) -> Any:
    """Returns an optimizer of TensorFlow or Keras that averages gradients over the one rank."""
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return NPUDistributedOptimizer(optimizer)
    return optimizer


def npu_tf_optimizer(opt: Any) -> Any:
    """Returns ``NPUDistributedOptimizer(opt)``."""
    return NPUDistributedOptimizer(opt)


def npu_keras_optimizer(opt: Any) -> Any:
    """Returns ``KerasDistributeOptimizer(opt)``."""
    return KerasDistributeOptimizer(opt)


def npu_allreduce(values: Any, reduction: str = "mean", **_: Any) -> Any:
    """Reduces a tensor or a structure of them over all ranks: they stay as they are.

    Args:
        values: tensors.
        reduction: "mean" or another.
    """
    del reduction
    return tf.nest.map_structure(tf.identity, values)
