"""Exporting Estimators."""

from __future__ import annotations

import os
import time
from typing import Any

import tensorflow as tf

from mxrec.tf.serving import graphs
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
    tables_dir: str,
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
    with tf.Graph().as_default():
        tf.compat.v1.train.create_global_step()
        tf.compat.v1.set_random_seed(estimator.config.tf_random_seed)
        receiver = serving_input_receiver_fn()
        labels = getattr(receiver, "labels", None)
        spec = estimator.model_fn(
            receiver.features, labels, tf.estimator.ModeKeys.PREDICT, estimator.config
        )
        if not spec.export_outputs and not isinstance(spec.predictions, (dict, tf.Tensor)):
            raise ValueError("model_fn returned no predictions with mode PREDICT.")
        exported = spec.export_outputs or {
            "serving_default": tf.estimator.export.PredictOutput(spec.predictions)
        }
        saver = (spec.scaffold and spec.scaffold.saver) or tf.compat.v1.train.Saver(sharded=True)
        with tf.compat.v1.Session(config=estimator.config.session_config) as session:
            saver.restore(session, checkpoint_path)
            local = spec.scaffold and spec.scaffold.local_init_op
            session.run(local if local is not None else tf.compat.v1.local_variables_initializer())
            session.run(tf.compat.v1.tables_initializer())
            receivers = receiver.receiver_tensors
            if not isinstance(receivers, dict):
                receivers = {"inputs": receivers}
            signatures = {
                name: output.as_signature_def(receivers) for name, output in exported.items()
            }
            if len(signatures) == 1:
                signatures.setdefault("serving_default", next(iter(signatures.values())))
            graphs.export_signatures(session, signatures, placement, model_dir, tables_dir)
