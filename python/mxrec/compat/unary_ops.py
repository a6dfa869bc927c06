"""``npu_bridge.estimator.npu_unary_ops``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["gelu", "npu_unary_ops"]


def gelu(x: Any, name: str | None = None) -> tf.Tensor:
    """Returns the Gaussian error linear unit, by the approximation with tanh.

    Args:
        x: float tensor.
        name: of the operation.
    """
    return tf.nn.gelu(x, approximate=True, name=name)


class npu_unary_ops:
    """The name under which scripts find the functions of this module."""

    gelu = staticmethod(gelu)
