"""``npu_bridge.estimator.npu.npu_estimator``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.estimator import NPUEstimator, require_estimator

__all__ = ["NPUEstimator", "NPUEstimatorSpec"]

_Base: Any = tf.estimator.EstimatorSpec if hasattr(tf, "estimator") else object


class NPUEstimatorSpec(_Base):  # type: ignore[misc]
    """A ``tf.estimator.EstimatorSpec`` under the name that accelerator scripts use."""

    def __new__(cls, mode: str, *args: Any, host_call: Any = None, **kwargs: Any) -> Any:
        """Args of ``tf.estimator.EstimatorSpec``.

        Args:
            mode: of ``tf.estimator.ModeKeys``.
            *args: as there.
            host_call: must be None: what the accelerator would hand to the host in each step.
            **kwargs: as there.

        Raises:
            ImportError: this TensorFlow has no ``tf.estimator``.
            NotImplementedError: there is a ``host_call``.
        """
        require_estimator("NPUEstimatorSpec")
        if host_call is not None:
            raise NotImplementedError(
                "NPUEstimatorSpec(host_call=...) takes tensors from the accelerator to the host; "
                "the step runs on the host here. Write summaries in model_fn, or pass training_"
                "hooks=[tf.compat.v1.train.LoggingTensorHook(...)]."
            )
        return super().__new__(cls, mode, *args, **kwargs)
