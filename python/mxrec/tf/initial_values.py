"""Turns TensorFlow's initializers into those of the engine."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec import _mxrec

_FRAMEWORKS = ("tensorflow", "keras", "tf_keras")


@dataclasses.dataclass(frozen=True)
class InitialValues:
    """How rows of new keys are made.

    Attributes:
        options: the engine's initializer; with ``custom``, only a placeholder.
        custom: called once per batch of new keys, with their [n, dim] shape; None: the engine
            computes the values per key.
        seed: the initializer's own seed.
        gain: factor on the values.
    """

    options: Any
    custom: Callable[..., Any] | None
    seed: int | None
    gain: float

    def difference(self, other: InitialValues) -> str | None:
        """Says in what ``other`` differs; None if it is the same."""
        if _identity(self.custom) != _identity(other.custom) or self.options != other.options:
            return f"emb_initializer {self._text()} != {other._text()}"
        if self.seed != other.seed:
            return f"seed of emb_initializer {self.seed} != {other.seed}"
        if self.gain != other.gain:
            return f"init_param {self.gain} != {other.gain}"
        return None

    def _text(self) -> str:
        return repr(self.options) if self.custom is None else repr(self.custom)


def convert(initializer: Any, gain: float) -> InitialValues:
    """Returns how to make initial values like a TensorFlow initializer does.

    Args:
        initializer: instance or class of a TensorFlow (1, 2 or Keras) initializer, or any callable
            of a shape.
        gain: factor on the values.

    Raises:
        TypeError: ``initializer`` is not callable.
        ValueError: its parameters are out of range.
    """
    if isinstance(initializer, type):
        initializer = initializer()
    if not callable(initializer):
        raise TypeError(
            "emb_initializer must be a TensorFlow initializer, such as "
            f"tf.compat.v1.truncated_normal_initializer(), got {initializer!r} "
            f"({type(initializer).__name__})."
        )
    fields = _engine_fields(initializer)
    if fields is None:
        options = _mxrec.InitializerOptions("Zeros")
        return InitialValues(options, initializer, _seed_of(initializer), gain)
    try:
        options = _mxrec.InitializerOptions(**fields, gain=gain)
    except ValueError as error:
        raise ValueError(f"emb_initializer {initializer!r}: {error}") from error
    return InitialValues(options, None, _seed_of(initializer), gain)


def _engine_fields(initializer: Any) -> dict[str, Any] | None:
    """Arguments of InitializerOptions; None: the engine has no such initializer."""
    # A subclass that only sets parameters (GlorotUniform) is its base; one with a __call__ of its
    # own is not.
    kind = next((k for k in type(initializer).__mro__ if "__call__" in vars(k)), None)
    if kind is None or kind.__module__.split(".")[0] not in _FRAMEWORKS:
        return None
    get = initializer.__dict__.get
    name = kind.__name__
    if name in ("Zeros", "Ones"):
        return {"kind": name}
    if name == "Constant":
        value = np.asarray(get("value", 0.0))
        return {"kind": name, "value": float(value)} if value.size == 1 else None
    if name in ("RandomUniform", "RandomNormal", "TruncatedNormal"):
        low, high = ("minval", "maxval") if name == "RandomUniform" else ("mean", "stddev")
        defaults = (0.0, 1.0)
        given = [
            default if get(n) is None else get(n)
            for n, default in zip((low, high), defaults, strict=True)
        ]
        if any(tf.is_tensor(v) or np.ndim(v) for v in given):
            return None
        first, second = (float(v) for v in given)
        if name == "RandomUniform":
            return {"kind": "Uniform", "low": first, "high": second}
        return {"kind": name.replace("Random", ""), "mean": first, "stddev": second}
    if name == "VarianceScaling":
        distribution = get("distribution")
        return {
            "kind": name,
            "scale": float(get("scale", 1.0)),
            "mode": get("mode"),
            # TensorFlow's "normal" is truncated.
            "distribution": "truncated_normal" if distribution == "normal" else distribution,
        }
    return None


def _seed_of(initializer: Any) -> int | None:
    get_config = getattr(initializer, "get_config", None)
    # Keras 3 draws a seed where none is given; only its configuration tells.
    seed = get_config().get("seed") if get_config else getattr(initializer, "seed", None)
    return int(seed) if isinstance(seed, (int, np.integer)) else None


def _identity(custom: Any) -> Any:
    """What makes two custom initializers the same: class and configuration, or the object."""
    if hasattr(custom, "get_config"):
        return type(custom), repr(custom.get_config())
    return custom


def call_custom(values: InitialValues, count: Any, dim: int) -> tf.Tensor:
    """Returns initial values [count, dim] from the custom initializer.

    Args:
        values: with ``custom``.
        count: int64 scalar tensor, the number of new keys.
        dim: width of the table.
    """
    initializer = values.custom
    assert initializer is not None

    def call(shape: Any) -> Any:
        wants_dtype = "dtype" in inspect.signature(initializer).parameters
        result = initializer(shape, dtype=tf.float32) if wants_dtype else initializer(shape)
        return tf.cast(tf.convert_to_tensor(result), tf.float32)

    def call_eagerly(n: Any) -> Any:
        rows = int(n)
        return call((rows, dim)) if rows else tf.zeros([0, dim])

    if tf.executing_eagerly():
        rows = call_eagerly(count)
    else:
        try:
            rows = call(tf.stack([tf.cast(count, tf.int32), dim]))
        except (TypeError, ValueError, AttributeError):
            # Some initializers (orthogonal) want the shape as numbers.
            rows = tf.py_function(call_eagerly, [count], tf.float32)
    rows = tf.ensure_shape(rows, [None, dim])
    return rows * values.gain
