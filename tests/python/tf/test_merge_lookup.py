"""do_merge_lookup: many lookups of a table become one, and nobody can tell by the results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import RATE, keys, make, train_op
from graph_runs import contents, lookups_of, run

import mxrec.tf as mx
from mx_rec.graph.merge_lookup import do_merge_lookup
from mxrec.tf import graph_state

v1 = tf.compat.v1
DIM = 2


def small_integers(rows: Any, number: int) -> Any:
    """A loss whose gradients, and their sums in any order, are exact."""
    return tf.reduce_sum(rows * float(number % 5 - 2))


def lookups_left() -> int:
    return len(graph_state.state_of(v1.get_default_graph()).lookups)


def id_batches(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    shapes: list[tuple[int, ...]] = [(7,), (3, 2), (), (2, 1, 3), (0,), (5,)]
    return [rng.integers(0, 40, shapes[i % len(shapes)]) for i in range(count)]


def trained(merge: bool, count: int, static: bool, seed: int, dtype: Any = np.int64) -> Any:
    """What 5 steps read, what the table holds then, and the ops of a step."""
    mx.terminate_config_initializer()
    mx.init()
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=DIM)
        given = [ids.astype(dtype) for ids in id_batches(rng, count)]
        ids = given if static else [v1.placeholder(dtype, [None] * x.ndim) for x in given]
        rows = [mx.sparse_lookup(table, each) for each in ids]
        loss = tf.add_n([small_integers(each, i) for i, each in enumerate(rows)])
        if merge:
            do_merge_lookup(is_train=True)
        train = train_op(loss)
        reads = []
        for _ in range(5):
            feed = {} if static else dict(zip(ids, id_batches(rng, count), strict=True))
            (read, _), ops = run(session, [rows, train], feed)
            assert [each.shape for each in read] == [(*x.shape, DIM) for x in given]
            reads += read
        return reads, contents(table), lookups_of(ops)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("count", [2, 9, 150])
def test_results_are_those_of_single_lookups(start, request, count, static):
    seed = request.config.getoption("seed")
    apart, there, _ = trained(False, count, static, seed)
    merged, here, ops = trained(True, count, static, seed)
    for one, other in zip(apart, merged, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(there, here, strict=True):
        np.testing.assert_array_equal(one, other)
    assert ops == {"MxrecLookup": 1}


def test_int32_ids_stay_int32_and_others_become_int64(start, request):
    seed = request.config.getoption("seed")
    apart = trained(False, 6, True, seed)[:2]
    merged = trained(True, 6, True, seed, np.int32)[:2]
    tf.nest.map_structure(np.testing.assert_array_equal, apart, merged)
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = [mx.sparse_lookup(table, np.array([1, 2], t)) for t in (np.int32, np.int64)]
        do_merge_lookup()
        assert lookups_of(run(session, rows)[1]) == {"MxrecLookup": 1}
        assert table.size() == 2


@pytest.mark.parametrize("expansion", [False, True])
def test_gradients(start, expansion):
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        held = [mx.sparse_lookup(table, keys(*some)) for some in ((1, 2), (2, 3), (9,))]
        loss = tf.reduce_sum(held[0]) + 2 * tf.reduce_sum(held[1])
        do_merge_lookup()
        _, sparse = mx.get_dense_and_sparse_variable()
        # What is held leads to the same rows, also in what is built from it now.
        loss += 3 * tf.reduce_sum(held[2]) + 4 * tf.reduce_sum(held[0][0])
        (gradient,) = tf.gradients(loss, sparse)
        slices = session.run(gradient)
        np.testing.assert_array_equal(slices.values[:, 0], [5, 3, 2, 3])
        by_rows = session.run(tf.gradients(loss, held[:2]))
        np.testing.assert_array_equal(by_rows[0], [[5, 5], [1, 1]])


@pytest.mark.parametrize(
    "by", [mx.ASCEND_SPARSE_LOOKUP_ID_OFFSET, mx.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS]
)
def test_collections_hold_the_merged_lookup(start, by):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        first, table, last = make("first"), make(), make("last")
        order = [first, table, table, last, table]
        rows = [mx.sparse_lookup(each, keys(i, i + 1)) for i, each in enumerate(order)]
        loss = tf.add_n([tf.reduce_sum(each) for each in rows])
        do_merge_lookup()
        embeddings, targets = (
            v1.get_collection(name) for name in (mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB, by)
        )
        assert len(embeddings) == len(targets) == 3
        unique = session.run(v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS))
        assert [each.tolist() for each in unique] == [[0, 1], [1, 2, 3, 4, 5], [3, 4]]
        grads = tf.gradients(loss, embeddings)
        optimizer = mx.optimizers.gradient_descent_by_addr.create_hash_optimizer_by_addr(
            RATE, weight_decay=0.0
        )
        train = optimizer.apply_gradients(list(zip(grads, targets, strict=True)))
        session.run(train)
        there, _, values, _ = contents(table)
        assert there.tolist() == [1, 2, 3, 4, 5]
        np.testing.assert_array_equal(values[:, 0], [0.5, 0, 0.5, 0.5, 0.5])
        assert graph is table.nodes().handle.graph


# --- Who merges with whom -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ({}, {"is_grad": False}),
        ({}, {"access_and_evict_config": {"faae_coefficient": 2}}),
        ({}, {"serving_default_value": 0.5}, {"serving_default_value": 1.0}),
        ({}, {"send_count": 8}, {"send_count": 9}),
        ({}, {"combiner": "sum"}, {"combiner": "mean"}),
    ],
    ids=str,
)
def test_lookups_merge_with_their_equals(start, options):
    start(use_dynamic=not any("send_count" in each for each in options))
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = []
        for _ in range(3):
            for each in options:
                ids = keys(1, 2)
                if "combiner" in each:
                    ids = v1.ragged.constant([[1], [2]], tf.int64)
                rows.append(mx.sparse_lookup(table, ids, **each))
        do_merge_lookup()
        assert lookups_left() == len(options)
        for each in session.run(rows):
            np.testing.assert_array_equal(each, np.ones([2, 2]))


def test_serving_defaults_of_equal_value_merge(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        tensor = tf.constant([2.0, 3.0])
        defaults = [0.5, np.float64(0.5), [0.5, 0.5], tensor, tensor]
        rows = [
            mx.sparse_lookup(table, keys(1), is_train=False, serving_default_value=each)
            for each in defaults
        ]
        do_merge_lookup(is_train=True)
        assert lookups_left() == 5
        do_merge_lookup(is_train=False)
        assert lookups_left() == 2
        read = session.run(rows)
        assert [each[0].tolist() for each in read] == [[0.5, 0.5]] * 3 + [[2.0, 3.0]] * 2


def test_unique_sizes_add_up(start):
    start(use_dynamic=False, use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = [mx.sparse_lookup(table, keys(i, i + 1), send_count=3) for i in range(4)]
        do_merge_lookup()
        (embeddings,) = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
        assert embeddings.shape.as_list() == [12, 2]
        assert session.run(rows)[3].shape == (2, 2)
        assert session.run(embeddings).shape == (12, 2)


def test_tables_and_kinds_stay_apart(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = [make("a"), make("b")]
        rows = [mx.sparse_lookup(table, keys(1, i)) for i in range(3) for table in tables]
        reads = [mx.sparse_lookup(table, keys(7), is_train=False) for table in tables * 2]
        do_merge_lookup(is_train=True)
        assert lookups_left() == 2 + 4
        do_merge_lookup(is_train=True)
        assert lookups_left() == 2 + 4
        later = mx.sparse_lookup(tables[0], keys(8))
        do_merge_lookup(is_train=True)
        assert lookups_left() == 2 + 4
        session.run([rows, later, reads])
        assert [table.size() for table in tables] == [4, 3]


def test_lookups_that_need_each_other_stay_apart(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        a, b = make("a"), make("b")
        first = [mx.sparse_lookup(table, keys(1, 2)) for table in (a, b)]
        next_ids = [tf.cast(tf.reduce_sum(each, axis=1), tf.int64) for each in first]
        # Crosswise: merged carelessly, a would wait for b and b for a.
        second = [mx.sparse_lookup(a, next_ids[1]), mx.sparse_lookup(b, next_ids[0])]
        with tf.control_dependencies([second[0]]):
            third = mx.sparse_lookup(a, keys(5))
        more = mx.sparse_lookup(a, keys(3))
        do_merge_lookup()
        assert lookups_left() == 5
        for each in session.run([*first, *second, third, more]):
            assert (each == 1).all()
        assert (a.size(), b.size()) == (4, 2)


def test_branches_and_functions_keep_their_lookups(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = [mx.sparse_lookup(table, keys(i)) for i in range(2)]
        branch = v1.cond(
            v1.placeholder_with_default(False, []),
            lambda: mx.sparse_lookup(table, keys(8)),
            lambda: tf.zeros([1, 2]),
        )
        inside = tf.function(lambda: mx.sparse_lookup(table, keys(9)))()
        do_merge_lookup()
        session.run([rows, branch])
        assert contents(table)[0].tolist() == [0, 1]
        session.run(inside)
        assert contents(table)[0].tolist() == [0, 1, 9]


# --- Sparse, ragged, weighted -------------------------------------------------------------------


@pytest.mark.parametrize("combiner", [None, "sum", "mean", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["sparse", "ragged", "deep"])
def test_bags(start, combiner, weighted, kind):
    if weighted and combiner is None:
        pytest.skip("weights need a combiner")
    lists: list[Any] = [[[1, 2], [], [3]], [[], []], [[4, 1, 1, 2]]]
    if kind == "deep":
        lists = [[each, [[5], [6, 1]]] for each in lists]
    found = []
    for merge in (False, True):
        start()
        with tf.Graph().as_default(), v1.Session() as session:
            table = make(initializer=v1.random_uniform_initializer(seed=3))
            rows, weights = [], []
            for each in lists:
                ids = v1.ragged.constant(each, tf.int64)
                options: dict[str, Any] = {} if combiner is None else {"combiner": combiner}
                weight = tf.cast(ids, tf.float32) / 4
                weights.append(weight.flat_values)
                if kind == "sparse":
                    ids, weight = ids.to_sparse(), weight.to_sparse()
                if weighted:
                    options["sp_weights"] = weight
                rows.append(mx.sparse_lookup(table, ids, **options))
            flat = [getattr(each, "flat_values", each) for each in rows]
            loss = tf.add_n([tf.reduce_sum(each**2) for each in flat])
            if merge:
                do_merge_lookup()
                assert lookups_left() == 1
            by_weights = tf.gradients(loss, weights) if weighted else []
            dense = [tf.convert_to_tensor(each) for each in by_weights]
            train = train_op(loss)
            found.append((session.run([flat, rows, dense, train])[::2], contents(table)[2]))
    for one, other in zip(*(tf.nest.flatten(results) for results, _ in found), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5, atol=1e-6)


# --- Admission, timestamps, own initializers ------------------------------------------------------


def test_admission_counts_all_merged_lookups_together(start):
    found = {}
    for merge in (False, True):
        start()
        with tf.Graph().as_default(), v1.Session() as session:
            table = make()
            access = {"access_threshold": 3, "faae_coefficient": 1}
            rows = [
                mx.sparse_lookup(table, each, access_and_evict_config=access)
                for each in (keys(1, 2), keys(1, 3), keys(3, 1))
            ]
            if merge:
                do_merge_lookup()
            read = session.run(rows)
            counts = table.counts(keys(1, 2, 3)).tolist()
            found[merge] = [each[:, 0].tolist() for each in read], counts
    # Three occurrences of key 1 in the step: its row is in all lookups of it.
    assert found[True] == ([[1, 0], [1, 0], [0, 1]], [3, 1, 2])
    assert found[False][1] == found[True][1]


@pytest.mark.parametrize("way", ["feature", "collection before", "collection after", "one"])
def test_timestamps(start, way):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        times = v1.placeholder(tf.int64, [None])
        ages = {"eviction_threshold": 1000}
        if way == "collection before":
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        batch: dict[str, Any] = {
            "one": keys(1, 2),
            "two": keys(3, 4, 5, 6).reshape(2, 2),
            "bag": v1.ragged.constant([[7, 8, 9], [1]], tf.int64),
        }
        rows = []
        if way in ("feature", "one"):
            mx.FeatureSpec("when", is_timestamp=True)
            batch["when"] = times
            for name in ("one", "two", "bag"):
                spec = mx.FeatureSpec(name, "t", **ages)
                rows.append(mx.sparse_lookup(table, spec, batch=batch))
        else:
            for each in batch.values():
                rows.append(mx.sparse_lookup(table, each, access_and_evict_config=ages))
        do_merge_lookup()
        assert lookups_left() == 1
        if way == "collection after":
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        flat = [getattr(each, "flat_values", each) for each in rows]
        train = train_op(tf.add_n([tf.reduce_sum(each) for each in flat]))
        session.run(train, {times: keys(5) if way == "one" else keys(5, 8)})
        _, there, *_, last = table.engine.scan((0, 0), 1 << 16)
        uses = dict(zip(there.tolist(), last.tolist(), strict=True))
        second = 5 if way == "one" else 8
        wanted = {1: second, 2: second, 3: 5, 4: 5, 5: second, 6: second, 7: 5, 8: 5, 9: 5}
        assert uses == wanted
        if way == "feature":
            with pytest.raises(tf.errors.InvalidArgumentError, match="one for each example"):
                session.run(train, {times: keys(5, 8, 9)})


def test_an_initializer_of_the_user(start):
    start()

    class Sevens(tf.keras.initializers.Initializer):  # type: ignore[misc]
        def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> Any:
            return tf.fill(shape, 7.0)

    with tf.Graph().as_default(), v1.Session() as session:
        table = make(initializer=Sevens())
        rows = [mx.sparse_lookup(table, keys(i, 5)) for i in range(3)]
        do_merge_lookup()
        read, ops = run(session, rows)
        assert (np.array(read) == 7).all() and table.size() == 4
        assert ops["MxrecInsert"] == ops["MxrecMissing"] == ops["MxrecLookup"] == 1


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expansion", [False, True])
def test_gradients_come_after(start, expansion):
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        other = make("other")
        others = [mx.sparse_lookup(other, keys(i)) for i in range(2)]
        rows = [mx.sparse_lookup(table, keys(i), name="mine") for i in range(2)]
        loss = tf.reduce_sum(rows[1])
        gradient = tf.gradients(loss, table.nodes().proxy)
        with pytest.raises(ValueError, match=r"mine_1.*'t' is used by.*before tf.gradients"):
            do_merge_lookup()
        assert lookups_left() == 4
        session.run([rows, others, gradient])


def test_the_first_run_comes_after(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(mx.sparse_lookup(make(), keys(1)))
        with pytest.raises(RuntimeError, match="do_merge_lookup must be called before the first"):
            do_merge_lookup()


def test_rejected_calls(start):
    @tf.function
    def merges() -> None:
        do_merge_lookup()

    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="not initialized"):
        do_merge_lookup()
    start()
    with pytest.raises(RuntimeError, match="needs a graph"):
        do_merge_lookup()
    with tf.Graph().as_default():
        with pytest.raises(TypeError, match="is_train"):
            do_merge_lookup(is_train=1)
        with pytest.raises(RuntimeError, match="in the function 'merges'"):
            merges.get_concrete_function()
        do_merge_lookup()  # nothing to merge
