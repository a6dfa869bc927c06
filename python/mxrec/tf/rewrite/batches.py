"""Python's iterators: what ``get_next`` returned, and what they mean after a rewriting."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.data.util import structure

from mxrec.tf.rewrite.replacements import NewIterator, known_replacements_of, replacements_of
from mxrec.tf.rewrite.slicing import GET_NEXT

_INSTALLED = "_mxrec_follows_rewriting"
_REFUSED = (
    "{}() of iterator {!r} was called after graph rewriting, which has replaced the iterator by "
    "one of longer elements; call it before, and the lookups of this iterator stay as they are."
)


def install() -> None:
    """Has iterators of graphs note what they give, and follow a rewriting. Idempotent."""
    iterator_class = tf.compat.v1.data.Iterator
    if hasattr(iterator_class, _INSTALLED):
        return
    for name, wrap in (
        ("__init__", _noted),
        ("get_next", _get_next),
        ("make_initializer", _make_initializer),
        ("get_next_as_optional", _refused),
        ("string_handle", _refused),
    ):
        plain = getattr(iterator_class, name)
        setattr(iterator_class, name, functools.wraps(plain)(wrap(plain)))
    setattr(iterator_class, _INSTALLED, True)


def _noted(plain: Any) -> Callable[..., None]:
    def __init__(self: Any, iterator_resource: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, iterator_resource, *args, **kwargs)
        graph = _graph_of(self)
        if graph is not None:
            objects = replacements_of(graph).objects
            objects.setdefault(iterator_resource.op.name, weakref.WeakSet()).add(self)

    return __init__


def _get_next(plain: Any) -> Callable[..., Any]:
    def get_next(self: Any, name: str | None = None) -> Any:
        new = _new(self)
        if new is None:
            batch = plain(self, name)
        else:
            with tf.compat.v1.colocate_with(new.handle):
                outputs = tf.raw_ops.IteratorGetNext(
                    iterator=new.handle, name=name, **new.structure
                )
            own = outputs[: len(self._flat_tensor_types)]
            batch = structure.from_tensor_list(self._element_spec, own)
        graph = _graph_of(self)
        if graph is not None:
            handle = self._iterator_resource if new is None else new.handle
            newest = [op for op in handle.consumers() if op.type == GET_NEXT][-1]
            replacements_of(graph).batches[newest.name] = batch
        return batch

    return get_next


def _make_initializer(plain: Any) -> Callable[..., Any]:
    def make_initializer(self: Any, dataset: Any, name: str | None = None) -> Any:
        maker = plain(self, dataset, name)
        new = _new(self)
        if new is not None:
            specs = structure.get_flat_tensor_specs(dataset.element_spec)
            with tf.compat.v1.name_scope(None), tf.control_dependencies(None):
                longer = new.extended(maker.inputs[0], specs)
            maker._update_input(0, longer._variant_tensor)
            maker._update_input(1, new.handle)
        return maker

    return make_initializer


def _refused(plain: Any) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        new = _new(self)
        if new is not None:
            raise RuntimeError(_REFUSED.format(plain.__name__, new.old))
        return plain(self, *args, **kwargs)

    return method


def _new(iterator: Any) -> NewIterator | None:
    """What stands for an iterator since a rewriting; None: itself."""
    graph = _graph_of(iterator)
    known = None if graph is None else known_replacements_of(graph)
    return None if known is None else known.iterator(iterator._iterator_resource)


def _graph_of(iterator: Any) -> Any:
    """The graph of an iterator, if it is the one around this code, and no function's."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    is_here = graph is iterator._iterator_resource.graph
    return graph if is_here and not hasattr(graph, "outer_graph") else None
