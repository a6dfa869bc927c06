"""Iterators of a graph: which can be rewritten, and what belongs to one."""

from __future__ import annotations

import dataclasses
from typing import Any

from mxrec.tf.rewrite.slicing import GET_NEXT, Refusal

MAKE = "MakeIterator"
ONE_SHOT = "OneShotIterator"
_STRING_HANDLE = "IteratorToStringHandle"
_INITIALIZABLE = ("IteratorV2", "Iterator")


@dataclasses.dataclass(frozen=True)
class Source:
    """An iterator and what uses it.

    Attributes:
        iterator: the op that gives its handle.
        sources: its get_next ops.
        makers: its MakeIterator ops; none if it is one-shot.
    """

    iterator: Any
    sources: tuple[Any, ...]
    makers: tuple[Any, ...]

    @property
    def one_shot(self) -> bool:
        """Whether it needs no initialization."""
        return bool(self.iterator.type == ONE_SHOT)


def source_of(get_next: Any) -> Source:
    """Returns the iterator of a get_next op, with all that uses it."""
    handle = get_next.inputs[0]
    users = handle.consumers()
    return Source(
        handle.op,
        tuple(op for op in users if op.type == GET_NEXT),
        tuple(op for op in users if op.type == MAKE),
    )


def _by_handle(graph: Any) -> bool:
    """Whether some op of the graph finds its iterator by a string."""
    return any(op.type.startswith("IteratorFromStringHandle") for op in graph.get_operations())


def refuse_source(get_next: Any) -> Refusal | None:
    """Why the iterator of a get_next op cannot be rewritten; None: it can."""
    iterator = get_next.inputs[0].op
    kind = f"({iterator.type})"
    if iterator.type not in (*_INITIALIZABLE, ONE_SHOT):
        return Refusal(iterator.name, f"{kind} is an iterator that is chosen elsewhere")
    for op in get_next.inputs[0].consumers():
        if op._get_control_flow_context() is not None:
            return Refusal(op.name, f"({op.type}) is inside control flow")
        if op.type == _STRING_HANDLE:
            # Every iterator has one, whether it is used or not.
            if op.outputs[0].consumers() or _by_handle(op.graph):
                return Refusal(op.name, f"({op.type}) may let other ops read the iterator")
        elif op.type not in (GET_NEXT, MAKE):
            return Refusal(op.name, f"({op.type}) uses the iterator itself")
    if iterator.type in _INITIALIZABLE and not source_of(get_next).makers:
        return Refusal(iterator.name, f"{kind} is initialized by no op of this graph")
    return None
