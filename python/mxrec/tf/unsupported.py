"""Features of the API that this version does not have.

Everything here is accepted where it is off, and raises NotImplementedError naming the feature
where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import tensorflow as tf

from mxrec.tf.validation import check_bool

_REWRITING = "automatic graph rewriting"


def not_delivered(feature: str, asked_by: str, remedy: str = "leave it off") -> NotImplementedError:
    """Returns the error that says that a feature is not in this version.

    Args:
        feature: what is missing.
        asked_by: the argument or call that asked for it.
        remedy: what to do instead.
    """
    return NotImplementedError(
        f"{asked_by}: this version of mxrec does not have {feature}; {remedy}."
    )


# --- Hooks --------------------------------------------------------------------------------------


class _Hook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """A session hook that does nothing."""


class GraphModifierHook(_Hook):
    """Rewrites the graph of an Estimator so that keys are processed in the input pipeline.

    Args:
        dump_graph: write the graph to a file.
        modify_graph: False: the hook does nothing.
    """

    def __init__(self, dump_graph: bool = False, modify_graph: bool = True) -> None:
        dump = check_bool("dump_graph", dump_graph)
        if check_bool("modify_graph", modify_graph) or dump:
            raise not_delivered(_REWRITING, "GraphModifierHook")


class LookupSubgraphSlicerHook(_Hook):
    """Moves ops and the subgraph that they need into the input pipeline."""

    def __init__(self, op_types: Sequence[str]) -> None:
        raise not_delivered(_REWRITING, f"LookupSubgraphSlicerHook(op_types={list(op_types)!r})")


class OrphanLookupKeySlicerHook(_Hook):
    """Makes rewritten lookups work whose keys come from no dataset."""

    def __init__(self) -> None:
        raise not_delivered(_REWRITING, "OrphanLookupKeySlicerHook")


class ACGPushOpsToDatasetHook(_Hook):
    """Moves every op that can run there between the iterator and the ids into the dataset."""

    def __init__(self, dump_graph: bool = False) -> None:
        check_bool("dump_graph", dump_graph)
        raise not_delivered(_REWRITING, "ACGPushOpsToDatasetHook")


# --- Functions ----------------------------------------------------------------------------------


def modify_graph_and_start_emb_cache(full_graph: Any = None, dump_graph: bool = False) -> NoReturn:
    """Rewrites the graph for a Session."""
    raise not_delivered(_REWRITING, "modify_graph_and_start_emb_cache")


def get_initializer(is_training: bool) -> NoReturn:
    """Returns the initializer of the rewritten iterator."""
    raise not_delivered(_REWRITING, f"get_initializer(is_training={is_training})")


def get_target_batch(is_training: bool) -> NoReturn:
    """Returns the batch of the rewritten iterator."""
    raise not_delivered(_REWRITING, f"get_target_batch(is_training={is_training})")
