"""Savers of graphs that have tables and no variables.

TensorFlow refuses to build such a Saver, or builds one whose ``save`` writes neither a checkpoint
nor its state. Here it gets one value to save, so that ``latest_checkpoint``, ``max_to_keep`` and
``restore`` work as ever.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.ops import variables
from tensorflow.python.training.saving import saveable_object

_NAME = "mxrec_tables"


class _Marker(saveable_object.SaveableObject):  # type: ignore[misc]  # TensorFlow is untyped
    """A constant that is saved; restoring it changes nothing."""

    def __init__(self) -> None:
        with tf.compat.v1.name_scope(None):
            value = tf.constant(1, name=_NAME)
        super().__init__(value, [saveable_object.SaveSpec(value, "", _NAME)], _NAME)

    def restore(self, restored_tensors: Any, restored_shapes: Any) -> Any:
        del restored_tensors, restored_shapes
        return tf.no_op()


def give_variable(saver: Any) -> None:
    """Gives a Saver that is about to be built something to save, if it would find nothing.

    Args:
        saver: a ``tf.compat.v1.train.Saver``, in graph mode.
    """
    # A Saver has no public way to ask for its variables.
    finds = saver.saver_def is not None or saver._var_list is not None
    if not finds and not variables._all_saveable_objects():
        saver._var_list = [_Marker()]


def has_nothing_to_restore(saver: Any, prefix: str) -> bool:
    """Returns whether a checkpoint has only variables that the Saver's graph does not have.

    Args:
        saver: a ``tf.compat.v1.train.Saver``.
        prefix: the checkpoint's path prefix.
    """
    saved = saver._var_list or []
    if not (isinstance(saved, list) and len(saved) == 1 and isinstance(saved[0], _Marker)):
        return False
    if not tf.compat.v1.train.checkpoint_exists(prefix):
        return False
    return not tf.compat.v1.train.NewCheckpointReader(prefix).has_tensor(_NAME)
