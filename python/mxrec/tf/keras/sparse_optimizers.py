"""Sparse optimizers as arguments and configurations of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

import mxrec
from mxrec.tf.optimizers import adagrad, ftrl, gradient_descent, lazy_adam, momentum
from mxrec.tf.optimizers.base import SparseOptimizer

_BY_NAME: dict[str, Callable[[], SparseOptimizer]] = {
    "sgd": lambda: gradient_descent.create_hash_optimizer(0.01),
    "momentum": lambda: momentum.create_hash_optimizer(0.01, 0.9),
    "adagrad": adagrad.create_hash_optimizer,
    "lazy_adam": lazy_adam.create_hash_optimizer,
    "ftrl": lambda: ftrl.create_hash_optimizer(0.001),
}
_FIELDS = (
    "learning_rate",
    "weight_decay",
    "momentum",
    "nesterov",
    "initial_accumulator_value",
    "learning_rate_power",
    "l1_regularization",
    "l2_regularization",
    "l2_shrinkage_regularization",
    "beta1",
    "beta2",
    "epsilon",
)


def get(optimizer: Any) -> SparseOptimizer:
    """Returns the sparse optimizer that an argument means.

    Args:
        optimizer: what a factory of ``mxrec.tf.optimizers`` returned, an optimizer of ``mxrec``
            (``mxrec.Adagrad(0.05)``), a name, or what ``config_of`` returned.

    Raises:
        TypeError: it is none of these.
        ValueError: a name is unknown, or a hyperparameter is out of its range.
    """
    if isinstance(optimizer, SparseOptimizer):
        return optimizer
    if isinstance(optimizer, mxrec.Optimizer):
        options = optimizer.to_options()
        fields = {name: getattr(options, name) for name in _FIELDS}
        return SparseOptimizer(
            options.kind, fields.pop("learning_rate"), type(optimizer).__name__, **fields
        )
    if isinstance(optimizer, str):
        if optimizer not in _BY_NAME:
            raise ValueError(
                f"optimizer must be one of {', '.join(map(repr, _BY_NAME))}, or what a factory of "
                f"mxrec.tf.optimizers returned, got {optimizer!r}."
            )
        return _BY_NAME[optimizer]()
    if isinstance(optimizer, Mapping) and "kind" in optimizer:
        fields = dict(optimizer)
        rate = fields.pop("learning_rate")
        if isinstance(rate, Mapping):
            rate = tf.keras.optimizers.schedules.deserialize(dict(rate))
        return SparseOptimizer(fields.pop("kind"), rate, fields.pop("name"), **fields)
    raise TypeError(
        "optimizer must be a sparse optimizer, such as "
        "mxrec.tf.optimizers.adagrad.create_hash_optimizer(0.05) or 'adagrad', got "
        f"{optimizer!r} ({type(optimizer).__name__}); dense optimizers go to model.compile."
    )


def config_of(optimizer: SparseOptimizer) -> dict[str, Any]:
    """Returns what ``get`` makes an equal optimizer of, fit for JSON.

    Raises:
        ValueError: its learning rate is a tensor or function, which has no such form.
    """
    rate = optimizer.learning_rate
    if isinstance(rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        rate = tf.keras.optimizers.schedules.serialize(rate)
    elif not isinstance(rate, (int, float)):
        raise ValueError(
            f"The learning rate of sparse optimizer {optimizer.get_name()!r} is {rate!r}, which a "
            "configuration cannot hold; give a number or a Keras learning rate schedule to save "
            "or clone the model."
        )
    fields = {n: v for n, v in optimizer.hyperparameters.items() if n != "learning_rate"}
    return {
        "kind": optimizer.options.kind,
        "learning_rate": rate,
        "name": optimizer.get_name(),
        **fields,
    }


def difference(mine: SparseOptimizer, theirs: SparseOptimizer) -> str | None:
    """Says in what two optimizers differ; None: they are the same."""
    if mine is theirs:
        return None
    rates = mine.learning_rate, theirs.learning_rate
    kinds = mine.options, theirs.options
    if kinds[0] == kinds[1] and (rates[0] is rates[1] or _rate_text(mine) == _rate_text(theirs)):
        return None
    return f"optimizer {kinds[0]!r} (learning_rate {rates[0]!r}) != {kinds[1]!r} ({rates[1]!r})"


def _rate_text(optimizer: SparseOptimizer) -> Any:
    rate = optimizer.learning_rate
    if isinstance(rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        return repr((type(rate), rate.get_config()))
    return repr(rate) if isinstance(rate, (int, float)) else object()
