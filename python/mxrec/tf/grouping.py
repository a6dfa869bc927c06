"""One op for what a step looks up in all tables.

TensorFlow optimizes the graph of every new set of feeds and fetches, and every function, before it
runs. ``install`` adds an optimizer to this that replaces lookups which are ready together by one op
(bindings/tf/group_lookups.h says which). The graph that Python holds does not change: names,
fetches and feeds mean what they meant, and every lookup runs exactly when it would have run.

Lookups stay single where TensorFlow's graph optimization is switched off
(``disable_meta_optimizer``, ``place_pruned_graph``, ``use_plugin_optimizers``); results are the
same.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session

from mxrec.tf.log import warn_once
from mxrec.tf.ops import LIBRARY_PATH

_installed = False


def install() -> None:
    """Adds the optimizer to TensorFlow's, process-wide. Idempotent."""
    global _installed
    if _installed:
        return
    try:
        # The public tf.load_pluggable_device_library also looks for devices, which would
        # initialize every GPU.
        pywrap_tf_session.TF_LoadPluggableDeviceLibrary(LIBRARY_PATH)
    except (tf.errors.OpError, AttributeError, RuntimeError) as error:
        warn_once(
            "grouping",
            "lookups are not grouped into one op per step: TensorFlow %s refuses mxrec's graph "
            "optimizer (%s). Results are the same.",
            tf.__version__,
            error,
        )
        return
    _installed = True
