"""Datasets that compute what has been moved, behind the user's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops

from mxrec.tf.ops import library
from mxrec.tf.rewrite.plan import Move
from mxrec.tf.rewrite.slicing import Slicer

PREFETCH, MOST_PREFETCH = 2, 16  # batches that are prepared while one is trained
_TRANSPARENT = ("OptionsDataset", "ModelDataset", "FinalizeDataset")


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


def extended(variant: Any, specs: Sequence[Any], body: Body) -> Any:
    """Returns a dataset that maps ``body`` over another one, ahead of the step.

    Args:
        variant: the other dataset.
        specs: tf.TensorSpec of each component of its elements.
        body: what to map.
    """
    dataset = dataset_ops._VariantDataset(variant, tuple(specs))
    mapped = dataset.map(tf.autograph.experimental.do_not_convert(body.__call__))
    return mapped.prefetch(prefetch_of(variant))


def prefetch_of(variant: Any) -> int:
    """Returns how many batches to prepare ahead of the step: as many as the dataset prefetches.

    What is prepared comes out of the dataset, so the depth of a prefetch that it ends in holds for
    reading ahead only if preparation runs as far ahead. PREFETCH where there is no such prefetch,
    or a smaller one, or one that TensorFlow tunes: it goes by empty buffers, and a read that is
    late leaves none.

    Args:
        variant: the dataset.
    """
    op, index = variant.op, variant.value_index
    depth: Any = None
    if "f" in op.node_def.attr and op.type.endswith("PartitionedCall"):
        depth = _prefetch_of_call(op, index)
    else:
        while op.type in _TRANSPARENT:
            op = op.inputs[0].op
        if op.type == "PrefetchDataset":
            depth = tf.get_static_value(op.inputs[1])
    return PREFETCH if depth is None else min(max(int(depth), PREFETCH), MOST_PREFETCH)


def _prefetch_of_call(op: Any, index: int) -> Any:
    """The same of what a function returns; None: it ends in no prefetch of a constant depth."""
    name = op.get_attr("f").name
    library = op.graph.as_graph_def().library.function
    definition = next(f for f in library if f.signature.name == name)
    nodes = {node.name: node for node in definition.node_def}
    result = definition.signature.output_arg[index].name

    def source(tensor: str) -> Any:
        """The node that gives a tensor; None: an argument of the function."""
        node = nodes.get(tensor.split(":")[0])
        while node is not None and node.op == "Identity":
            node = nodes.get(node.input[0].split(":")[0])
        return node

    node = source(definition.ret[result])
    while node is not None and node.op in _TRANSPARENT:
        node = source(node.input[0])
    if node is None or node.op != "PrefetchDataset":
        return None
    size = source(node.input[1])
    return tf.make_ndarray(size.attr["value"].tensor) if size and size.op == "Const" else None


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
