"""FTRL-Proximal (McMahan et al. 2013), as tf.compat.v1.train.FtrlOptimizer computes it."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_float, check_str


def create_hash_optimizer(
    learning_rate: Any, use_locking: bool = False, name: str = "Ftrl", **kwargs: Any
) -> SparseOptimizer:
    """Returns the optimizer.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        use_locking: accepted.
        name: of the optimizer.
        **kwargs: ``learning_rate_power`` (-0.5; <= 0), ``initial_accumulator_value`` (0.1; >= 0),
            ``l1_regularization_strength``, ``l2_regularization_strength``,
            ``l2_shrinkage_regularization_strength`` (0; >= 0), ``accum_name``, ``linear_name``
            (accepted).

    Raises:
        TypeError: an argument has the wrong type or is unknown.
        ValueError: an argument is out of its range.
    """
    fields = {
        "learning_rate_power": check_float(
            "learning_rate_power", kwargs.pop("learning_rate_power", -0.5), high=0.0
        ),
        "initial_accumulator_value": check_float(
            "initial_accumulator_value", kwargs.pop("initial_accumulator_value", 0.1), 0.0
        ),
    }
    for field in ("l1_regularization", "l2_regularization", "l2_shrinkage_regularization"):
        parameter = f"{field}_strength"
        fields[field] = check_float(parameter, kwargs.pop(parameter, 0.0), 0.0)
    for parameter in ("accum_name", "linear_name"):
        if (value := kwargs.pop(parameter, None)) is not None:
            check_str(parameter, value)
    if kwargs:
        raise TypeError(
            f"create_hash_optimizer got unknown arguments: {', '.join(sorted(kwargs))}; known are "
            "learning_rate, use_locking, name, learning_rate_power, initial_accumulator_value, "
            "l1_regularization_strength, l2_regularization_strength, "
            "l2_shrinkage_regularization_strength, accum_name, linear_name."
        )
    return SparseOptimizer("Ftrl", learning_rate, name, use_locking, **fields)
