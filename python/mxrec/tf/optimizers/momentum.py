"""Momentum, as tf.compat.v1.train.MomentumOptimizer computes it on sparse gradients."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_bool, check_float


def create_hash_optimizer(
    learning_rate: Any, momentum: float, use_nesterov: bool = False, name: str = "Momentum"
) -> SparseOptimizer:
    """Returns the optimizer.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        momentum: [0, 1].
        use_nesterov: look ahead (Sutskever et al. 2013).
        name: of the optimizer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """
    return SparseOptimizer(
        "Momentum",
        learning_rate,
        name,
        momentum=check_float("momentum", momentum, 0.0, 1.0),
        nesterov=check_bool("use_nesterov", use_nesterov),
    )
