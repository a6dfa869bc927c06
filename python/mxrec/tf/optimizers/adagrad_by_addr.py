"""Adagrad on addresses."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers import adagrad
from mxrec.tf.optimizers.base import SparseOptimizer


def create_hash_optimizer_by_address(
    learning_rate: Any = 0.001, initial_accumulator_value: float = 0.9, name: str = "Adagrad"
) -> SparseOptimizer:
    """Returns the optimizer; the arguments are those of ``adagrad.create_hash_optimizer``."""
    return adagrad.create_hash_optimizer(learning_rate, initial_accumulator_value, name=name)
