"""LazyAdam on addresses."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers import lazy_adam
from mxrec.tf.optimizers.base import SparseOptimizer


def create_hash_optimizer_by_address(
    learning_rate: Any = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    name: str = "LazyAdamByAddress",
) -> SparseOptimizer:
    """Returns the optimizer; the arguments are those of ``lazy_adam.create_hash_optimizer``."""
    return lazy_adam.create_hash_optimizer(learning_rate, beta1, beta2, epsilon, name)
