"""Rewriting of a whole graph: find, slice, rebuild, reconnect."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from mxrec.tf import sessions, timestamps
from mxrec.tf.log import logger
from mxrec.tf.rewrite import fetches, report
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.failing import failed_at, failing_at, names_of
from mxrec.tf.rewrite.iterators import Source
from mxrec.tf.rewrite.plan import Move, Plan, make_plan
from mxrec.tf.rewrite.rebuild import Rebuilt, rebuild
from mxrec.tf.rewrite.replacements import COLLECTION, Replacements, replacements_of
from mxrec.tf.rewrite.state import Rewriting, Rewritten, Wishes, rewriting_of


def modify_graph(graph: Any, dump_graph: bool = False) -> None:
    """Moves the ids of a graph's lookups into its input pipeline.

    Args:
        graph: a tf.Graph that has not run.
        dump_graph: write the graph before and after, and a report (``report.FOLDER``).

    Raises:
        TypeError: ``graph`` is none.
        ValueError: it is a function's.
        RuntimeError: it has run, is finalized, or could not be rewritten, or ``dump_graph``
            cannot write; its edges are as before.
    """
    _check(graph)
    rewriting = rewriting_of(graph)
    dump = report.Dump(graph) if dump_graph or rewriting.wishes.dump else None
    edges = Edges()
    iterators = graph.get_collection(COLLECTION)
    names = [site.name for site in rewriting.sites]
    restore = [rewriting.saved(), replacements_of(graph).saved()]
    try:
        fetches.bring_up_to_date(graph, edges)
        timestamps.note_late(graph, edges)
        edges.apply()
        plan = make_plan(graph, rewriting.sites, rewriting.wishes)
        rebuilt = [_rebuild(graph, plan, *each, edges) for each in plan.iterators()]
        upstream = _upstream(plan, plan.moves.values())
        edges.apply()
        upstream.update(_upstream(plan, plan.moves.values()))  # the new tensors too
        if dump is not None:
            dump.after(plan, rebuilt)
        replacements_of(graph).upstream.update(upstream)
        _note(graph, rewriting, plan, rebuilt)
        new = {each.new.old: each.new.handle for each in rebuilt}
        handles = [new.get(each.op.name, each) for each in iterators]
        graph.get_collection_ref(COLLECTION)[:] = handles
        timestamps.forget_late(graph)
    except BaseException as error:
        edges.undo()
        for each in restore:
            each()
        graph.get_collection_ref(COLLECTION)[:] = iterators
        if not isinstance(error, Exception):
            raise  # Ctrl-C
        raise RuntimeError(
            f"The graph could not be rewritten and is as before: {_sentence(error)} It failed at "
            f"{failed_at(error, names)}; pass modify_graph=False to leave a lookup where it is."
        ) from error
    for stay in plan.stays:
        if not stay.silent:
            logger.warning(
                "graph rewriting: %s stays where it is, because %r %s.", stay.what, *stay.refusal
            )


def _check(graph: Any) -> None:
    if not isinstance(graph, tf.Graph):
        raise TypeError(f"full_graph must be a tf.Graph, got {graph!r} ({type(graph).__name__}).")
    if hasattr(graph, "outer_graph"):
        raise ValueError(
            f"full_graph must be the graph of a Session, got that of function {graph.name!r}."
        )
    if sessions.has_run(graph):
        raise RuntimeError(
            "The graph has run already, and TensorFlow would silently ignore that its edges "
            "change; rewrite it before the first Session.run, that of initializers included."
        )
    if graph.finalized:
        raise RuntimeError("The graph is finalized; rewrite it before graph.finalize().")


def _sentence(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _rebuild(graph: Any, plan: Plan, source: Source, moves: list[Move], edges: Edges) -> Rebuilt:
    fed = [site.name for site, move in plan.lookups if move in moves]
    which = f", which feeds lookups {names_of(fed)}" if fed else ""
    with failing_at(f"iterator {source.iterator.name!r}{which}"):
        return rebuild(graph, plan, source, moves, edges)


def _upstream(plan: Plan, moves: Iterable[Move]) -> dict[str, str]:
    """Name of each tensor that a moved one is computed from, with that of the moved one."""
    return {
        tensor.name: move.tensor.name
        for move in moves
        for op in plan.slicer.ops([move.tensor])
        for tensor in op.inputs
    }


def _note(graph: Any, rewriting: Rewriting, plan: Plan, rebuilt: list[Rebuilt]) -> None:
    known = replacements_of(graph)
    known.underivable.update(_underivable(plan))
    for each in rebuilt:
        earlier = _earlier(graph, rewriting, each)
        rewritten = _rewritten(plan, each)
        if earlier is None:
            rewriting.iterators.append(rewritten)
        else:
            rewriting.iterators.remove(earlier)
            rewriting.iterators.append(_joined(known, earlier, rewritten))
        _note_replacements(known, each)
    rewriting.moved.update(site.op for site, _ in plan.lookups)
    rewriting.sites.clear()
    rewriting.wishes = Wishes()
    rewriting.done = True
    known.version = graph.version


def _underivable(plan: Plan) -> dict[str, str]:
    floats = [move for move in plan.moves.values() if move.tensor.dtype.is_floating]
    found = {move.tensor.name: move.tensor.name for move in floats}
    found.update(_upstream(plan, floats))
    return found


def _note_replacements(known: Replacements, rebuilt: Rebuilt) -> None:
    known.tensors.update((old.name, new) for old, new in rebuilt.replacements())
    ops = zip(rebuilt.source.sources, rebuilt.get_nexts, strict=True)
    known.ops.update((old.name, new) for old, new in ops)
    for move in rebuilt.moves:
        copies = known.fed_with.setdefault(move.tensor.name, [known.tensor(move.tensor)])
        copies.append(rebuilt.moved(move))
    known.note_iterator(rebuilt.new)


def _earlier(graph: Any, rewriting: Rewriting, rebuilt: Rebuilt) -> Rewritten | None:
    """An earlier rewriting of an iterator that is rewritten again."""
    known = replacements_of(graph)
    for each in rewriting.iterators:
        (handle,) = graph.get_operation_by_name(each.iterator).outputs
        now = known.iterator(handle)
        if now is not None and now.handle.op is rebuilt.source.iterator:
            return each
    return None


def _joined(known: Replacements, earlier: Rewritten, later: Rewritten) -> Rewritten:
    """Two rewritings, one after the other, as that of one iterator: the script's."""
    olds = {known.op(op).name: op for op in earlier.sources}
    return dataclasses.replace(
        earlier,
        initializers=later.initializers,
        sources=tuple(olds.get(op.name, op) for op in later.sources),
        trains=earlier.trains or later.trains,
        reads=earlier.reads or later.reads,
    )


def _rewritten(plan: Plan, rebuilt: Rebuilt) -> Rewritten:
    fed = [site.trains for site, move in plan.lookups if move in rebuilt.moves]
    return Rewritten(
        iterator=rebuilt.source.iterator.name,
        initializers=rebuilt.source.makers,
        sources=rebuilt.source.sources,
        components=rebuilt.components,
        trains=any(fed),
        reads=not all(fed),
    )
