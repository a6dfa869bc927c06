"""``Dataset.eos_map``: where scripts tell the accelerator of the end of a dataset."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.validation import INT32_MAX, check_int

_NAME = "eos_map"


def install() -> None:
    """Gives ``tf.data.Dataset`` the method. Idempotent."""
    for dataset_class in (tf.data.Dataset, tf.compat.v1.data.Dataset):
        if not hasattr(dataset_class, _NAME):
            setattr(dataset_class, _NAME, eos_map)


def eos_map(
    self: Any,
    librec: Any = None,
    channel_id: int = 0,
    max_train_steps: int = -1,
    max_eval_steps: int = -1,
) -> Any:
    """Returns the dataset as it is: its end reaches the Session by itself.

    Args:
        self: the dataset.
        librec: what ``import_host_pipeline_ops`` returned.
        channel_id: 0 for training, 1 for evaluation.
        max_train_steps: [-1, 2^31 - 1].
        max_eval_steps: [-1, 2^31 - 1].

    Raises:
        TypeError: a number is no int.
        ValueError: a number is out of its range.
    """
    del librec
    check_int("channel_id", channel_id, 0, 1)
    check_int("max_train_steps", max_train_steps, -1, INT32_MAX)
    check_int("max_eval_steps", max_eval_steps, -1, INT32_MAX)
    return self
