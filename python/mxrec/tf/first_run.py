"""Whether a session has run a graph.

A session keeps the ops of a graph as they were at its first run: TensorFlow takes new ops, and
silently ignores new inputs of old ones. What rewires a graph must come before that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mxrec.tf.precision_mode import base_session

_HAS_RUN = "_mxrec_has_run"
_INSTALLED = "_mxrec_notes_first_run"


def install() -> None:
    """Makes the sessions of the process note the graphs that they run. Idempotent."""
    session_class = base_session()
    if not getattr(session_class, _INSTALLED, False):
        session_class._extend_graph = _noting(session_class._extend_graph)
        setattr(session_class, _INSTALLED, True)


def check_not_run(graph: Any, caller: str) -> None:
    """Raises RuntimeError if a session has run the graph.

    Args:
        graph: a tf.Graph.
        caller: what is about to rewire it.
    """
    if getattr(graph, _HAS_RUN, False):
        raise RuntimeError(
            f"{caller} must be called before the first run of the graph: a session has run it, and "
            "TensorFlow ignores changes to what was there then. Move the call to where the graph "
            "is built, before any Session.run."
        )


def _noting(extend_graph: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(extend_graph)
    def noting(self: Any) -> None:
        setattr(self.graph, _HAS_RUN, True)
        extend_graph(self)

    return noting


install()
