"""Which ops may move, and how far back from a tensor."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from graph_runs import control_flow_of

import mxrec.tf as mx
from mxrec.tf.rewrite.iterators import refuse_source
from mxrec.tf.rewrite.movable import Obstacles
from mxrec.tf.rewrite.slicing import Slicer, ancestors, comes_from_a_dataset

v1 = tf.compat.v1


def one_shot(*shape: int) -> Any:
    data = v1.data.Dataset.from_tensors(tf.ones(shape, tf.int64))
    return v1.data.make_one_shot_iterator(data).get_next()


def slicer_of(tensor: Any) -> Slicer:
    return Slicer(Obstacles(tensor.graph), refuse_source)


def function_of(x: Any, stateful: bool = False) -> Any:
    @tf.function
    def called(x: Any) -> Any:
        return x + 1 if not stateful else x + tf.random.uniform([], 0, 9, tf.int64)

    return called(x)


MOVABLE: dict[str, Any] = {
    "nothing": lambda ids: ids,
    "arithmetic": lambda ids: ids * 3 + 1,
    "hash": lambda ids: tf.strings.to_hash_bucket_fast(tf.strings.as_string(ids), 10),
    "function": function_of,
    "constants": lambda ids: tf.gather(tf.constant([1, 2, 3]), ids),
    "stateless random": lambda ids: (
        ids + tf.random.stateless_uniform([], tf.stack([ids[0, 0], 0]), 0, 9, tf.int64)
    ),
}

HELD: dict[str, tuple[Any, str]] = {
    "placeholder": (lambda ids: ids + v1.placeholder(tf.int64), "placeholder"),
    "default": (
        lambda ids: v1.placeholder_with_default(ids, ids.shape) + 1,
        "placeholder",
    ),
    "variable": (lambda ids: ids + v1.get_variable("v", [], tf.int64), "stateful"),
    "random": (lambda ids: ids + tf.random.uniform([], 0, 9, tf.int64), "stateful"),
    "python": (lambda ids: v1.py_func(lambda x: x, [ids], tf.int64), "Python"),
    "stateless python": (
        lambda ids: v1.py_func(lambda x: x, [ids], tf.int64, stateful=False),
        "Python",
    ),
    "stateful function": (lambda ids: function_of(ids, True), "stateful"),
    "two iterators": (lambda ids: ids + one_shot(2, 2), "combines"),
    "no iterator": (lambda ids: tf.constant([1, 2]) * 2, "no dataset"),
}


@pytest.mark.parametrize("name", MOVABLE)
def test_what_may_move(name: str) -> None:
    with tf.Graph().as_default():
        ids = one_shot(2, 2)
        keys = MOVABLE[name](ids)
        slicer = slicer_of(keys)
        assert slicer.refusal(keys) is None
        assert slicer.reach(keys.op).source is ids.op
        ops = slicer.ops([keys])
        assert ids.op not in ops and (keys is ids) == (not ops)
        place = {op.name: i for i, op in enumerate(ops)}
        for op in ops:
            before = [place[t.op.name] for t in op.inputs if t.op is not ids.op]
            assert all(i < place[op.name] for i in before)


@pytest.mark.parametrize("name", HELD)
def test_what_may_not(name: str) -> None:
    build, reason = HELD[name]
    with tf.Graph().as_default():
        keys = tf.cast(build(one_shot(2, 2)), tf.int64)
        refusal = slicer_of(keys).refusal(keys)
        assert refusal is not None and reason in refusal.reason
        assert keys.graph.get_operation_by_name(refusal.op) is not None
        assert comes_from_a_dataset(keys) == (name != "no iterator")


def control_flow(ids: Any, state: bool = False) -> dict[str, Any]:
    def more() -> Any:
        return tf.random.uniform([], 0, 9, tf.int64) if state else tf.constant(1, tf.int64)

    branches = [lambda: ids + more(), lambda: ids * 2, lambda: ids - more()]
    found = {
        "cond": tf.cond(tf.reduce_sum(ids) > 3, branches[0], branches[1]),
        "switch_case": tf.switch_case(tf.cast(tf.reduce_sum(ids) % 3, tf.int32), branches),
        "while": tf.while_loop(lambda x: tf.reduce_sum(x) < 100, lambda x: x + more(), [ids]),
    }
    return {name: each[0] if isinstance(each, list) else each for name, each in found.items()}


@pytest.mark.parametrize(("version", "state"), [("v1", False), ("v1", True), ("v2", True)])
def test_switches_and_branches_with_state_stay(version: str, state: bool) -> None:
    with control_flow_of(version), tf.Graph().as_default():
        found = control_flow(one_shot(2, 2), state)
        # It is never built of switches, and never called stateful.
        case = slicer_of(found["cond"]).refusal(found.pop("switch_case"))
        assert (case is not None and "is stateful" in case.reason) == state
        for name, keys in found.items():
            refusal = slicer_of(keys).refusal(keys + 1)
            assert refusal is not None and "control flow" in refusal.reason, name


def test_branches_and_loops_without_state_may_move() -> None:
    with control_flow_of("v2"), tf.Graph().as_default():
        ids = one_shot(2, 2)
        for name, keys in control_flow(ids).items():
            slicer = slicer_of(keys)
            assert slicer.refusal(keys) is None, name
            assert slicer.reach(keys.op).source is ids.op


def test_a_branch_that_captures_a_placeholder_stays() -> None:
    with control_flow_of("v2"), tf.Graph().as_default():
        ids, fed = one_shot(2, 2), v1.placeholder(tf.int64, [])
        keys = tf.cond(ids[0, 0] > 3, lambda: ids + fed, lambda: ids)
        refusal = slicer_of(keys).refusal(keys)
        assert refusal is not None and "placeholder" in refusal.reason


def test_control_inputs_stay() -> None:
    with tf.Graph().as_default():
        ids = one_shot(2)
        with tf.control_dependencies([tf.no_op("before")]):
            keys = ids + 1
        refusal = slicer_of(keys).refusal(keys)
        assert refusal is not None and "'before' (a control input)" in refusal.reason


def test_hash_tables_stay() -> None:
    with tf.Graph().as_default():
        ids = one_shot(2)
        initializer = tf.lookup.KeyValueTensorInitializer(
            tf.constant([1], tf.int64), tf.constant([2], tf.int64)
        )
        keys = tf.lookup.StaticHashTable(initializer, -1).lookup(ids)
        refusal = slicer_of(keys).refusal(keys)
        assert refusal is not None and "LookupTableFind" in refusal.reason


def test_iterators_that_are_chosen_elsewhere() -> None:
    with tf.Graph().as_default():
        data = v1.data.Dataset.range(3)
        handle = v1.placeholder(tf.string, [])
        chosen = v1.data.Iterator.from_string_handle(handle, tf.int64, [])
        keys = chosen.get_next()
        direct = v1.data.make_one_shot_iterator(data).get_next()
        for tensor in (keys, direct):
            assert slicer_of(tensor).refusal(tensor) is not None
    with tf.Graph().as_default():
        iterator = v1.data.make_one_shot_iterator(v1.data.Dataset.range(3))
        direct = iterator.get_next()
        assert slicer_of(direct).refusal(direct) is None
        optional = tf.raw_ops.IteratorGetNextAsOptional(
            iterator=iterator._iterator_resource, output_types=[tf.int64], output_shapes=[[]]
        )
        (value,) = tf.raw_ops.OptionalGetValue(
            optional=optional, output_types=[tf.int64], output_shapes=[[]]
        )
        for tensor in (value, direct):
            assert slicer_of(tensor).refusal(tensor) is not None
    with tf.Graph().as_default():
        structure = v1.data.Iterator.from_structure(tf.int64, [])
        tensor = structure.get_next()
        refusal = slicer_of(tensor).refusal(tensor)
        assert refusal is not None and "initialized by no op" in refusal.reason


def test_the_frontier() -> None:
    with tf.Graph().as_default():
        ids = one_shot(2, 2)
        first, second = ids * 2, ids + 5
        keys = (first + v1.placeholder(tf.int64)) * (second - 1)
        frontier = slicer_of(keys).frontier(keys)
        assert {t.op.type for t in frontier} == {"Mul", "Sub"}
        assert first in frontier


def test_deep_graphs() -> None:
    with tf.Graph().as_default():
        keys = one_shot(2)
        for _ in range(3000):
            keys = tf.identity(keys)
        slicer = slicer_of(keys)
        assert slicer.refusal(keys) is None and len(slicer.ops([keys])) == 3000
        assert len(ancestors([keys])) == 3002


def test_lookups_are_noted_with_their_keys(start: Any) -> None:
    from mxrec.tf.rewrite.state import rewriting_of

    start()
    with tf.Graph().as_default() as graph:
        table = mx.create_table(tf.int64, 4, "t", tf.zeros_initializer())
        ids = one_shot(2, 2)
        bags = tf.RaggedTensor.from_row_lengths(ids[0], [2])
        options = [{"is_train": True}, {"is_train": False}]
        for kwargs in options:
            mx.sparse_lookup(table, ids, **kwargs)
            mx.sparse_lookup(table, ids, modify_graph=True, **kwargs, name="one")
            mx.sparse_lookup(table, bags, modify_graph=True, combiner="sum", **kwargs)
        weights = bags.with_values(tf.ones([2]))
        mx.sparse_lookup(table, bags, combiner="sum", sp_weights=weights, modify_graph=True)
        sites = rewriting_of(graph).sites
        assert [site.op.type for site in sites] == [
            "MxrecLookup",
            "MxrecPooledLookup",
            "MxrecRead",
            "MxrecPooledRead",
            "MxrecLookupUnique",
        ]
        assert [site.trains for site in sites] == [True, True, False, False, True]
        assert sites[0].keys is ids and sites[2].keys is ids
        assert all(site.keys is bags.values for site in (sites[1], sites[3], sites[4]))
        assert [site.name for site in sites[::2]] == ["one", "one_1", "lookup_t_4"]
