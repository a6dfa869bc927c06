"""One lookup in the place of many."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable
from typing import Any

import tensorflow as tf

from mxrec.tf import constants, graph_state, sessions, timestamps
from mxrec.tf.config import ConfigInitializer
from mxrec.tf.log import logger
from mxrec.tf.lookup_ops import BuiltLookup, Lookup, build
from mxrec.tf.pooled import Bags
from mxrec.tf.validation import check_bool

_UNIQUE = "MxrecLookupUnique"
# Places of what is collected among the outputs of that op.
_COLLECTED = {
    constants.ASCEND_SPARSE_LOOKUP_LOCAL_EMB: 0,
    constants.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS: 1,
    constants.ASCEND_SPARSE_LOOKUP_ID_OFFSET: 2,
}


def do_merge_lookup(is_train: bool = True) -> None:
    """Merges the lookups of each table in the default graph into one lookup.

    Called after the lookups, before ``tf.gradients``, and before the graph's first run. Whatever
    uses the lookups, or holds their results, gets the rows of the merged one. What can tell:

    - A step that needs one of the merged lookups runs them all.
    - Admission counts the occurrences of all of them together: a key whose count reaches the
      threshold by that has its row in all of them.
    - Gradients of a key are summed in the order of the lookups, and there is one update.
    - The collections of dynamic expansion hold the tensors of the merged lookup, at the place of
      the first. With ``send_count`` there are as many unique keys as in all of them together.

    Lookups stay apart that differ in ``is_grad``, ``faae_coefficient``, ``send_count``,
    ``serving_default_value`` or the combiner, of which some have weights, or timestamps, and others
    none, or of which one needs the result of the other; likewise those in ``tf.cond`` and in
    functions. Calling it again merges what came later.

    Args:
        is_train: merge the training lookups; False: the others.

    Raises:
        TypeError: ``is_train`` is no bool.
        RuntimeError: in eager mode or in a function, without ``init``, or after the first run.
        ValueError: a lookup has a gradient already, or tensors of a collection are in use. Nothing
            is merged then.
    """
    check_bool("is_train", is_train)
    ConfigInitializer.get_instance()
    if tf.executing_eagerly():
        raise RuntimeError(
            "do_merge_lookup needs a graph: call it inside 'with tf.Graph().as_default()' or after "
            "tf.compat.v1.disable_eager_execution(). In eager mode, use grouped_lookup."
        )
    graph = tf.compat.v1.get_default_graph()
    if hasattr(graph, "outer_graph"):
        raise RuntimeError(
            f"do_merge_lookup was called in the function {graph.name!r}; call it outside of "
            "functions, after the lookups."
        )
    sessions.check_not_run(graph, "do_merge_lookup")
    state = graph_state.state_of(graph)
    depths = _depths(state.lookups)
    groups: dict[Hashable, list[BuiltLookup]] = {}
    for built in state.lookups:
        if built.lookup.is_train == is_train:
            groups.setdefault((_kind(built), depths[built.op]), []).append(built)
    several = [group for group in groups.values() if len(group) > 1]
    for group in several:
        _check_unused(group)
    for group in several:
        _warn_of_moved(state, group)
        _merge(graph, group)


def _kind(built: BuiltLookup) -> Hashable:
    """What lookups have in common that are merged."""
    lookup = built.lookup
    bags = lookup.bags and (lookup.bags.combiner, lookup.bags.weights is None)
    return (
        lookup.table.table_name,
        built.op.type,
        lookup.is_grad,
        lookup.unique_size,
        lookup.coefficient,
        lookup.absent_identity,
        lookup.timestamps and lookup.timestamps.may_come,
        lookup.may_move_as is None,
        bags,
        built.op.device,
    )


def _check_unused(group: list[BuiltLookup]) -> None:
    for built in group:
        rows = built.outlet.inputs[0].op
        behind = built.op.outputs[built.op.type != _UNIQUE :]
        users = [each for tensor in behind for each in tensor.consumers() if each is not rows]
        if users and built.lookup.is_train:
            raise ValueError(
                f"do_merge_lookup: lookup {built.outlet.name!r} of table "
                f"{built.lookup.table.table_name!r} is used by {users[0].name!r} ({users[0].type}):"
                " it has a gradient already, or a tensor of its ASCEND_SPARSE_LOOKUP_ collections "
                "is in use. Call do_merge_lookup before tf.gradients."
            )


def _warn_of_moved(state: graph_state.GraphState, group: list[BuiltLookup]) -> None:
    moved = set() if state.rewriting is None else state.rewriting.moved
    if any(built.op in moved for built in group):
        logger.warning(
            "do_merge_lookup: graph rewriting has moved ids of lookups of table %r into the input "
            "pipeline, where their keys are prepared one lookup by one; the merged lookup does not "
            "find them. Call do_merge_lookup before modify_graph_and_start_emb_cache.",
            group[0].lookup.table.table_name,
        )


# --- Order --------------------------------------------------------------------------------------


def _depths(lookups: list[BuiltLookup]) -> dict[Any, int]:
    """How many lookups, one behind the other, come before each lookup, by its op.

    Lookups of one depth do not need each other; so merging them makes no cycle, nor do several
    merges together.
    """
    waits_for = {built.op: built.after for built in lookups}
    depths: dict[Any, int] = {}
    for built in lookups:
        path = [(built.op, _before(built.op, waits_for))]
        open_ops = {built.op}
        while path:
            op, before = path[-1]
            nearer = next((b for b in before if b not in depths and b not in open_ops), None)
            if nearer is not None:
                open_ops.add(nearer)
                path.append((nearer, _before(nearer, waits_for)))
                continue
            path.pop()
            # An op that is open still is behind the back edge of a loop.
            depths[op] = max(
                (depths.get(b, 0) + (b in waits_for) for b in _before(op, waits_for)), default=0
            )
    return depths


def _before(op: Any, waits_for: dict[Any, list[Any]]) -> Iterable[Any]:
    ops = [tensor.op for tensor in op.inputs]
    return iter([*ops, *op.control_inputs, *waits_for.get(op, ())])


# --- Merging ------------------------------------------------------------------------------------


def _merge(graph: Any, group: list[BuiltLookup]) -> None:
    first = group[0]
    state = graph_state.state_of(graph)
    after = list(dict.fromkeys(op for built in group for op in built.after))
    name = f"merged_lookup_{first.lookup.table.table_name}"
    with (
        graph.as_default(),
        tf.compat.v1.name_scope(None),
        tf.control_dependencies(None),
        tf.device(None),
        tf.device(first.op.device),
        tf.compat.v1.name_scope(name),
        tf.control_dependencies(after),
    ):
        rows = _joined_rows(group)
        parts = _parts(rows, group)
    for built, part in zip(group, parts, strict=True):
        built.outlet._update_input(0, part)
    merged = state.lookups[-1]
    ops = {built.op for built in group}
    state.lookups[:] = [built for built in state.lookups if built.op not in ops]
    state.untimed[:] = [entry for entry in state.untimed if entry[0] not in ops]
    if state.rewriting is not None:
        sites = state.rewriting.sites
        sites[:] = [site for site in sites if site.op not in ops]
    if merged.op.type == _UNIQUE:
        _move_collected(graph, group, merged)


def _joined_rows(group: list[BuiltLookup]) -> Any:
    """Rows of one lookup of all keys, or bags, of the group in a row."""
    lookups = [built.lookup for built in group]
    first = lookups[0]
    same_type = len({lookup.keys.dtype for lookup in lookups}) == 1
    keys = [tf.reshape(lookup.keys, [-1]) for lookup in lookups]
    keys = tf.concat([each if same_type else tf.cast(each, tf.int64) for each in keys], axis=0)
    times = first.timestamps
    if times is not None and not times.may_come:
        each = [timestamps.of_each(_times(lookup), lookup.keys) for lookup in lookups]
        times = timestamps.Timestamps(tf.concat(each, axis=0), False)
    return build(
        dataclasses.replace(
            first,
            keys=keys,
            ids=timestamps.Joined(tuple((lookup.ids, lookup.keys) for lookup in lookups)),
            bags=None if first.bags is None else _joined_bags([each.bags for each in lookups]),
            unique_size=first.unique_size * len(lookups),
            timestamps=times,
        )
    )


def _times(lookup: Lookup) -> Any:
    assert lookup.timestamps is not None  # it trains
    return lookup.timestamps.tensor


def _joined_bags(bags: list[Any]) -> Bags:
    splits = [bags[0].splits[:1]]
    end = tf.constant(0, tf.int64)
    for each in bags:
        splits.append(each.splits[1:] + end)
        end += each.splits[-1]
    counts = [each.count for each in bags]
    weights = [each.weights for each in bags]
    return Bags(
        ids=None,
        shape=tf.TensorShape(None),
        finish=lambda rows: rows,
        combiner=bags[0].combiner,
        splits=tf.concat(splits, axis=0),
        count=None if None in counts else sum(counts),
        weights=None if weights[0] is None else tf.concat(weights, axis=0),
    )


def _parts(rows: Any, group: list[BuiltLookup]) -> list[Any]:
    """The rows of each lookup, in its shape."""
    lookups = [built.lookup for built in group]
    static = [
        lookup.keys.shape.num_elements() if lookup.bags is None else lookup.bags.count
        for lookup in lookups
    ]
    sizes: Any = static
    if None in static:
        sizes = tf.stack(
            [
                tf.size(lookup.keys, tf.int64)
                if lookup.bags is None
                else tf.size(lookup.bags.splits, tf.int64) - 1
                for lookup in lookups
            ]
        )
    parts = tf.split(rows, sizes, num=len(lookups))
    return [
        part
        if lookup.bags is not None or lookup.keys.shape.rank == 1
        else tf.reshape(part, tf.concat([tf.shape(lookup.keys), [lookup.table.dim]], axis=0))
        for part, lookup in zip(parts, lookups, strict=True)
    ]


def _move_collected(graph: Any, group: list[BuiltLookup], merged: BuiltLookup) -> None:
    """Puts the tensors of the merged lookup where those of the first are, and drops the others."""
    for name, place in _COLLECTED.items():
        collection = graph.get_collection_ref(name)
        new = merged.op.outputs[place]
        old = {id(built.op.outputs[place]) for built in group}
        places = [i for i, tensor in enumerate(collection) if id(tensor) in old]
        if not places:  # it is not collected, or the program has emptied the collection
            continue
        kept = [each for each in collection if id(each) not in old and each is not new]
        kept.insert(places[0], new)
        collection[:] = kept
