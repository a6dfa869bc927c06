"""Which Keras this is."""

from __future__ import annotations

import tensorflow as tf

# tf_keras (TF_USE_LEGACY_KERAS=1) is Keras 2.
IS_KERAS_3 = hasattr(tf.keras, "Operation") or hasattr(tf.keras, "KerasTensor")


def check_backend() -> None:
    """Raises RuntimeError if Keras runs on something other than TensorFlow."""
    if not IS_KERAS_3:
        return
    backend = tf.keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"mxrec.tf.Embedding needs Keras on TensorFlow, but its backend is {backend!r}; set "
            "the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
        )
