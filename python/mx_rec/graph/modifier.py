"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.rewrite.hooks import (
    GraphModifierHook,
    LookupSubgraphSlicerHook,
    OrphanLookupKeySlicerHook,
    modify_graph_and_start_emb_cache,
)

__all__ = [
    "GraphModifierHook",
    "LookupSubgraphSlicerHook",
    "OrphanLookupKeySlicerHook",
    "modify_graph_and_start_emb_cache",
]
