"""An optimizer around another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

Pairs = Iterable[tuple[Any, Any]]


# TensorFlow is untyped.
class WrappedOptimizer(tf.compat.v1.train.Optimizer):  # type: ignore[misc]
    """Hands everything on to another optimizer, which keeps the slots.

    Args:
        optimizer: a ``tf.compat.v1.train.Optimizer``.
        name: of this one.

    Raises:
        TypeError: ``optimizer`` is none.
    """

    def __init__(self, optimizer: Any, name: str) -> None:
        if not isinstance(optimizer, tf.compat.v1.train.Optimizer):
            raise TypeError(
                f"optimizer must be a tf.compat.v1.train.Optimizer, got {optimizer!r} "
                f"({type(optimizer).__name__})."
            )
        super().__init__(use_locking=False, name=name)
        self.wrapped = optimizer

    def compute_gradients(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the other optimizer's ``compute_gradients`` returns."""
        return self.wrapped.compute_gradients(*args, **kwargs)

    def apply_gradients(
        self, grads_and_vars: Pairs, global_step: Any = None, name: Any = None
    ) -> Any:
        """Applies gradients by the other optimizer."""
        return self.wrapped.apply_gradients(grads_and_vars, global_step, name)

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        """Returns a slot of the other optimizer."""
        return self.wrapped.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the names of the other optimizer's slots."""
        return self.wrapped.get_slot_names(*args, **kwargs)

    def variables(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the variables of the other optimizer."""
        return self.wrapped.variables(*args, **kwargs)
