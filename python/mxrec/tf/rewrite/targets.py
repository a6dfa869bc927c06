"""What scripts ask of the rewritten iterator: its initializer and its batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.rewrite.replacements import replacements_of
from mxrec.tf.rewrite.state import Rewritten, known_rewriting_of
from mxrec.tf.validation import check_bool


def get_initializer(is_training: bool) -> Any:
    """Returns the op that initializes the rewritten iterator of the default graph.

    It is the iterator's own initializer, which now initializes the rewritten one.

    Args:
        is_training: of the iterator that feeds training lookups; False: other lookups.

    Raises:
        RuntimeError: there is none: the graph was not rewritten, no such lookup was, or its
            iterator is one-shot.
        ValueError: there is more than one.
    """
    asked = f"get_initializer(is_training={check_bool('is_training', is_training)})"
    iterator = _iterator(is_training, asked)
    if not iterator.initializers:
        raise RuntimeError(
            f"{asked}: iterator {iterator.iterator!r} is one-shot, and is initialized by itself."
        )
    if len(iterator.initializers) > 1:
        names = ", ".join(repr(op.name) for op in iterator.initializers)
        raise ValueError(
            f"{asked}: iterator {iterator.iterator!r} has several initializers ({names}); run "
            "the one that your script made for the dataset."
        )
    return iterator.initializers[0]


def get_target_batch(is_training: bool) -> Any:
    """Returns the batch of the rewritten iterator of the default graph.

    Args:
        is_training: of the iterator that feeds training lookups; False: other lookups.

    Returns:
        What ``get_next()`` of the iterator returned, with the new tensors in place of the old
        ones; a list of the tensors, where the op was made otherwise.

    Raises:
        RuntimeError: there is none.
        ValueError: there is more than one.
    """
    asked = f"get_target_batch(is_training={check_bool('is_training', is_training)})"
    iterator = _iterator(is_training, asked)
    if len(iterator.sources) > 1:
        names = ", ".join(repr(op.name) for op in iterator.sources)
        raise ValueError(
            f"{asked}: iterator {iterator.iterator!r} has several get_next ops ({names})."
        )
    (source,) = iterator.sources
    known = replacements_of(tf.compat.v1.get_default_graph())
    batch = known.batches.get(source.name, source.outputs)
    return tf.nest.map_structure(known.tensor, batch, expand_composites=True)


def _iterator(is_training: bool, asked: str) -> Rewritten:
    graph = tf.compat.v1.get_default_graph()
    rewriting = known_rewriting_of(graph)
    if rewriting is None or not rewriting.done:
        raise RuntimeError(
            f"{asked}: the default graph has not been rewritten; call "
            "modify_graph_and_start_emb_cache() first."
        )
    found = [each for each in rewriting.iterators if (each.trains if is_training else each.reads)]
    kind = "training" if is_training else "reading"
    if not found:
        raise RuntimeError(
            f"{asked}: no {kind} lookup of the default graph was rewritten; the warnings of the "
            "rewriting say why. Lookups that stay need the iterator's own initializer only."
        )
    if len(found) > 1:
        names = ", ".join(repr(each.iterator) for each in found)
        raise ValueError(
            f"{asked}: several iterators feed {kind} lookups ({names}); use their own "
            "initializers and batches, which work as before."
        )
    return found[0]
