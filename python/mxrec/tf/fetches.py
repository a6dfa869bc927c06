"""Tensors that a rewritten graph computes in another place.

TensorFlow can rewire the consumers of a tensor, but not what a program holds in its hands. A
substituted tensor that is given to ``Session.run``, as a fetch or as a key of the feeds, stands for
the new one. Names given as strings, and tensors inside of functions, are not substituted.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.client import session

from mxrec.tf import graph_state

_MARK = "_mxrec_substitutes"


def substitute(graph: Any, old_tensor: Any, new_tensor: Any) -> None:
    """Makes sessions fetch and feed ``new_tensor`` where ``old_tensor`` is asked for.

    Args:
        graph: the tf.Graph of both.
        old_tensor: what programs hold. What was substituted by it before follows.
        new_tensor: of the same dtype and a compatible shape.
    """
    if old_tensor is new_tensor:
        return
    _install()
    graph_state.state_of(graph).substitutes[old_tensor.ref()] = new_tensor


def resolve(tensor: Any) -> Any:
    """Returns what stands for a tensor in its graph now: itself, if nothing was substituted."""
    # An eager tensor has no graph. TensorFlow says that it cannot be fetched.
    graph = getattr(tensor, "graph", None)
    if graph is None:
        return tensor
    substitutes = graph_state.state_of(graph).substitutes
    while (new := substitutes.get(tensor.ref())) is not None:
        tensor = new
    return tensor


def _install() -> None:
    """Teaches sessions, process-wide. Idempotent, also over several imports of this module."""
    if any(getattr(fetch, _MARK, False) for _, fetch, *_ in session._REGISTERED_EXPANSIONS):
        return

    def fetch_of(tensor: Any) -> Any:
        return [resolve(tensor)], lambda values: values[0]

    setattr(fetch_of, _MARK, True)
    session.register_session_run_conversion_functions(
        tf.Tensor,
        fetch_of,
        lambda tensor, value: [(resolve(tensor), value)],
        lambda tensor: [resolve(tensor)],
    )
