"""Stochastic gradient descent on addresses: w -= lr * (g + weight_decay * w)."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_float


def create_hash_optimizer_by_addr(
    learning_rate: Any,
    weight_decay: float = 0.0001,
    use_locking: bool = False,
    name: str = "GradientDescentByAddr",
) -> SparseOptimizer:
    """Returns the optimizer.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        weight_decay: [0, 1].
        use_locking: accepted.
        name: of the optimizer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """
    decay = check_float("weight_decay", weight_decay, 0.0, 1.0)
    return SparseOptimizer("SGD", learning_rate, name, use_locking, weight_decay=decay)
