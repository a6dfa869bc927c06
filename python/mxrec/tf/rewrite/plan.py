"""What a rewriting is going to move, before anything changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from mxrec.tf.rewrite.failing import failing_at
from mxrec.tf.rewrite.iterators import Source, refuse_source, source_of
from mxrec.tf.rewrite.movable import Obstacles
from mxrec.tf.rewrite.prepared import prepares
from mxrec.tf.rewrite.slicing import Refusal, Slicer, comes_from_a_dataset
from mxrec.tf.rewrite.state import Site, Wishes

# Ops on keys that go with a lookup: they take the keys where it takes them.
_LOOKUPS = frozenset(
    {"MxrecLookup", "MxrecLookupUnique", "MxrecPooledLookup", "MxrecRead", "MxrecPooledRead"}
)


@dataclasses.dataclass(eq=False)
class Move:
    """A tensor that the input pipeline is going to compute.

    Attributes:
        tensor: as the graph computes it now.
        source: the get_next op that it comes from.
        table: whose training lookup it is the keys of; None: nothing is prepared.
        users: ops and which of their inputs take the moved tensor.
    """

    tensor: Any
    source: Any
    table: str | None
    users: list[tuple[Any, int]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Stay:
    """Something that stays where it is.

    Attributes:
        what: a lookup, or ops of a type, for people.
        refusal: why.
        silent: nobody needs to be told.
    """

    what: str
    refusal: Refusal
    silent: bool = False


@dataclasses.dataclass
class Plan:
    """The moves of one graph, with what stays.

    Attributes:
        slicer: of the graph.
        moves: by tensor and table.
        lookups: that move, each with its move.
        prepared: of them, those whose keys the dataset prepares already.
        stays: the rest.
    """

    slicer: Slicer
    moves: dict[tuple[str, str | None], Move] = dataclasses.field(default_factory=dict)
    lookups: list[tuple[Site, Move]] = dataclasses.field(default_factory=list)
    prepared: list[Site] = dataclasses.field(default_factory=list)
    stays: list[Stay] = dataclasses.field(default_factory=list)
    _taken: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    def iterators(self) -> list[tuple[Source, list[Move]]]:
        """Returns each iterator with what moves behind it."""
        found: dict[str, tuple[Source, list[Move]]] = {}
        for move in self.moves.values():
            source = source_of(move.source)
            found.setdefault(source.iterator.name, (source, []))[1].append(move)
        return list(found.values())

    def move(self, tensor: Any, table: str | None) -> Move:
        """Returns the move of a tensor that can move, made if needed."""
        key = (tensor.name, table)
        if key not in self.moves:
            self.moves[key] = Move(tensor, self.slicer.reach(tensor.op).source, table)
        return self.moves[key]

    def connect(self, move: Move, op: Any) -> None:
        """Has an op take a moved tensor, where it takes the tensor and nothing else was said."""
        for place, tensor in enumerate(op.inputs):
            if tensor is move.tensor and (op.name, place) not in self._taken:
                self._taken.add((op.name, place))
                move.users.append((op, place))


def make_plan(graph: Any, sites: Iterable[Site], wishes: Wishes) -> Plan:
    """Decides what moves.

    Args:
        graph: that the lookups are in, or in a function of.
        sites: its lookups that may move.
        wishes: of hooks.
    """
    plan = Plan(Slicer(Obstacles(graph), refuse_source))
    held_back = []
    for site in sites:
        with failing_at(f"lookup {site.name!r}"):
            refusal = _refusal(graph, site, plan.slicer)
            if refusal is None:
                _move_lookup(plan, site)
                continue
        if site.op.graph is graph:
            held_back.append(site)
        silent = wishes.orphans and not comes_from_a_dataset(site.keys)
        plan.stays.append(Stay(f"lookup {site.name!r}", refusal, silent))
    _connect_lookups(plan)
    if wishes.push:
        tensors = {t.name: t for site in held_back for t in plan.slicer.frontier(site.keys)}
        _move_all(plan, tensors.values())
    for op_type in sorted(wishes.op_types):
        _move_type(plan, graph, op_type)
    return plan


def _move_lookup(plan: Plan, site: Site) -> None:
    source = plan.slicer.reach(site.keys.op).source
    may = site.trains and _share_process(site.op.inputs[0].op, source.inputs[0].op)
    obstacles = plan.slicer.obstacles
    done = may and prepares(obstacles, source_of(source), site.keys, site.table)
    plan.lookups.append((site, plan.move(site.keys, site.table if may and not done else None)))
    if done:
        plan.prepared.append(site)


def _refusal(graph: Any, site: Site, slicer: Slicer) -> Refusal | None:
    if site.op.graph is not graph:
        return Refusal(site.op.name, f"is inside function {site.op.graph.name!r}")
    if site.op._get_control_flow_context() is not None:
        return Refusal(site.op.name, f"({site.op.type}) is inside control flow")
    return slicer.refusal(site.keys)


def _share_process(table: Any, iterator: Any) -> bool:
    """Whether a table is where an iterator runs: with parameter servers it is not."""
    at, near = (tf.DeviceSpec.from_string(op.device or "") for op in (table, iterator))
    return at.job is None or (at.job, at.task) == (near.job, near.task)


def _connect_lookups(plan: Plan) -> None:
    for site, move in plan.lookups:
        for op in site.keys.consumers():
            # Other ops on the keys belong to this lookup, as much as to any.
            companion = op.type.startswith("Mxrec") and op.type not in _LOOKUPS
            if op is site.op or companion:
                plan.connect(move, op)


def _move_all(plan: Plan, tensors: Iterable[Any]) -> None:
    """Moves tensors for all ops that take them."""
    for tensor in tensors:
        move = plan.move(tensor, None)
        for op in tensor.consumers():
            plan.connect(move, op)


def _move_type(plan: Plan, graph: Any, op_type: str) -> None:
    ops = [op for op in graph.get_operations() if op.type == op_type and op.outputs]
    refusals = []
    for op in ops:
        refusal = plan.slicer.refusal(op.outputs[0])
        if refusal is None:
            _move_all(plan, op.outputs)
        elif comes_from_a_dataset(op.outputs[0]):
            refusals.append(refusal)
    if not ops:
        refusals.append(Refusal(op_type, "is the type of no op of this graph"))
    if refusals:
        some = f"{len(refusals)} of the ops" if ops else "what should be"
        plan.stays.append(Stay(f"{some} of type {op_type!r}", refusals[0]))
