"""Loss scaling: ``npu_loss_scale_manager`` and ``npu_loss_scale_optimizer``.

The loss is multiplied by a scale before gradients are computed, and they are divided by it again,
so that small ones do not vanish in half precision. A step whose gradients are not all finite is
left out (Micikevicius et al., "Mixed Precision Training", 2018).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.compat.wrapper import Pairs, WrappedOptimizer
from mxrec.tf.validation import INT32_MAX, check_bool, check_float, check_int

__all__ = [
    "ExponentialUpdateLossScaleManager",
    "FixedLossScaleManager",
    "NPULossScaleOptimizer",
]

_v1 = tf.compat.v1
_LARGEST = 3.4e38  # of float32


class FixedLossScaleManager:
    """The same scale in all steps.

    Args:
        loss_scale: at least 1.
        enable_overflow_check: False: steps are applied even if gradients are not finite.

    Raises:
        ValueError: ``loss_scale`` is below 1.
    """

    def __init__(self, loss_scale: float, enable_overflow_check: bool = True) -> None:
        self._scale = check_float("loss_scale", loss_scale, 1.0, _LARGEST)
        self._check = check_bool("enable_overflow_check", enable_overflow_check)

    def get_loss_scale(self) -> tf.Tensor:
        """Returns the scale, a float32 scalar."""
        return tf.constant(self._scale, tf.float32)

    def get_enable_overflow_check(self) -> bool:
        """Returns whether steps with gradients that are not finite are left out."""
        return self._check

    def update_loss_scale(self, finite_grads: Any) -> tf.Operation:
        """Returns the op that follows a step: it does nothing."""
        del finite_grads
        return tf.no_op()


class ExponentialUpdateLossScaleManager:
    """A scale that grows while gradients are finite, and falls when they are not.

    Args:
        init_loss_scale: at least 1.
        incr_every_n_steps: the scale grows after so many steps in a row with finite gradients.
        decr_every_n_nan_or_inf: it falls after so many steps in a row without.
        incr_ratio: factor of growth, above 1.
        decr_ratio: factor of the fall, in (0, 1); the scale stays at least 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        init_loss_scale: float,
        incr_every_n_steps: int,
        decr_every_n_nan_or_inf: int = 2,
        incr_ratio: float = 2,
        decr_ratio: float = 0.8,
    ) -> None:
        scale = check_float("init_loss_scale", init_loss_scale, 1.0, _LARGEST)
        self._up_after = check_int("incr_every_n_steps", incr_every_n_steps, 1, INT32_MAX)
        self._down_after = check_int(
            "decr_every_n_nan_or_inf", decr_every_n_nan_or_inf, 1, INT32_MAX
        )
        self._up = check_float("incr_ratio", incr_ratio, 1.0, _LARGEST, open_low=True)
        self._down = check_float("decr_ratio", decr_ratio, 0.0, 1.0, open_low=True, open_high=True)
        with _v1.variable_scope(None, "loss_scale_manager"):
            self._scale = _variable("loss_scale", scale, tf.float32)
            self._good = _variable("good_steps", 0, tf.int64)
            self._bad = _variable("bad_steps", 0, tf.int64)

    def get_loss_scale(self) -> tf.Tensor:
        """Returns the scale of this step, a float32 scalar."""
        return self._scale.read_value()

    def get_enable_overflow_check(self) -> bool:
        """Returns True: the scale depends on it."""
        return True

    def update_loss_scale(self, finite_grads: Any) -> tf.Operation:
        """Returns the op that counts a step and moves the scale.

        Args:
            finite_grads: bool scalar: all gradients of the step were finite.
        """
        finite = tf.cast(finite_grads, tf.int64)
        good = (self._good.read_value() + 1) * finite
        bad = (self._bad.read_value() + 1) * (1 - finite)
        up, down = good >= self._up_after, bad >= self._down_after
        scale = self._scale.read_value()
        larger = tf.where(scale < _LARGEST / self._up, scale * self._up, scale)
        scale = tf.where(up, larger, tf.where(down, tf.maximum(scale * self._down, 1.0), scale))
        zero = tf.zeros([], tf.int64)
        with tf.control_dependencies([good, bad, scale]):  # all are read before one is written
            return tf.group(
                self._scale.assign(scale),
                self._good.assign(tf.where(up, zero, good)),
                self._bad.assign(tf.where(down, zero, bad)),
            )


def _variable(name: str, value: float, dtype: Any) -> Any:
    return _v1.get_variable(
        name, initializer=tf.constant(value, dtype), trainable=False, use_resource=True
    )


class NPULossScaleOptimizer(WrappedOptimizer):
    """Scales the loss for another optimizer.

    Args:
        opt: a ``tf.compat.v1.train.Optimizer``, of dense variables or of tables.
        loss_scale_manager: one of the managers of this module.
        is_distributed: accepted; there is one rank.
    """

    def __init__(self, opt: Any, loss_scale_manager: Any, is_distributed: bool = False) -> None:
        check_bool("is_distributed", is_distributed)
        super().__init__(opt, f"NPULossScaleOptimizer{type(opt).__name__}")
        self._manager = loss_scale_manager

    def compute_gradients(
        self, loss: Any, var_list: Any = None, *args: Any, **kwargs: Any
    ) -> list[tuple[Any, Any]]:
        """Returns (gradient, variable) pairs, the gradients being those of the loss itself.

        Args:
            loss: scalar tensor; in eager mode a callable that returns one.
            var_list: variables.
            *args: as in ``tf.compat.v1.train.Optimizer.compute_gradients``.
            **kwargs: likewise.
        """
        scale = self._manager.get_loss_scale()

        def scaled() -> Any:
            value = loss() if callable(loss) else loss
            return value * tf.cast(scale, value.dtype)

        pairs = self.wrapped.compute_gradients(
            scaled if callable(loss) else scaled(), var_list, *args, **kwargs
        )
        return [(_divided(gradient, scale), variable) for gradient, variable in pairs]

    def apply_gradients(
        self, grads_and_vars: Pairs, global_step: Any = None, name: Any = None
    ) -> Any:
        """Applies gradients if they are all finite, and moves the scale.

        Args:
            grads_and_vars: pairs; those whose gradient is None are passed over.
            global_step: variable to increment in steps that are applied.
            name: of the operation.
        """
        pairs = list(grads_and_vars)
        if not self._manager.get_enable_overflow_check():
            return self.wrapped.apply_gradients(pairs, global_step, name)
        gradients = [gradient for gradient, _ in pairs if gradient is not None]
        finite = tf.reduce_all([_is_finite(gradient) for gradient in gradients])

        def apply() -> Any:
            applied = self.wrapped.apply_gradients(pairs, global_step, name)
            with tf.control_dependencies([] if applied is None else [applied]):
                return tf.constant(True)

        applied = _v1.cond(finite, apply, lambda: tf.constant(False))
        return tf.group(applied, self._manager.update_loss_scale(finite))


def _divided(gradient: Any, scale: Any) -> Any:
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values / tf.cast(scale, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient / tf.cast(scale, gradient.dtype)


def _is_finite(gradient: Any) -> Any:
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    return tf.reduce_all(tf.math.is_finite(values))
