"""The structure of what ``get_next`` of an iterator returns; the graph keeps its leaves only."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from mxrec.tf.rewrite.slicing import GET_NEXT
from mxrec.tf.rewrite.state import rewriting_of

_INSTALLED = "_mxrec_notes_batches"


def install() -> None:
    """Has iterators of graphs note what ``get_next`` returned. Idempotent."""
    iterator_class = tf.compat.v1.data.Iterator
    if hasattr(iterator_class, _INSTALLED):
        return
    iterator_class.get_next = _noting(iterator_class.get_next)
    setattr(iterator_class, _INSTALLED, True)


def _noting(plain: Any) -> Any:
    @functools.wraps(plain)
    def get_next(self: Any, name: str | None = None) -> Any:
        batch = plain(self, name)
        graph = tf.compat.v1.get_default_graph()
        handle = self._iterator_resource
        if not tf.executing_eagerly() and graph is handle.graph and _is_outermost(graph):
            newest = [op for op in handle.consumers() if op.type == GET_NEXT][-1]
            rewriting_of(graph).batches[newest.name] = batch
        return batch

    return get_next


def _is_outermost(graph: Any) -> bool:
    return not hasattr(graph, "outer_graph")
