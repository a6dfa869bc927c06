"""Optimizers of embedding tables: one module each, with the factory that scripts call."""

from mxrec.tf.optimizers import (
    adagrad,
    adagrad_by_addr,
    ftrl,
    gradient_descent,
    gradient_descent_by_addr,
    lazy_adam,
    lazy_adam_by_addr,
    momentum,
)
from mxrec.tf.optimizers.base import SparseOptimizer

__all__ = [
    "SparseOptimizer",
    "adagrad",
    "adagrad_by_addr",
    "ftrl",
    "gradient_descent",
    "gradient_descent_by_addr",
    "lazy_adam",
    "lazy_adam_by_addr",
    "momentum",
]
