"""The new iterator of a graph, and the edges that lead to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.iterators import Source
from mxrec.tf.rewrite.pipeline import Body, extended
from mxrec.tf.rewrite.plan import Move, Plan
from mxrec.tf.rewrite.replacements import NewIterator, replacements_of


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """An iterator and what is to take its place.

    Attributes:
        source: the old one.
        moves: what has been moved behind it.
        get_nexts: the new get_next op for each old one.
        components: how many tensors elements had; the moved ones follow in the order of moves.
        new: what stands for the iterator.
    """

    source: Source
    moves: list[Move]
    get_nexts: list[Any]
    components: int
    new: NewIterator

    def moved(self, move: Move) -> Any:
        """Returns the tensor that a move has led to."""
        place = self.components + self.moves.index(move)
        return self.get_nexts[self.source.sources.index(move.source)].outputs[place]

    def replacements(self) -> Iterator[tuple[Any, Any]]:
        """Returns each tensor of the old get_next ops, with what takes its place."""
        for old, new in zip(self.source.sources, self.get_nexts, strict=True):
            yield from zip(old.outputs, new.outputs[: self.components], strict=True)


def rebuild(graph: Any, plan: Plan, source: Source, moves: list[Move], edges: Edges) -> Rebuilt:
    """Builds an iterator over the old one's datasets and the moved ops.

    Args:
        graph: that the iterator is in; it gets new ops, its edges stay.
        plan: of the rewriting.
        source: the old iterator.
        moves: what moves behind it.
        edges: gets the changes that put the new one into its place.
    """
    body = Body(graph, plan.slicer, moves)
    old = source.iterator
    with graph.as_default(), _apart(f"mxrec_rewrite/{old.name}", old.device):
        if source.one_shot:
            structure, handle = _one_shot(source, body)
        else:
            structure, handle = _initializable(source, body, edges)
        components = len(source.sources[0].outputs)
        structure["output_shapes"][components:] = [
            move.tensor.shape.merge_with(shape)
            for move, shape in zip(moves, structure["output_shapes"][components:], strict=True)
        ]
        get_nexts = [_get_next(each, handle, structure) for each in source.sources]
    before = replacements_of(graph).iterator(old.outputs[0])
    bodies = (body,) if before is None else (*before.bodies, body)
    new = NewIterator(old.name, handle, structure, bodies)
    rebuilt = Rebuilt(source, moves, get_nexts, components, new)
    _reconnect(rebuilt, edges)
    return rebuilt


@contextmanager
def _apart(scope: str, device: str) -> Iterator[None]:
    """Where new ops depend on nothing around the call."""
    with (
        tf.compat.v1.name_scope(None),
        tf.compat.v1.name_scope(scope),
        tf.control_dependencies(None),
        tf.device(None),
        tf.device(device or None),
    ):
        yield


def _specs(source: Source) -> list[Any]:
    get_next = source.sources[0]
    types = get_next.get_attr("output_types")
    shapes = [tf.TensorShape(shape) for shape in get_next.get_attr("output_shapes")]
    return [tf.TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]


def _structure_of(dataset: Any) -> dict[str, list[Any]]:
    specs: Sequence[Any] = dataset.element_spec
    return {
        "output_types": [spec.dtype for spec in specs],
        "output_shapes": [spec.shape for spec in specs],
    }


def _initializable(source: Source, body: Body, edges: Edges) -> tuple[dict[str, list[Any]], Any]:
    datasets = []
    for maker in source.makers:
        variant = maker.inputs[0]
        with tf.device(variant.op.device or None):
            datasets.append(extended(variant, _specs(source), body))
    structure = _structure_of(datasets[0])
    old = source.iterator
    shared = tf.compat.as_str(old.get_attr("shared_name"))
    handle = tf.raw_ops.IteratorV2(
        shared_name=f"{shared}/mxrec_rewrite" if shared else "",
        container=tf.compat.as_str(old.get_attr("container")),
        name="iterator",
        **structure,
    )
    for maker, dataset in zip(source.makers, datasets, strict=True):
        edges.connect(maker, 0, dataset._variant_tensor)
        edges.connect(maker, 1, handle)
    return structure, handle


def _one_shot(source: Source, body: Body) -> tuple[dict[str, list[Any]], Any]:
    factory = source.iterator.get_attr("dataset_factory").name
    # Stateful, or TensorFlow tries to make a constant of the dataset.
    (variant,) = tf.raw_ops.StatefulPartitionedCall(args=[], Tout=[tf.variant], f=factory)
    dataset = extended(variant, _specs(source), body)
    iterator = tf.compat.v1.data.make_one_shot_iterator(dataset)
    return _structure_of(dataset), iterator._iterator_resource


def _get_next(old: Any, handle: Any, structure: dict[str, list[Any]]) -> Any:
    with tf.control_dependencies(old.control_inputs), tf.compat.v1.colocate_with(handle):
        outputs = tf.raw_ops.IteratorGetNext(iterator=handle, name="get_next", **structure)
    for before, after in zip(old.outputs, outputs, strict=False):
        after.set_shape(before.shape)
    return outputs[0].op


def _reconnect(rebuilt: Rebuilt, edges: Edges) -> None:
    for before, after in rebuilt.replacements():
        edges.connect_consumers(before, after)
    for before, after in zip(rebuilt.source.sources, rebuilt.get_nexts, strict=True):
        edges.reorder(before, after)
    # After the consumers of get_next, some of which take moved tensors.
    for move in rebuilt.moves:
        moved = rebuilt.moved(move)
        moved.set_shape(move.tensor.shape)
        for op, place in move.users:
            edges.connect(op, place, moved)
