"""Whether a dataset prepares keys already: ``get_asc_insert_func`` in its last map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from mxrec.tf.rewrite.iterators import Source
from mxrec.tf.rewrite.movable import Obstacles

_MAPS = frozenset({"MapDataset", "ParallelMapDataset", "ParallelMapDatasetV2"})
# What gives out elements as they are, each time anew (a cache does not).
_PASSING = frozenset(
    {"PrefetchDataset", "OptionsDataset", "ModelDataset", "RepeatDataset", "TakeDataset"}
    | {"SkipDataset", "ShuffleDataset", "ShuffleDatasetV2", "ShuffleDatasetV3"}
)
_PREPARE = "MxrecPrepare"

# Tables whose keys the function of some dataset prepares. Without this, each rewriting would have
# to ask TensorFlow for the functions of its graph, which come with the whole graph.
_tables: set[str] = set()


def note(table: str) -> None:
    """Notes that a function of a dataset prepares keys of a table, by name."""
    _tables.add(table)


def prepares(obstacles: Obstacles, source: Source, keys: Any, table: str) -> bool:
    """Returns whether every dataset of an iterator prepares keys that are dense components.

    Args:
        obstacles: of the graph.
        source: the iterator that the keys come from.
        keys: of a lookup: a component of its elements, or one cast to int64.
        table: the name of the lookup's table.
    """
    if table not in _tables:
        return False
    tensor = keys
    if tensor.op.type == "Cast" and tensor.dtype == tf.int64:
        tensor = tensor.op.inputs[0]
    if tensor.op not in source.sources:
        return False
    functions = list(_last_maps(obstacles, source))
    return all(
        function is not None and _prepares(function, tensor.value_index, keys.dtype, table)
        for function in functions
    )


def _last_maps(obstacles: Obstacles, source: Source) -> Iterator[Any]:
    """The function of the last map of each dataset; None: there is none, or not at the end."""
    if source.one_shot:
        factory = obstacles.definitions[source.iterator.get_attr("dataset_factory").name]
        nodes = {node.name: node for node in factory.node_def}
        (dataset,) = factory.ret.values()
        yield _last_map(obstacles, dataset, nodes.get)
        return
    graph = source.iterator.graph
    for maker in source.makers:
        name = maker.inputs[0].name
        yield _last_map(obstacles, name, lambda name: graph.get_operation_by_name(name).node_def)


def _last_map(obstacles: Obstacles, dataset: str, node_of: Callable[[str], Any]) -> Any:
    node = node_of(_node(dataset))
    while node is not None and node.op in _PASSING:
        node = node_of(_node(node.input[0]))
    if node is None or node.op not in _MAPS:
        return None
    return obstacles.definitions[node.attr["f"].func.name]


def _prepares(function: Any, output: int, dtype: Any, table: str) -> bool:
    nodes = {node.name: node for node in function.node_def}
    result = _origin(function.ret[function.signature.output_arg[output].name], nodes)
    return any(
        node.op == _PREPARE
        and tf.compat.as_str(node.attr["table"].s) == table
        and node.attr["T"].type == dtype.as_datatype_enum
        and _origin(node.input[0], nodes) == result
        for node in function.node_def
    )


def _origin(tensor: str, nodes: dict[str, Any]) -> str:
    """Where a tensor of a function comes from, behind what does not change the keys in it."""
    node = nodes.get(_node(tensor))
    while node is not None and (
        node.op in ("Identity", _PREPARE)
        or (node.op == "Cast" and node.attr["DstT"].type == tf.int64.as_datatype_enum)
    ):
        tensor = node.input[0]
        node = nodes.get(_node(tensor))
    return tensor


def _node(tensor: str) -> str:
    """The name of the node, or of the argument, that a tensor is of."""
    return tensor.split(":")[0]
