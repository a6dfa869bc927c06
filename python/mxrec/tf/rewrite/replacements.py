"""What stands for what in a rewritten graph. It lasts as long as the graph."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

from mxrec.tf.rewrite.pipeline import Body, extended

_ATTRIBUTE = "_mxrec_replacements"
COLLECTION = "iterators"  # where TensorFlow keeps the handles of a graph's iterators


@dataclasses.dataclass(frozen=True, eq=False)
class NewIterator:
    """An iterator that stands for another one, whose elements are longer.

    Attributes:
        old: name of the op that gives the handle of the other one.
        handle: resource tensor.
        structure: ``output_types`` and ``output_shapes`` of its elements; those of the other one's
            come first.
        bodies: what was mapped over the datasets, one after the other.
    """

    old: str
    handle: Any
    structure: dict[str, list[Any]]
    bodies: tuple[Body, ...]

    def extended(self, variant: Any, specs: Any) -> Any:
        """Returns a dataset of longer elements.

        Args:
            variant: the dataset.
            specs: tf.TensorSpec of each component of its elements.
        """
        dataset = None
        for body in self.bodies:
            dataset = extended(variant, specs, body)
            variant, specs = dataset._variant_tensor, dataset.element_spec
        return dataset


@dataclasses.dataclass
class Replacements:
    """What stands for what.

    Attributes:
        batches: what ``get_next`` of an iterator returned, by the name of its op.
        tensors: of old iterators, and what stands for each, by name.
        ops: their ops likewise.
        fed_with: tensors that may still be fed, by name: moved tensors and their copies.
        upstream: name of each tensor from which moved tensors are computed, and of one of them.
        iterators: by the names of the old and of the new one.
        objects: Python's iterators, by the name of the op that gave each its handle.
        underivable: name of each tensor that moved floats depend on, and of one of them: gradients
            do not pass through the input pipeline.
        version: of the graph, when its edges were last brought up to date.
    """

    batches: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensors: dict[str, Any] = dataclasses.field(default_factory=dict)
    ops: dict[str, Any] = dataclasses.field(default_factory=dict)
    fed_with: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    upstream: dict[str, str] = dataclasses.field(default_factory=dict)
    iterators: dict[str, NewIterator] = dataclasses.field(default_factory=dict)
    objects: dict[str, weakref.WeakSet[Any]] = dataclasses.field(default_factory=dict)
    underivable: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = -1

    def tensor(self, tensor: Any) -> Any:
        """Returns what stands for a tensor: itself, unless an iterator gave it and is replaced."""
        while tensor.name in self.tensors:
            tensor = self.tensors[tensor.name]
        return tensor

    def op(self, op: Any) -> Any:
        """Returns what stands for an op."""
        while op.name in self.ops:
            op = self.ops[op.name]
        return op

    def iterator(self, handle: Any) -> NewIterator | None:
        """Returns what stands for the iterator of a handle, old or new; None: itself."""
        new = self.iterators.get(handle.op.name)
        while new is not None and (newer := self.iterators[new.handle.op.name]) is not new:
            new = newer
        return new

    def saved(self) -> Callable[[], None]:
        """Returns a function that makes everything as it is now again."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts = {
            name: dict(part) if isinstance(part, dict) else part for name, part in parts.items()
        }
        fed_with = {name: list(copies) for name, copies in self.fed_with.items()}
        handles = [
            (each, each._iterator_resource) for holders in self.objects.values() for each in holders
        ]

        def restore() -> None:
            self.__dict__.update(parts, fed_with=fed_with)
            for each, handle in handles:
                each._iterator_resource = handle

        return restore

    def note_iterator(self, new: NewIterator) -> None:
        """Notes what stands for an iterator, also for those that hold it."""
        name = new.handle.op.name
        self.iterators[new.old] = self.iterators[name] = new
        holders = self.objects.pop(new.old, weakref.WeakSet())
        for each in holders:
            each._iterator_resource = new.handle
        self.objects[name] = holders


def replacements_of(graph: Any) -> Replacements:
    """Returns what stands for what in a graph that is not a function's, created if needed."""
    known = known_replacements_of(graph)
    if known is None:
        known = Replacements()
        setattr(graph, _ATTRIBUTE, known)
    return known


def known_replacements_of(graph: Any) -> Replacements | None:
    """Returns what stands for what in a graph, if it has such. Cheap: asked in every run."""
    return getattr(graph, _ATTRIBUTE, None)
