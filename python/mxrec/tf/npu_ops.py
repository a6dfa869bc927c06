"""Dense operations that scripts call by the accelerator's names."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.validation import check_float


def dropout(
    x: Any,
    keep_prob: Any,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Sets elements to zero at random and scales the others by 1 / keep_prob.

    Args:
        x: float tensor.
        keep_prob: probability that an element is kept, (0, 1]; a number or a scalar tensor.
        noise_shape: shape of the random choice, broadcast to that of ``x``.
        seed: of the random choice.
        name: of the operation.

    Returns:
        A tensor like ``x``.
    """
    if not tf.is_tensor(keep_prob):
        keep_prob = check_float("keep_prob", keep_prob, 0.0, 1.0, open_low=True)
    return tf.nn.dropout(x, rate=1.0 - keep_prob, noise_shape=noise_shape, seed=seed, name=name)
