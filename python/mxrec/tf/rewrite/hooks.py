"""Automatic graph rewriting in Sessions and Estimators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mxrec.tf.config import ConfigInitializer
from mxrec.tf.rewrite import report
from mxrec.tf.rewrite.modify import modify_graph as rewrite
from mxrec.tf.rewrite.state import Wishes, rewriting_of
from mxrec.tf.validation import check_bool


def modify_graph_and_start_emb_cache(full_graph: Any = None, dump_graph: bool = False) -> None:
    """Moves the ids of lookups with ``modify_graph=True`` into the input pipeline.

    To be called before the graph's first run. Lookups whose ids cannot move stay, with a warning.

    Args:
        full_graph: a tf.Graph; None: the default one.
        dump_graph: write the graph before and after, for TensorBoard, and a report to the folder
            ``mxrec_graph_dump`` of the working directory.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``full_graph`` is a function's graph.
        RuntimeError: the graph has run or is finalized, there is none in eager mode, or rewriting
            failed; the edges are as before.
    """
    ConfigInitializer.get_instance()
    check_bool("dump_graph", dump_graph)
    if full_graph is None:
        if tf.executing_eagerly():
            raise RuntimeError(
                "modify_graph_and_start_emb_cache needs a graph, and this is eager mode; pass "
                "full_graph, or call it inside tf.Graph().as_default()."
            )
        full_graph = tf.compat.v1.get_default_graph()
    rewrite(full_graph, dump_graph)


class _Hook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """A hook that wishes something of the rewriting."""

    def _wishes(self) -> Wishes:
        rewriting = rewriting_of(tf.compat.v1.get_default_graph())
        if rewriting.done:
            raise RuntimeError(
                f"{type(self).__name__} must stand before GraphModifierHook in the list of hooks; "
                "the graph has been rewritten already."
            )
        return rewriting.wishes


class GraphModifierHook(_Hook):
    """Rewrites the graph of an Estimator so that keys are processed in the input pipeline.

    It may be among the hooks of training, evaluation and prediction, as often as they come.

    Args:
        dump_graph: as in ``modify_graph_and_start_emb_cache``.
        modify_graph: False: the graph stays as it is.
    """

    def __init__(self, dump_graph: bool = False, modify_graph: bool = True) -> None:
        self._dump = check_bool("dump_graph", dump_graph)
        self._modify = check_bool("modify_graph", modify_graph)

    def begin(self) -> None:
        """Rewrites the graph, before it is finalized."""
        if self._modify:
            modify_graph_and_start_emb_cache(dump_graph=self._dump)
        elif self._dump:
            report.Dump(tf.compat.v1.get_default_graph())


class LookupSubgraphSlicerHook(_Hook):
    """Moves ops and the subgraph that they need into the input pipeline.

    They move even if they lead to no lookup. It stands before ``GraphModifierHook``.

    Args:
        op_types: types of ops, such as "StringToHashBucketFast".

    Raises:
        TypeError: it is no list of str.
        ValueError: it is empty.
    """

    def __init__(self, op_types: Sequence[str]) -> None:
        if isinstance(op_types, (str, bytes)) or not isinstance(op_types, Sequence):
            raise TypeError(f"op_types must be a list of str, got {op_types!r}.")
        for op_type in op_types:
            if not isinstance(op_type, str):
                raise TypeError(f"op_types must be a list of str, got {op_type!r} in it.")
        if not op_types:
            raise ValueError("op_types must name at least one type of ops, got none.")
        self._op_types = tuple(op_types)

    def begin(self) -> None:
        """Leaves a note for ``GraphModifierHook``."""
        self._wishes().op_types.update(self._op_types)


class OrphanLookupKeySlicerHook(_Hook):
    """Makes lookups work whose keys come from no dataset.

    They run where they are, without a warning. It stands before ``GraphModifierHook``.
    """

    def begin(self) -> None:
        """Leaves a note for ``GraphModifierHook``."""
        self._wishes().orphans = True


class ACGPushOpsToDatasetHook(_Hook):
    """Moves every op that can run there between the iterator and the ids into the dataset.

    Where a lookup's ids cannot move as a whole, those of the ops that can move do. It stands
    before ``GraphModifierHook``.

    Args:
        dump_graph: as in ``modify_graph_and_start_emb_cache``.
    """

    def __init__(self, dump_graph: bool = False) -> None:
        self._dump = check_bool("dump_graph", dump_graph)

    def begin(self) -> None:
        """Leaves a note for ``GraphModifierHook``."""
        wishes = self._wishes()
        wishes.push = True
        wishes.dump = wishes.dump or self._dump
