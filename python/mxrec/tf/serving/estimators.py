"""Exporting Estimators."""

from __future__ import annotations

import os
import time
from typing import Any

import tensorflow as tf

from mxrec.tf.serving import builders
from mxrec.tf.serving.freezer import Placement


def is_estimator(model: Any) -> bool:
    """Returns whether this is a ``tf.estimator.Estimator``."""
    return hasattr(tf, "estimator") and isinstance(
        model, (tf.estimator.Estimator, tf.compat.v1.estimator.Estimator)
    )


def timestamped(base: str) -> str:
    """Returns a new directory's path below ``base``, named by the seconds of now."""
    second = int(time.time())
    while os.path.exists(os.path.join(base, str(second))):
        second += 1
    return os.path.join(base, str(second))


def export(
    estimator: Any,
    serving_input_receiver_fn: Any,
    checkpoint_path: str | None,
    placement: Placement,
    model_dir: str,
) -> None:
    """Writes a SavedModel of an Estimator's predictions; see ``export_saved_model``.

    Its tables are restored from the checkpoint, like its variables.
    """
    checkpoint_path = checkpoint_path or estimator.latest_checkpoint()
    if not checkpoint_path:
        raise ValueError(
            f"There is no checkpoint in {estimator.model_dir!r}; train first, or give "
            "checkpoint_path."
        )
    with builders.placing(placement):
        made = estimator.export_saved_model(
            f"{model_dir}-by-time", serving_input_receiver_fn, checkpoint_path=checkpoint_path
        )
    os.rename(tf.compat.as_str_any(made), model_dir)
