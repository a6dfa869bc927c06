"""From a tensor back to the iterator that it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mxrec.tf.rewrite.movable import Obstacles

GET_NEXT = "IteratorGetNext"


class Refusal(NamedTuple):
    """Why something stays where it is.

    Attributes:
        op: name of the op that keeps it there.
        reason: what is the matter with the op, to follow its name.
    """

    op: str
    reason: str


class Reach(NamedTuple):
    """Where an op's outputs come from.

    Attributes:
        source: the one get_next op; None: none, the outputs are constant, or refused.
        refusal: why they cannot be computed in the input pipeline; None: they can.
    """

    source: Any
    refusal: Refusal | None


class Slicer:
    """Follows edges back from tensors of one graph.

    Args:
        obstacles: of the graph.
        refuse_source: why nothing can be moved behind a get_next op; None: it can.
    """

    def __init__(
        self, obstacles: Obstacles, refuse_source: Callable[[Any], Refusal | None]
    ) -> None:
        self.obstacles = obstacles
        self._refuse_source = refuse_source
        self._reaches: dict[str, Reach] = {}

    def reach(self, op: Any) -> Reach:
        """Returns where an op's outputs come from."""
        # A stack of its own: graphs are deeper than Python's.
        pending = [op]
        while pending:
            here = pending[-1]
            if here.name in self._reaches:
                pending.pop()
                continue
            known = self._without_inputs(here)
            if known is None:
                missing = [t.op for t in here.inputs if t.op.name not in self._reaches]
                if missing:
                    pending += reversed(missing)
                    continue
                known = self._of_inputs(here)
            self._reaches[here.name] = known
            pending.pop()
        return self._reaches[op.name]

    def refusal(self, tensor: Any) -> Refusal | None:
        """Why a tensor cannot be computed in the input pipeline; None: it can."""
        reach = self.reach(tensor.op)
        if reach.refusal is None and reach.source is None:
            return Refusal(tensor.op.name, "is computed from no dataset's iterator")
        return reach.refusal

    def ops(self, tensors: Iterable[Any]) -> list[Any]:
        """Returns the ops between get_next ops and tensors that can move, inputs first."""
        return [op for op in ancestors(tensors, GET_NEXT) if op.type != GET_NEXT]

    def frontier(self, tensor: Any) -> list[Any]:
        """Returns the last tensors on the way to one that can be computed in the pipeline."""
        found: dict[str, Any] = {}
        for op in ancestors([tensor]):
            if self.reach(op).refusal is None:
                continue
            for each in op.inputs:
                reach = self.reach(each.op)
                if reach.source is not None and reach.source is not each.op:
                    found.setdefault(each.name, each)
        return list(found.values())

    def _without_inputs(self, op: Any) -> Reach | None:
        if op.type == GET_NEXT:
            refusal = self._refuse_source(op)
            return Reach(op if refusal is None else None, refusal)
        held = self.obstacles.of(op)
        return None if held is None else Reach(None, Refusal(op.name, f"({op.type}) {held}"))

    def _of_inputs(self, op: Any) -> Reach:
        reaches = [self._reaches[tensor.op.name] for tensor in op.inputs]
        for reach in reaches:
            if reach.refusal is not None:
                return Reach(None, reach.refusal)
        sources = {reach.source.name: reach.source for reach in reaches if reach.source is not None}
        if len(sources) > 1:
            first, second, *_ = sources
            reason = f"({op.type}) combines what {first!r} and {second!r} give"
            return Reach(None, Refusal(op.name, reason))
        return Reach(next(iter(sources.values()), None), None)


def ancestors(tensors: Iterable[Any], stop: str | None = None) -> list[Any]:
    """Returns the ops that tensors are computed by, inputs first.

    Args:
        tensors: of one graph.
        stop: type of ops whose own inputs are left out.
    """
    order: list[Any] = []
    seen: set[str] = set()
    pending: list[tuple[Any, bool]] = [(tensor.op, False) for tensor in tensors]
    while pending:
        op, finished = pending.pop()
        if finished:
            order.append(op)
            continue
        if op.name in seen:
            continue
        seen.add(op.name)
        pending.append((op, True))
        if op.type != stop:
            pending += [(tensor.op, False) for tensor in op.inputs]
    return order


def comes_from_a_dataset(tensor: Any) -> bool:
    """Whether some iterator has a part in a tensor, in whatever way."""
    return any(
        op.type.startswith(("Iterator", "MultiDeviceIterator")) for op in ancestors([tensor])
    )
