"""Stochastic gradient descent: w -= lr * (g + weight_decay * w)."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_bool, check_float


def create_hash_optimizer(
    learning_rate: Any,
    use_locking: bool = False,
    name: str = "GradientDescent",
    use_fusion_optim: bool = False,
    weight_decay: float | None = None,
) -> SparseOptimizer:
    """Returns the optimizer.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        use_locking: accepted.
        name: of the optimizer.
        use_fusion_optim: accepted; the update is always one op.
        weight_decay: [1e-5, 1e-2]; None: none.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """
    check_bool("use_fusion_optim", use_fusion_optim)
    decay = 0.0
    if weight_decay is not None:
        decay = check_float("weight_decay", weight_decay, 1e-5, 1e-2)
    return SparseOptimizer("SGD", learning_rate, name, use_locking, weight_decay=decay)
