"""``npu_bridge.estimator.npu_ops``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.compat.absent import absent
from mxrec.tf.npu_ops import dropout

__all__ = [
    "LARS",
    "LARSV2",
    "NPUInit",
    "NPUShutdown",
    "dropout",
    "initialize_system",
    "outfeed_dequeue_op",
    "outfeed_enqueue_op",
    "shutdown_system",
    "stop_outfeed_dequeue_op",
]

_PLACE = "npu_bridge.estimator.npu_ops"
_SUMMARY = "Fetch the tensors in Session.run, or write them with tf.compat.v1.summary."
_RATE = "Compute the trust ratio with TensorFlow's ops, or use another optimizer."


def initialize_system(name: str | None = None) -> tf.Operation:
    """Returns an op that would start the accelerator: it does nothing."""
    return tf.no_op(name=name)


def shutdown_system(name: str | None = None) -> tf.Operation:
    """Returns an op that would stop the accelerator: it does nothing."""
    return tf.no_op(name=name)


def NPUInit(name: str | None = None) -> tf.Operation:
    """Returns ``initialize_system``'s op."""
    return initialize_system(name)


def NPUShutdown(name: str | None = None) -> tf.Operation:
    """Returns ``shutdown_system``'s op."""
    return shutdown_system(name)


LARS: Any = absent(_PLACE, "LARS", _RATE)
LARSV2: Any = absent(_PLACE, "LARSV2", _RATE)
outfeed_dequeue_op: Any = absent(_PLACE, "outfeed_dequeue_op", _SUMMARY)
outfeed_enqueue_op: Any = absent(_PLACE, "outfeed_enqueue_op", _SUMMARY)
stop_outfeed_dequeue_op: Any = absent(_PLACE, "stop_outfeed_dequeue_op", _SUMMARY)
