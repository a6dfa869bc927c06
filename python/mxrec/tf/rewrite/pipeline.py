"""Datasets that compute what has been moved, behind the user's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops

from mxrec.tf.ops import library
from mxrec.tf.rewrite.plan import Move
from mxrec.tf.rewrite.slicing import Slicer

PREFETCH = 2  # batches that are prepared while one is trained


class Body:
    """The function that is mapped over a dataset: components -> components + moved tensors.

    Args:
        graph: that the tensors are in now.
        slicer: of the graph.
        moves: of one iterator.
    """

    def __init__(self, graph: Any, slicer: Slicer, moves: Sequence[Move]) -> None:
        self._moves = list(moves)
        self._parts = []
        for source in {move.source.name: move.source for move in moves}.values():
            tensors = [move.tensor for move in moves if move.source is source]
            names = list(dict.fromkeys(t.name for t in tensors if t.op is not source))
            ops = slicer.ops(tensors)
            self._parts.append(
                (source, _definition(graph, slicer, ops), _taken(ops, source), names)
            )

    def __call__(self, *components: Any) -> tuple[Any, ...]:
        """Builds the function's ops in the graph of the function."""
        computed = {}
        for source, definition, taken, names in self._parts:
            given = {tensor.name: components[i] for i, tensor in enumerate(source.outputs)}
            computed.update(given)
            if names:
                results = tf.graph_util.import_graph_def(
                    definition,
                    input_map={name: given[name] for name in taken},
                    return_elements=names,
                    name="moved",
                )
                computed.update(zip(names, results, strict=True))
        return (*components, *(self._prepared(move, computed) for move in self._moves))

    def _prepared(self, move: Move, computed: dict[str, Any]) -> Any:
        tensor = computed[move.tensor.name]
        if move.table is None:
            return tensor
        # By name: a one-shot iterator cannot capture the table's handle.
        return library.mxrec_prepare(ids=tensor, table=move.table)


def extended(variant: Any, specs: Sequence[Any], body: Body, prefetch: int = PREFETCH) -> Any:
    """Returns a dataset that maps ``body`` over another one, ahead of the step.

    Args:
        variant: the other dataset.
        specs: tf.TensorSpec of each component of its elements.
        body: what to map.
        prefetch: batches that are computed ahead.
    """
    dataset = dataset_ops._VariantDataset(variant, tuple(specs))
    mapped = dataset.map(tf.autograph.experimental.do_not_convert(body.__call__))
    return mapped.prefetch(prefetch)


def _taken(ops: Sequence[Any], source: Any) -> list[str]:
    """Names of the source's outputs that ops take."""
    taken = {tensor.name: None for op in ops for tensor in op.inputs if tensor.op is source}
    return list(taken)


def _definition(graph: Any, slicer: Slicer, ops: Sequence[Any]) -> Any:
    """The ops as a graph of their own, wherever they were placed."""
    definition = tf.compat.v1.GraphDef()
    definition.versions.CopyFrom(graph.graph_def_versions)
    calls = False
    for op in ops:
        node = definition.node.add()
        node.CopyFrom(op.node_def)
        node.input[:] = [tensor.name for tensor in op.inputs]
        node.device = ""
        if "_class" in node.attr:
            del node.attr["_class"]
        calls = calls or op.graph._is_function(op.type)
        calls = calls or any(v.HasField("func") or v.list.func for v in node.attr.values())
    if calls:
        definition.library.CopyFrom(slicer.obstacles.library)
    return definition
