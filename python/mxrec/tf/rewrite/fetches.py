"""Fetches and feeds of tensors whose iterator has been replaced."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.client import session as session_lib

from mxrec.tf.log import logger
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.slicing import GET_NEXT
from mxrec.tf.rewrite.state import Rewriting, known_rewriting_of

_INSTALLED = "_mxrec_fetches_installed"


def install() -> None:
    """Has Sessions take the new tensors where old ones are asked for. Idempotent."""
    if hasattr(session_lib, _INSTALLED):
        return
    register = session_lib.register_session_run_conversion_functions
    register(tf.Tensor, _fetch, _feed, lambda feed: [each for each, _ in _feed(feed, None)])
    register(tf.Operation, _fetch_op)
    setattr(session_lib, _INSTALLED, True)


def bring_up_to_date(graph: Any) -> None:
    """Connects ops that were built since the rewriting; to be called before a run."""
    rewriting = known_rewriting_of(graph)
    if rewriting is None:
        return
    if rewriting.sites and not rewriting.done and not rewriting.missed:
        _say_what_is_missed(graph, rewriting)
    if not rewriting.replaced or rewriting.version == graph.version:
        return
    edges = Edges()
    for name in rewriting.replaced:
        old = graph.get_tensor_by_name(name)
        edges.connect_consumers(old, rewriting.current(old))
    for name in rewriting.replaced_ops:
        old = graph.get_operation_by_name(name)
        edges.reorder(old, rewriting.current_op(old))
    edges.apply()
    rewriting.version = graph.version


def _say_what_is_missed(graph: Any, rewriting: Rewriting) -> None:
    rewriting.missed = True
    if any(op.type == GET_NEXT for op in graph.get_operations()):
        names = [repr(site.name) for site in rewriting.sites]
        others = f" and {len(names) - 3} others" if len(names) > 3 else ""
        logger.warning(
            "sparse_lookup: %s asked for modify_graph=True, but the graph runs without having been "
            "rewritten; results are the same, and keys are not prepared in the input pipeline. "
            "Call modify_graph_and_start_emb_cache() before the first Session.run, or give "
            "GraphModifierHook() to the Estimator.",
            ", ".join(names[:3]) + others,
        )


def _first(values: Any) -> Any:
    return values[0] if values else None


def _fetch(tensor: Any) -> tuple[list[Any], Any]:
    rewriting = known_rewriting_of(getattr(tensor, "graph", None))
    if rewriting is not None and rewriting.replaced:
        tensor = rewriting.current(tensor)
    return [tensor], _first


def _fetch_op(op: Any) -> tuple[list[Any], Any]:
    rewriting = known_rewriting_of(op.graph)
    if rewriting is not None and rewriting.replaced_ops:
        op = rewriting.current_op(op)
    return [op], _first


def _feed(tensor: Any, value: Any) -> list[tuple[Any, Any]]:
    rewriting = known_rewriting_of(getattr(tensor, "graph", None))
    if rewriting is None or not rewriting.done:
        return [(tensor, value)]
    if tensor.name in rewriting.upstream:
        raise ValueError(
            f"{tensor.name!r} cannot be fed: the graph was rewritten, and the input pipeline now "
            f"computes {rewriting.upstream[tensor.name]!r} from it. Feed that tensor, or look ids "
            "that are fed up with modify_graph=False."
        )
    copies = rewriting.fed_with.get(tensor.name, [rewriting.current(tensor)])
    return [(each, value) for each in copies]
