"""The class that all Sessions of TensorFlow share, and which graphs they have run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_HAS_RUN = "_mxrec_has_run"
_INSTALLED = "_mxrec_notes_runs"


def base_session() -> Any:
    """Returns the class whose constructor all Sessions of TensorFlow share."""
    session_class = tf.compat.v1.Session.__mro__[1]
    if not issubclass(tf.compat.v1.InteractiveSession, session_class):
        raise ImportError(
            f"TensorFlow {tf.__version__} has Sessions of another kind than mxrec knows; it needs "
            "TensorFlow 2.15 to 2.21."
        )
    return session_class


def install(*before_run: Callable[[Any], None]) -> None:
    """Has Sessions note on each graph that they have run it. Idempotent.

    TensorFlow itself knows, and says so only by ignoring later changes.

    Args:
        *before_run: called with the graph before each run, in this order.
    """
    session_class = base_session()
    if hasattr(session_class, _INSTALLED):
        return
    # What every way of running a Session begins with: it gives the Session the graph's new ops.
    session_class._extend_graph = _noting(session_class._extend_graph, before_run)
    setattr(session_class, _INSTALLED, True)


def has_run(graph: Any) -> bool:
    """Returns whether a Session has run a graph, or a part of it."""
    return hasattr(graph, _HAS_RUN)


def check_not_run(graph: Any, caller: str) -> None:
    """Raises RuntimeError if a session has run the graph.

    Args:
        graph: a tf.Graph.
        caller: what is about to rewire it.
    """
    if has_run(graph):
        raise RuntimeError(
            f"{caller} must be called before the first run of the graph: a session has run it, and "
            "TensorFlow ignores changes to what was there then. Move the call to where the graph "
            "is built, before any Session.run."
        )


def _noting(plain: Any, before_run: tuple[Callable[[Any], None], ...]) -> Any:
    @functools.wraps(plain)
    def _extend_graph(self: Any) -> None:
        graph = self.graph
        for each in before_run:
            each(graph)
        plain(self)
        setattr(graph, _HAS_RUN, True)

    return _extend_graph
