"""Fetches and feeds of tensors whose iterator has been replaced."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.client import session as session_lib

from mxrec.tf import sessions
from mxrec.tf.log import logger
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.iterators import MAKE
from mxrec.tf.rewrite.replacements import Replacements, known_replacements_of
from mxrec.tf.rewrite.slicing import GET_NEXT
from mxrec.tf.rewrite.state import Rewriting, known_rewriting_of

_INSTALLED = "_mxrec_fetches_installed"


def install() -> None:
    """Has Sessions take the new tensors where old ones are asked for. Idempotent."""
    if hasattr(session_lib, _INSTALLED):
        return
    # How Sessions take what they are asked for apart, by its type: tensors, sparse and ragged ones,
    # whatever was registered. TensorFlow has no public way to change it for a type that is there.
    registered = session_lib._REGISTERED_EXPANSIONS
    session_lib._REGISTERED_EXPANSIONS = _Expansions(_following(*each) for each in registered)
    session_class = sessions.base_session()
    session_class._run = _inside(session_class._run)
    session_class.partial_run_setup = _inside(session_class.partial_run_setup)
    setattr(session_lib, _INSTALLED, True)


def before_run(graph: Any) -> None:
    """What a graph needs before a session runs it."""
    rewriting = known_rewriting_of(graph)
    if rewriting is not None and rewriting.sites and not (rewriting.done or rewriting.missed):
        _say_what_is_missed(graph, rewriting)
    bring_up_to_date(graph)


def bring_up_to_date(graph: Any, edges: Edges | None = None) -> None:
    """Connects ops that were built since the rewriting; to be called before a run.

    Args:
        graph: a tf.Graph.
        edges: makes the changes.

    Raises:
        RuntimeError: an op that was built since uses the old iterator itself.
    """
    known = known_replacements_of(graph)
    if known is None or not known.tensors or known.version == graph.version:
        return
    edges = edges or Edges()
    _refuse_users_of_old_iterators(graph, known)
    for name in known.tensors:
        old = graph.get_tensor_by_name(name)
        edges.connect_consumers(old, known.tensor(old))
    for name in known.ops:
        old = graph.get_operation_by_name(name)
        edges.reorder(old, known.op(old))
    edges.apply()
    known.version = graph.version


def _refuse_users_of_old_iterators(graph: Any, known: Replacements) -> None:
    for new in set(known.iterators.values()):
        (handle,) = graph.get_operation_by_name(new.old).outputs
        for op in handle.consumers():
            if op.type == MAKE or (op.type == GET_NEXT and op.name not in known.ops):
                raise RuntimeError(
                    f"{op.name!r} ({op.type}) was built after graph rewriting and uses iterator "
                    f"{new.old!r}, which {new.handle.op.name!r} has replaced; build it before, or "
                    "call the method of the iterator, which knows."
                )


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


# --- Tensors, and what holds some -----------------------------------------------------------------


class _Expansions(list[tuple[Any, ...]]):
    """Expansions behind which what is old becomes new, those that are registered later, too."""

    def insert(self, index: Any, expansion: tuple[Any, ...]) -> None:
        super().insert(index, _following(*expansion))

    def append(self, expansion: tuple[Any, ...]) -> None:
        super().append(_following(*expansion))


def _following(kind: Any, fetch: Any, feed: Any, feed_of_partial_run: Any) -> tuple[Any, ...]:
    """An expansion of a type of fetches and feeds, behind which what is old becomes new."""

    def new_fetch(value: Any) -> Any:
        parts, contract = fetch(value)
        return [_current(part) for part in parts], contract

    def new_feed(key: Any, value: Any) -> list[tuple[Any, Any]]:
        return [(copy, v) for part, v in feed(key, value) for copy in _fed(part)]

    def new_partial(key: Any) -> list[Any]:
        return [copy for part in feed_of_partial_run(key) for copy in _fed(part)]

    return (
        kind,
        new_fetch,
        None if feed is None else new_feed,
        None if feed_of_partial_run is None else new_partial,
    )


def _current(element: Any) -> Any:
    """What is fetched for a tensor, an op, or a name of one; whatever else it is, itself."""
    if isinstance(element, (str, bytes)):
        # Sessions take fetches apart inside their graph.
        graph = tf.compat.v1.get_default_graph()
        if known_replacements_of(graph) is not None:
            element = _named(graph, element, allow_operation=True)
    known = known_replacements_of(getattr(element, "graph", None))
    if known is None:
        return element
    if isinstance(element, tf.Tensor):
        return known.tensor(element)
    return known.op(element) if isinstance(element, tf.Operation) else element


def _fed(tensor: Any) -> list[Any]:
    """What is fed for a tensor, or for the name of one."""
    if isinstance(tensor, (str, bytes)) and known_replacements_of(_here.graph) is not None:
        tensor = _named(_here.graph, tensor, allow_operation=False)
    known = known_replacements_of(getattr(tensor, "graph", None))
    if known is None or not isinstance(tensor, tf.Tensor):
        return [tensor]
    if tensor.name in known.upstream:
        raise ValueError(
            f"{tensor.name!r} cannot be fed: the graph was rewritten, and the input pipeline now "
            f"computes {known.upstream[tensor.name]!r} from it. Feed that tensor, or look ids "
            "that are fed up with modify_graph=False."
        )
    return known.fed_with.get(tensor.name, [known.tensor(tensor)])


# --- Names ----------------------------------------------------------------------------------------

_here = threading.local()  # graph: of the session that takes feeds apart in this thread


def _inside(plain: Any) -> Callable[..., Any]:
    """A method of Sessions that takes feeds apart, which may be names of its graph."""

    @functools.wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = getattr(_here, "graph", None)
        _here.graph = self.graph
        try:
            return plain(self, *args, **kwargs)
        finally:
            _here.graph = outer

    return method


def _named(graph: Any, name: Any, allow_operation: bool) -> Any:
    """The tensor, or the op, of a name; else the name, for TensorFlow to refuse."""
    try:
        return graph.as_graph_element(name, True, allow_operation)
    except (KeyError, ValueError):
        return name
