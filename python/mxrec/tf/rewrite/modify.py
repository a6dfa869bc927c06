"""Rewriting of a whole graph: find, slice, rebuild, reconnect."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf import sessions, timestamps
from mxrec.tf.log import logger
from mxrec.tf.rewrite import fetches, report
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.plan import Plan, make_plan
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
        RuntimeError: it has run, is finalized, or could not be rewritten; its edges are as before.
    """
    _check(graph)
    rewriting = rewriting_of(graph)
    dump = report.Dump(graph) if dump_graph or rewriting.wishes.dump else None
    edges = Edges()
    iterators = graph.get_collection(COLLECTION)
    try:
        fetches.bring_up_to_date(graph, edges)
        timestamps.note_late(graph, edges)
        edges.apply()
        plan = make_plan(graph, rewriting.sites, rewriting.wishes)
        rebuilt = [rebuild(graph, plan, source, moves, edges) for source, moves in plan.iterators()]
        upstream = _upstream(plan)
        edges.apply()
        upstream.update(_upstream(plan))  # the new tensors too
        if dump is not None:
            dump.after(plan, rebuilt)
    except Exception as error:
        edges.undo()
        graph.get_collection_ref(COLLECTION)[:] = iterators
        names = ", ".join(repr(site.name) for site in rewriting.sites)
        raise RuntimeError(
            f"The graph could not be rewritten and is as before: {error} Lookups: {names}; pass "
            "modify_graph=False to leave one where it is."
        ) from error
    timestamps.forget_late(graph)
    replacements_of(graph).upstream.update(upstream)
    _note(graph, rewriting, plan, rebuilt)
    new = {each.new.old: each.new.handle for each in rebuilt}
    graph.get_collection_ref(COLLECTION)[:] = [new.get(each.op.name, each) for each in iterators]
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


def _upstream(plan: Plan) -> dict[str, str]:
    """Name of each tensor that a moved one is computed from, with that of the moved one."""
    return {
        tensor.name: move.tensor.name
        for move in plan.moves.values()
        for op in plan.slicer.ops([move.tensor])
        for tensor in op.inputs
    }


def _note(graph: Any, rewriting: Rewriting, plan: Plan, rebuilt: list[Rebuilt]) -> None:
    known = replacements_of(graph)
    for each in rebuilt:
        _note_replacements(known, each)
        rewriting.iterators.append(_rewritten(plan, each))
    rewriting.moved.update(site.op for site, _ in plan.lookups)
    rewriting.sites.clear()
    rewriting.wishes = Wishes()
    rewriting.done = True
    known.version = graph.version


def _note_replacements(known: Replacements, rebuilt: Rebuilt) -> None:
    known.tensors.update((old.name, new) for old, new in rebuilt.replacements())
    ops = zip(rebuilt.source.sources, rebuilt.get_nexts, strict=True)
    known.ops.update((old.name, new) for old, new in ops)
    for move in rebuilt.moves:
        copies = known.fed_with.setdefault(move.tensor.name, [known.tensor(move.tensor)])
        copies.append(rebuilt.moved(move))
    known.note_iterator(rebuilt.new)


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
