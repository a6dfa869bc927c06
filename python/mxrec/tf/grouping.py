"""One op for what a step looks up in all tables.

TensorFlow optimizes the graph of every new set of feeds and fetches, and every function, before it
runs. ``install`` adds an optimizer to this that replaces lookups which are ready together by one op
(bindings/tf/group_lookups.h says which). The graph that Python holds does not change: names,
fetches and feeds mean what they meant. The lookups that a fetch needs run, and no others; each
runs when the ids of its whole group are there.

That later start makes no difference where only edges of the graph order a step. Ids that come out
of a queue, a staging area, a lock, a stateful ``py_func`` and the like may wait for what another
lookup of the step feeds: such lookups are grouped only with those that wait for the same
(bindings/tf/may_wait.h). Two kinds of program still wait for ever, and need
``init(group_lookups=False)``:

- ``Session.partial_run``, if one lookup is fetched before the ids of another are fed. To an
  optimizer it looks like any other run.
- Ids from an op of another library, or from a ``tf.data`` generator, that waits for rows of the
  same step.

Lookups stay single where TensorFlow's graph optimization is switched off
(``disable_meta_optimizer``, ``place_pruned_graph``, ``use_plugin_optimizers``); results are the
same. TensorFlow takes one such optimizer for the CPU and ends the process at a second: beside
another plugin that brings one, pass ``init(group_lookups=False)``, which loads none.
"""

from __future__ import annotations

import ctypes

import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session

from mxrec.tf.log import warn_once
from mxrec.tf.ops import LIBRARY_PATH

_REGISTERED, _NOT_POSSIBLE = 1, 2


def install() -> None:
    """Adds the optimizer to TensorFlow's, process-wide. Idempotent."""
    state = _state()
    if state == _REGISTERED:
        return
    # The public tf.load_pluggable_device_library also looks for devices, which would initialize
    # every GPU.
    load = getattr(pywrap_tf_session, "TF_LoadPluggableDeviceLibrary", None)
    if load is None or state == _NOT_POSSIBLE:
        warn_once(
            "grouping",
            "lookups are not grouped into one op per step: TensorFlow %s has no interface for "
            "graph optimizers that mxrec knows. Results are the same.",
            tf.__version__,
        )
        return
    load(LIBRARY_PATH)


def _state() -> int:
    # Kept by the library: TensorFlow ends the process if the optimizer is registered twice, also
    # by a second import of this module.
    return int(ctypes.CDLL(LIBRARY_PATH).MxrecGraphOptimizerState())
