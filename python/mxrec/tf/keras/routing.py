"""Keras optimizers hand the gradients of tables to the tables' own optimizers.

A layer's table is among the model's trainable weights as a variable without rows, and its gradient
holds the gradients of the rows that the step looked up. Whoever applies gradients, ``model.fit`` or
a training loop of the user's, gives that pair to the dense optimizer with all others. From there it
goes on to the sparse optimizer: once for each step that is applied, after a loss scale has been
taken out, and not at all if the step is dropped.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from mxrec.tf.keras.proxies import table_of
from mxrec.tf.keras.versions import IS_KERAS_3

_INSTALLED = "_mxrec_hands_on_tables"

Pairs = list[tuple[Any, Any]]

# By id of a variable: the slices whose values Keras's loss scaling has instead of its gradient.
_slices: contextvars.ContextVar[dict[int, Any]] = contextvars.ContextVar("slices")


def install() -> None:
    """Wraps Keras's optimizers process-wide. Idempotent; nothing changes for other variables."""
    if IS_KERAS_3:
        _wrap(tf.keras.optimizers.Optimizer, "apply", _handing_on_3)
        _wrap(tf.keras.optimizers.LossScaleOptimizer, "apply", _scaling_values_3)
    else:
        _wrap(tf.keras.optimizers.Optimizer, "apply_gradients", _handing_on_2)
        _wrap(tf.keras.optimizers.legacy.Optimizer, "apply_gradients", _handing_on_2)


def _wrap(owner: Any, name: str, wrapper: Any) -> None:
    original = getattr(owner, name)
    if not getattr(original, _INSTALLED, False):
        wrapped = wrapper(original)
        setattr(wrapped, _INSTALLED, True)
        setattr(owner, name, wrapped)


def _handing_on_2(dense_apply: Any) -> Any:
    @functools.wraps(dense_apply)
    def apply_gradients(
        self: Any, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        pairs = list(grads_and_vars)
        sparse, dense = _split(pairs)
        if not sparse:
            return dense_apply(self, pairs, *args, **kwargs)
        if hasattr(self, "build"):  # not the legacy ones, which make slots when they need them
            with tf.init_scope():
                self.build([variable for _, variable in pairs])
        updates = _apply(sparse, self.iterations)
        if any(grad is not None for grad, _ in dense):
            with tf.control_dependencies(updates):
                return dense_apply(self, dense, *args, **kwargs)
        with tf.control_dependencies(updates):
            return self.iterations.assign_add(1)

    return apply_gradients


def _handing_on_3(dense_apply: Any) -> Any:
    @functools.wraps(dense_apply)
    def apply(self: Any, grads: Iterable[Any], trainable_variables: Any = None) -> Any:
        grads = list(grads)
        if trainable_variables is None and self.built:
            trainable_variables = self._trainable_variables
        if trainable_variables is None or len(grads) != len(list(trainable_variables)):
            return dense_apply(self, grads, trainable_variables)  # which says what is wrong
        variables = list(trainable_variables)
        sparse, dense = _split(list(zip(grads, variables, strict=True)))
        if not sparse:
            return dense_apply(self, grads, variables)
        if getattr(self, "gradient_accumulation_steps", None):
            raise ValueError(
                f"Optimizer {self.name!r} has gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}, which accumulates gradients of variables and "
                "cannot those of tables; leave it out and use larger batches."
            )
        if not self.built:
            with tf.name_scope(self.name):
                self.build(variables)
            self.built = True
        if (scale := self.loss_scale_factor) is not None:
            sparse = [(_divided(grad, scale), variable) for grad, variable in sparse]
        updates = _apply(sparse, self.iterations)
        with tf.control_dependencies(updates):
            if any(grad is not None for grad, _ in dense):
                left = [list(each) for each in zip(*dense, strict=True)]
                return dense_apply(self, *left)
            self.iterations.assign_add(1)
            return None

    return apply


def _scaling_values_3(apply: Any) -> Any:
    """Loss scaling of Keras 3 makes slices dense, which the rows of a table are too many for."""

    @functools.wraps(apply)
    def scaling(self: Any, grads: Iterable[Any], trainable_variables: Any = None) -> Any:
        grads = list(grads)
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        slices = {
            id(variable): grad
            for grad, variable in zip(grads, variables, strict=False)
            if isinstance(grad, tf.IndexedSlices) and table_of(variable) is not None
        }
        values = [
            slices[id(variable)].values if id(variable) in slices else grad
            for grad, variable in zip(grads, variables, strict=False)
        ]
        token = _slices.set(slices)
        try:
            return apply(self, values if slices else grads, trainable_variables)
        finally:
            _slices.reset(token)

    return scaling


def _split(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """The pairs of tables, and the others."""
    slices = _slices.get({})
    sparse, dense = [], []
    for grad, variable in pairs:
        if table_of(variable) is None:
            dense.append((grad, variable))
            continue
        known = slices.get(id(variable))
        if known is not None and tf.is_tensor(grad) and not isinstance(grad, tf.IndexedSlices):
            grad = tf.IndexedSlices(grad, known.indices, known.dense_shape)
        sparse.append((grad, variable))
    return sparse, dense


def _apply(pairs: Pairs, iterations: Any) -> list[Any]:
    """Updates the tables.

    Args:
        pairs: of gradients and Keras's variables of tables. Different variables of one table have
            the same gradient, which counts once.
        iterations: the dense optimizer's count of steps before this one.
    """
    groups: dict[int, tuple[Any, Pairs]] = {}
    variables: dict[str, Any] = {}
    for grad, variable in pairs:
        table = table_of(variable)
        assert table is not None
        if grad is None or variables.setdefault(table.name, variable) is not variable:
            continue
        trainer = table.trainer
        if trainer is None:
            raise ValueError(
                f"Table {table.name!r} has no optimizer that its gradients could be handed to; "
                "make it by mxrec.tf.Embedding(..., optimizer=...), or give its gradient to an "
                "optimizer of mxrec.tf.optimizers and not to a dense one."
            )
        group = groups.setdefault(id(trainer), (trainer, []))
        group[1].append((grad, table.nodes().proxy))
    step = tf.convert_to_tensor(iterations)
    return [op for trainer, group in groups.values() for op in trainer.update(group, step)]


def _divided(grad: Any, scale: Any) -> Any:
    if grad is None:
        return None
    values = grad.values / tf.cast(scale, grad.values.dtype)
    return tf.IndexedSlices(values, grad.indices, grad.dense_shape)
