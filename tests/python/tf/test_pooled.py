"""Pooled lookups of sparse and ragged ids against TensorFlow's on a static variable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt
from mxrec.tf.ops import library

v1 = tf.compat.v1
COMBINERS = ["sum", "mean", "sqrtn"]
KEYS = 50


def make(name="t", dim=4, key_dtype=tf.int64):
    return mx.create_table(
        key_dtype, dim, name, v1.random_normal_initializer(seed=1), device_vocabulary_size=10000
    )


def static_values(table):
    """What the keys [0, KEYS) have in the table, inserting them."""
    return mx.sparse_lookup(table, tf.range(KEYS, dtype=tf.int64)).numpy()


def random_lengths(rng, bags):
    # TensorFlow leaves out empty bags at the end.
    return np.append(rng.integers(0, 6, bags - 1), 3) if bags else np.zeros(0, np.int64)


def random_ids(rng, bags, dtype=np.int64):
    """ids, weights: as sparse and as ragged tensors."""
    lengths = random_lengths(rng, bags)
    n = int(lengths.sum())
    ids = rng.integers(0, KEYS, n).astype(dtype)
    weights = rng.normal(size=n).astype(np.float32)
    ragged_ids = tf.RaggedTensor.from_row_lengths(ids, lengths)
    ragged_weights = ragged_ids.with_values(weights)
    return {
        "ragged": (ragged_ids, ragged_weights),
        "sparse": (ragged_ids.to_sparse(), ragged_weights.to_sparse()),
    }


def numpy_pool(values, ids, splits, weights, combiner):
    """The documented sum: float32, in order; the divisor in double."""
    out = np.zeros([len(splits) - 1, values.shape[1]], np.float32)
    for b in range(len(out)):
        occurrences = range(splits[b], splits[b + 1])
        given = [np.float32(1) if weights is None else weights[i] for i in occurrences]
        for w, i in zip(given, occurrences, strict=True):
            out[b] += w * values[ids[i]]
        total = {
            "sum": 1.0,
            "mean": sum(float(w) for w in given),
            "sqrtn": np.sqrt(sum(float(w) ** 2 for w in given)),
        }[combiner]
        out[b] = 0 if np.float32(total) == 0 else out[b] / np.float32(total)
    return out


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("kind", ["sparse", "ragged"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_tensorflow(start, rng, combiner, kind, weighted):
    start()
    for dim, bags, dtype in [(1, 40, np.int64), (7, 40, np.int32), (16, 1, np.int64)]:
        table = make(f"t{dim}", dim)
        values = static_values(table)
        by_kind = random_ids(rng, bags, dtype)
        ids, weights = by_kind[kind]
        weights = weights if weighted else None
        ragged = by_kind["ragged"]
        exact = numpy_pool(
            values,
            ragged[0].values.numpy(),
            ragged[0].row_splits.numpy(),
            ragged[1].values.numpy() if weighted else None,
            combiner,
        )
        for is_train in (True, False):
            pooled = mx.sparse_lookup(
                table, ids, is_train=is_train, combiner=combiner, sp_weights=weights
            )
            np.testing.assert_array_equal(pooled, exact)
        sparse = by_kind["sparse"]
        expected = tf.nn.embedding_lookup_sparse(
            tf.constant(values), sparse[0], sparse[1] if weighted else None, combiner=combiner
        )
        scale = np.abs(exact).max() + 1
        np.testing.assert_allclose(pooled / scale, expected / scale, rtol=1e-4, atol=1e-5)
        assert table.size() == KEYS


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("kind", ["sparse", "ragged"])
@pytest.mark.parametrize("expansion", [False, True])
def test_gradients_equal_tensorflow(start, rng, combiner, kind, expansion):
    start(use_dynamic_expansion=expansion)
    for weighted in (False, True):
        table = make(f"t{weighted}", 5)
        values = tf.Variable(static_values(table))
        ids, weights = random_ids(rng, 30)[kind]
        sparse_ids = ids if kind == "sparse" else ids.to_sparse()
        flat = tf.abs(weights.values if kind == "sparse" else weights.flat_values) + 0.1
        factor = tf.constant(rng.normal(size=[30, 5]).astype(np.float32))

        def loss(pooled, factor=factor):
            return tf.reduce_sum(pooled * pooled * factor)

        proxy = table.nodes().proxy
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(flat)
            given = (
                tf.SparseTensor(ids.indices, flat, ids.dense_shape)
                if kind == "sparse"
                else ids.with_flat_values(flat)
            )
            ours = mx.sparse_lookup(
                table, ids, combiner=combiner, sp_weights=given if weighted else None
            )
            theirs = tf.nn.embedding_lookup_sparse(
                values,
                sparse_ids,
                tf.SparseTensor(sparse_ids.indices, flat, sparse_ids.dense_shape)
                if weighted
                else None,
                combiner=combiner,
            )
            our_loss, their_loss = loss(ours), loss(theirs)
        slices = tape.gradient(our_loss, proxy)
        assert isinstance(slices, tf.IndexedSlices)
        dense = tf.convert_to_tensor(tape.gradient(their_loss, values)).numpy()
        distinct, _ = tf.unique(sparse_ids.values)
        np.testing.assert_allclose(slices.values, dense[distinct.numpy()], rtol=1e-4, atol=1e-4)
        if weighted:
            np.testing.assert_allclose(
                tape.gradient(our_loss, flat),
                tape.gradient(their_loss, flat),
                rtol=1e-3,
                atol=1e-3,
            )


@pytest.mark.parametrize("expansion", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_equals_a_static_twin(start, rng, expansion, weighted):
    start(use_dynamic_expansion=expansion)
    batches = [random_ids(rng, 20) for _ in range(5)]
    table = make(dim=6)
    twin = tf.Variable(static_values(table))
    twin_optimizer = v1.train.AdagradOptimizer(0.1, initial_accumulator_value=0.1)
    for by_kind in batches:
        ids, weights = by_kind["sparse"]
        weights = tf.SparseTensor(ids.indices, tf.abs(weights.values) + 0.1, ids.dense_shape)
        with tf.GradientTape() as tape:
            pooled = tf.nn.embedding_lookup_sparse(
                twin, ids, weights if weighted else None, combiner="sqrtn"
            )
            loss = tf.reduce_sum(tf.square(pooled - 1.0))
        gradient = tape.gradient(loss, twin)
        twin_optimizer.apply_gradients([(gradient, twin)])
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=6)
        indices = v1.placeholder(tf.int64, [None, 2])
        values = v1.placeholder(tf.int64, [None])
        flat = v1.placeholder(tf.float32, [None])
        ids = tf.SparseTensor(indices, values, tf.constant([20, 6], tf.int64))
        pooled = mx.sparse_lookup(
            table,
            ids,
            combiner="sqrtn",
            sp_weights=tf.SparseTensor(indices, flat, ids.dense_shape) if weighted else None,
        )
        assert pooled.shape.as_list() == [20, 6]
        loss = tf.reduce_sum(tf.square(pooled - 1.0))
        optimizer = opt.adagrad.create_hash_optimizer(0.1, initial_accumulator_value=0.1)
        if expansion:
            local = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
            addresses = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_ID_OFFSET)
            pairs = zip(tf.gradients(loss, local), addresses, strict=True)
            train_op = optimizer.apply_gradients(list(pairs))
        else:
            train_op = optimizer.minimize(loss)
        for by_kind in batches:
            ids, weights = by_kind["sparse"]
            feed = {
                indices: ids.indices.numpy(),
                values: ids.values.numpy(),
                flat: np.abs(weights.values.numpy()) + np.float32(0.1),
            }
            session.run(train_op, feed)
        after = session.run(mx.sparse_lookup(table, tf.range(KEYS), is_train=False))
    np.testing.assert_allclose(after, twin.numpy(), rtol=1e-4, atol=1e-5)


def test_static_shapes_and_unknown_ones(start):
    start(use_dynamic=False)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=3)
        for is_train in (True, False):

            def pooled(ids, is_train=is_train, **kwargs):
                return mx.sparse_lookup(
                    table, ids, 8, is_train=is_train, **{"combiner": "mean", **kwargs}
                )

            def shape(ids, pooled=pooled, **kwargs):
                found = pooled(ids, **kwargs).shape
                return None if found.rank is None else found.as_list()

            assert shape(v1.sparse_placeholder(tf.int64, [None, 9])) == [None, 3]
            assert shape(v1.sparse_placeholder(tf.int64, [5, None])) == [5, 3]
            assert shape(v1.sparse_placeholder(tf.int64, [5, 2, None])) == [5, 2, 3]
            assert shape(v1.sparse_placeholder(tf.int64, [None, 2], name="x"), combiner=None) == [
                None,
                2,
                3,
            ]
            splits = v1.placeholder(tf.int32, [6])
            ragged = tf.RaggedTensor.from_row_splits(v1.placeholder(tf.int32, [None]), splits)
            assert shape(ragged) == [5, 3]
            assert shape(v1.ragged.placeholder(tf.int64, 1, [])) == [None, 3]
            unknown = v1.sparse_placeholder(tf.int64)
            result = pooled(unknown)
            for dense in (np.ones([4, 2]), np.ones([2, 3, 4]), np.zeros([0, 3])):
                value = tf.nest.map_structure(
                    np.asarray, session.run(tf.sparse.from_dense(tf.constant(dense, tf.int64)))
                )
                assert session.run(result, {unknown: value}).shape == (*dense.shape[:-1], 3)


def test_bags_without_ids(start):
    start()
    table = make(dim=3)
    row = mx.sparse_lookup(table, [7]).numpy()[0]
    zeros = np.zeros(3)
    ragged = tf.ragged.constant([[], [7], [], []], tf.int64, row_splits_dtype=tf.int32)
    for combiner in COMBINERS:
        for ids in (ragged, tf.SparseTensor([[1, 5]], tf.constant([7], tf.int64), [4, 9])):
            for is_train in (True, False):
                pooled = mx.sparse_lookup(table, ids, combiner=combiner, is_train=is_train)
                np.testing.assert_array_equal(pooled, [zeros, row, zeros, zeros])
        empty = tf.SparseTensor(np.zeros([0, 2], np.int64), np.zeros([0], np.int64), [0, 4])
        assert mx.sparse_lookup(table, empty, combiner=combiner).shape == (0, 3)
        none = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int64), [0])
        with tf.GradientTape() as tape:
            pooled = mx.sparse_lookup(table, none, combiner=combiner)
        assert pooled.shape == (0, 3)
        slices = tape.gradient(pooled, table.nodes().proxy)
        assert slices.values.shape == (0, 3)
    weights = tf.SparseTensor([[0, 0], [0, 1]], [0.5, -0.5], [1, 2])
    ids = tf.SparseTensor([[0, 0], [0, 1]], tf.constant([7, 7], tf.int64), [1, 2])
    pooled = mx.sparse_lookup(table, ids, combiner="mean", sp_weights=weights)
    np.testing.assert_array_equal(pooled, [zeros])


def test_absent_keys_read_the_default(start):
    start()
    table = make(dim=2)
    row = mx.sparse_lookup(table, [1]).numpy()[0]
    ids = tf.ragged.constant([[1, 99], [99]], tf.int64)
    kwargs = {"combiner": "mean", "is_train": False}
    pooled = mx.sparse_lookup(table, ids, **kwargs)
    np.testing.assert_array_equal(pooled, [row / 2, [0, 0]])
    pooled = mx.sparse_lookup(table, ids, serving_default_value=0.5, **kwargs)
    np.testing.assert_array_equal(pooled, [(row + np.float32(0.5)) / 2, [0.5, 0.5]])
    assert table.size() == 1


def test_without_a_combiner(start):
    start()
    table = make(dim=2)
    rows = mx.sparse_lookup(table, tf.range(10)).numpy()
    ragged = tf.ragged.constant([[[1], []], [[2, 3]]], tf.int64)
    for is_train in (True, False):
        found = mx.sparse_lookup(table, ragged, is_train=is_train)
        assert isinstance(found, tf.RaggedTensor)
        assert found.shape.as_list() == [2, None, None, 2]
        np.testing.assert_array_equal(found.flat_values, rows[[1, 2, 3]])
        assert found.nested_row_lengths()[1].numpy().tolist() == [1, 0, 2]
    sparse = tf.SparseTensor([[0, 1], [2, 0]], tf.constant([4, 4], tf.int32), [3, 2])
    with tf.GradientTape() as tape:
        found = mx.sparse_lookup(table, sparse, combiner=None)
    expected = np.zeros([3, 2, 2])
    expected[0, 1] = expected[2, 0] = rows[4]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tape.gradient(found, table.nodes().proxy).values, [[2, 2]])


def test_more_axes_pool_the_last(start):
    start()
    table = make(dim=2)
    rows = mx.sparse_lookup(table, tf.range(10)).numpy()
    indices = [[0, 1, 0], [0, 1, 2], [1, 0, 1]]
    sparse = tf.SparseTensor(indices, tf.constant([1, 2, 3], tf.int64), [2, 2, 3])
    expected = np.zeros([2, 2, 2], np.float32)
    expected[0, 1], expected[1, 0] = rows[1] + rows[2], rows[3]
    np.testing.assert_array_equal(mx.sparse_lookup(table, sparse, combiner="sum"), expected)
    ragged = tf.ragged.constant([[[1, 2], []], [[3]]], tf.int64)
    found = mx.sparse_lookup(table, ragged, combiner="sum", is_train=False)
    assert found.row_splits.numpy().tolist() == [0, 2, 3]
    np.testing.assert_array_equal(found.values, [rows[1] + rows[2], [0, 0], rows[3]])


def test_feature_specs_and_values(start):
    start()
    table = make(dim=2)
    ids = tf.ragged.constant([[1, 2], [3]], tf.int64)
    expected = mx.sparse_lookup(table, ids, combiner="mean")
    sparse = ids.to_sparse()
    value = v1.SparseTensorValue(
        sparse.indices.numpy(), sparse.values.numpy(), sparse.dense_shape.numpy()
    )
    ragged_value = v1.ragged.constant_value([[1, 2], [3]], np.int64)
    for feature in (ids, sparse, value, ragged_value):
        batch = {"f": feature}
        spec = mx.FeatureSpec("f", batch_size=2, feat_count=7)
        np.testing.assert_array_equal(
            mx.sparse_lookup(table, spec, batch=batch, combiner="mean"), expected
        )
        with pytest.raises(ValueError, match="batch_size=3"):
            mx.sparse_lookup(table, mx.FeatureSpec("f", batch_size=3), batch=batch)


def test_is_grad_false_contributes_nothing(start):
    start()
    table = make(dim=2)
    ids = tf.ragged.constant([[1, 2], [3]], tf.int64)
    weights = ids.with_values(tf.constant([1.0, 2.0, 3.0]))
    for sp_weights in (None, weights):
        with tf.GradientTape() as tape:
            tape.watch(weights.values)
            pooled = mx.sparse_lookup(
                table, ids, combiner="sum", is_grad=False, sp_weights=sp_weights
            )
        sources = [table.nodes().proxy, weights.values]
        assert tape.gradient(pooled, sources) == [None, None]
    assert table.size() == 3


def test_gradient_of_a_gradient(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=1)
        x = tf.constant([[3.0]])
        w = tf.constant([2.0, 5.0])
        ids = tf.RaggedTensor.from_row_splits(tf.constant([1, 1], tf.int64), [0, 2])
        for weights, outer, by_weight in ((None, 2.0, None), (ids.with_values(w), 7.0, [9.0, 9.0])):
            rows = mx.sparse_lookup(table, ids, combiner="sum", sp_weights=weights)
            (gradient,) = tf.gradients(rows * x * x, table.nodes().proxy)
            second = tf.gradients(gradient.values, [x, w])
            assert session.run(second[0]).tolist() == [[6.0 * outer]]
            if by_weight is not None:
                assert session.run(second[1]).tolist() == by_weight


@pytest.mark.parametrize("expansion", [False, True])
def test_inside_cond_and_functions(start, expansion):
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        table = mx.create_table(
            tf.int64, 2, "c", v1.zeros_initializer(), device_vocabulary_size=100
        )
        choice = v1.placeholder(tf.bool, [])
        ids = tf.RaggedTensor.from_row_splits(tf.constant([1, 2, 1], tf.int64), [0, 2, 3])
        pooled = tf.cond(
            choice,
            lambda: mx.sparse_lookup(table, ids, combiner="sum"),
            lambda: mx.sparse_lookup(table, ids + 10, combiner="sum"),
        )
        train_op = opt.gradient_descent.create_hash_optimizer(1.0).minimize(tf.reduce_sum(pooled))
        session.run(train_op, {choice: True})
        read = table.engine.lookup(np.array([1, 2, 11]), train=False)[:, 0]
        assert read.tolist() == [-2, -1, 0] and table.size() == 2

    table = make("f", 3)
    step = tf.function(lambda ids: mx.sparse_lookup(table, ids, combiner="mean"))
    ids = tf.ragged.constant([[1, 2], [3]], tf.int64)
    np.testing.assert_array_equal(step(ids), mx.sparse_lookup(table, ids, combiner="mean"))


def test_a_custom_initializer_and_a_fixed_unique_size(start):
    start(use_dynamic=False)
    table = mx.create_table(
        tf.int64,
        2,
        "own",
        lambda shape, dtype=tf.float32, **_: tf.fill(shape, 4.0),
        device_vocabulary_size=100,
    )
    ids = tf.ragged.constant([[1, 2], [3]], tf.int64)
    with tf.GradientTape() as tape:
        pooled = mx.sparse_lookup(table, ids, 5, combiner="sum")
    np.testing.assert_array_equal(pooled, [[8, 8], [4, 4]])
    slices = tape.gradient(pooled, table.nodes().proxy)
    assert slices.values.shape == (5, 2) and slices.indices.numpy()[3:].tolist() == [-1, -1]


SPARSE = tf.SparseTensor([[0, 0], [1, 0]], tf.constant([1, 2], tf.int64), [2, 2])
RAGGED = tf.ragged.constant([[1, 2], [3]], tf.int64)


@pytest.mark.parametrize(
    ("ids", "kwargs", "error", "text"),
    [
        (SPARSE, {"combiner": "max"}, ValueError, "combiner must be None"),
        (SPARSE, {"sp_weights": SPARSE}, ValueError, "need a combiner"),
        ([[1]], {"combiner": "sum"}, ValueError, r"tf\.RaggedTensor\.from_tensor\(ids\)"),
        (
            SPARSE,
            {"combiner": "sum", "sp_weights": SPARSE, "weights": SPARSE},
            ValueError,
            "pass one of them",
        ),
        (
            SPARSE,
            {"combiner": "sum", "sp_weights": tf.constant([1.0, 2.0])},
            TypeError,
            r"sp_weights must be a tf\.SparseTensor, as ids is",
        ),
        (
            RAGGED,
            {"combiner": "sum", "weights": SPARSE},
            TypeError,
            r"sp_weights must be a tf\.RaggedTensor",
        ),
        (SPARSE, {"combiner": "sum", "weights": SPARSE}, TypeError, "floating point, got.*int64"),
        (
            SPARSE,
            {"combiner": "sum", "weights": tf.SparseTensor([[0, 0]], [1.0], [2, 2])},
            ValueError,
            "one weight for each id",
        ),
        (
            SPARSE,
            {"combiner": "sum", "weights": tf.SparseTensor([[0, 0], [1, 0]], [1.0, 1.0], [3, 2])},
            ValueError,
            r"shape of ids, \(2, 2\), got \(3, 2\)",
        ),
        (
            SPARSE,
            {"combiner": "sum", "weights": tf.SparseTensor([[0, 0], [1, 1]], [1.0, 1.0], [2, 2])},
            tf.errors.InvalidArgumentError,
            r"weights\.indices differs from ids\.indices at entry 1",
        ),
        (
            RAGGED,
            {"combiner": "sum", "weights": tf.ragged.constant([[1.0], [1.0, 1.0]])},
            tf.errors.InvalidArgumentError,
            "other row splits than ids",
        ),
        (
            RAGGED,
            {"combiner": "sum", "weights": tf.ragged.constant([[1.0, 1.0, 1.0]])},
            ValueError,
            "sp_weights must have the shape",
        ),
        (
            tf.SparseTensor([[1, 0], [0, 0]], tf.constant([1, 2], tf.int64), [2, 2]),
            {"combiner": "sum"},
            tf.errors.InvalidArgumentError,
            r"tf\.sparse\.reorder",
        ),
        (
            tf.SparseTensor([[0, 0], [2, 0]], tf.constant([1, 2], tf.int64), [2, 2]),
            {"combiner": "sum"},
            tf.errors.InvalidArgumentError,
            r"ids\.indices\[1, 0\] is 2, must be in \[0, 2\)",
        ),
        (
            tf.SparseTensor([[0]], tf.constant([1], tf.int64), [2]),
            {"combiner": "sum"},
            ValueError,
            "rank 2 or more",
        ),
        (
            tf.RaggedTensor.from_row_splits(tf.zeros([2, 3], tf.int64), [0, 2]),
            {"combiner": "sum"},
            ValueError,
            "last axis is not ragged",
        ),
        (
            tf.RaggedTensor.from_row_splits(tf.zeros([2], tf.int64), [0, 3], validate=False),
            {"combiner": "sum"},
            tf.errors.InvalidArgumentError,
            "from 0 to 3; it must go from 0 to 2",
        ),
        (tf.ragged.constant([["a"]]), {"combiner": "sum"}, TypeError, "ids must be an integer"),
    ],
)
@pytest.mark.parametrize("is_train", [True, False])
def test_rejections_leave_the_table_as_it_was(start, ids, kwargs, error, text, is_train):
    start()
    table = make()
    with pytest.raises(error, match=text):
        mx.sparse_lookup(table, ids, is_train=is_train, **kwargs)
    assert table.size() == 0


def test_ops_refuse_what_does_not_fit():
    rows, inverse = np.zeros([2, 3], np.float32), np.array([0, 1, 1], np.int32)
    splits, unique = np.array([0, 2, 3]), np.zeros(2, np.int64)
    pooling = {"splits": splits, "combiner": "sum", "weights": []}

    def restore(**change):
        return library.mxrec_pooled_restore(
            **{"rows": rows, "inverse": inverse, **pooling, **change}
        )

    assert restore().shape == (2, 3)
    for change, text in [
        ({"inverse": tf.constant([0, 2, 1])}, r"inverse\[1\] is 2, there are 2 rows"),
        ({"weights": [tf.zeros([2])]}, r"weights have shape \[2\], the ids \[3\]"),
        ({"weights": [tf.zeros([3])] * 2}, "weights has 2 tensors"),
        ({"splits": tf.zeros([0], tf.int64)}, "offsets is empty"),
        ({"combiner": "max"}, "combiner"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            restore(**change)
    for call, operands in [
        (library.mxrec_pooled_segment_sum, {"unique": unique}),
        (library.mxrec_pooled_weight_gradients, {"rows": rows}),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"grads has shape \[3, 3\]"):
            call(grads=tf.zeros([3, 3]), inverse=inverse, **operands, **pooling)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"dense_shape\[0\] is 4294967296"):
        library.mxrec_bag_splits(
            indices=tf.zeros([0, 2], tf.int64), dense_shape=[2**32, 1], weights_indices=[]
        )
    with tf.Graph().as_default():
        batch = v1.placeholder(tf.int64, [None, 2])
        with pytest.raises(ValueError, match="rank"):
            library.mxrec_pooled_read(
                table=tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[0, 3]),
                ids=batch,
                like=tf.zeros([0, 3]),
                absent=[],
                **pooling,
            )
        sums = library.mxrec_pooled_segment_sum(
            grads=v1.placeholder(tf.float32, [None, 3]), inverse=inverse, unique=unique, **pooling
        )
        assert sums.shape.as_list() == [2, 3] and not sums.op.op_def.is_stateful
