"""Adagrad (Duchi et al. 2011), as tf.compat.v1.train.AdagradOptimizer computes it."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_float


def create_hash_optimizer(
    learning_rate: Any = 0.001,
    initial_accumulator_value: float = 0.9,
    use_locking: bool = False,
    name: str = "Adagrad",
) -> SparseOptimizer:
    """Returns the optimizer.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        initial_accumulator_value: (0, 1].
        use_locking: accepted.
        name: of the optimizer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """
    initial = check_float(
        "initial_accumulator_value", initial_accumulator_value, 0.0, 1.0, open_low=True
    )
    return SparseOptimizer(
        "Adagrad", learning_rate, name, use_locking, initial_accumulator_value=initial
    )
