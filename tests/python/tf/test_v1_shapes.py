"""Programs of TensorFlow 1, whose shapes hold ``Dimension`` objects in place of integers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf.optimizers import gradient_descent

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def v1_shapes() -> Iterator[None]:
    """As ``disable_v2_behavior()`` leaves it, which every script of TensorFlow 1 calls."""
    v1.disable_v2_tensorshape()
    assert not isinstance(tf.TensorShape([3])[0], int)
    yield
    v1.enable_v2_tensorshape()


def make(dim):
    return mx.create_table(tf.int64, dim, "t", tf.ones_initializer(), device_vocabulary_size=1000)


def test_dim_is_a_shape(start):
    start()
    assert make(tf.TensorShape([6])).dim == 6
    for dim in (tf.TensorShape([None]), tf.TensorShape([2, 3]), tf.TensorShape(None)):
        with pytest.raises(ValueError, match="TensorShape of one known size"):
            mx.create_table(tf.int64, dim, "u", tf.ones_initializer())


def test_a_feature_spec_is_checked(start):
    start()
    table = make(2)
    batch = {"f": tf.zeros([2, 3], tf.int64), "g": tf.zeros([6], tf.int64)}
    for spec in (
        mx.FeatureSpec("f", batch_size=2, feat_count=3),
        mx.FeatureSpec("g", batch_size=2, feat_count=3),
        mx.FeatureSpec("g", feat_count=2),
    ):
        mx.sparse_lookup(table, spec, batch=batch)
    for spec in (mx.FeatureSpec("f", batch_size=3), mx.FeatureSpec("g", feat_count=4)):
        with pytest.raises(ValueError, match="ids have shape"):
            mx.sparse_lookup(table, spec, batch=batch)
    with tf.Graph().as_default():
        mx.FeatureSpec("f", batch_size=2).check_shape(v1.placeholder(tf.int64, [None, 3]))


@pytest.mark.parametrize("kind", ["dense", "ragged", "sparse"])
@pytest.mark.parametrize("combiner", [None, "sum"])
def test_training(start, kind, combiner):
    start()
    bags = [[1, 2], [2, 3]]
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(tf.TensorShape([2]))
        ids = tf.constant(bags, tf.int64)
        options = {}
        if kind != "dense":
            ragged = tf.RaggedTensor.from_tensor(ids)
            ids = ragged if kind == "ragged" else ragged.to_sparse()
            options["combiner"] = combiner
        rows = mx.sparse_lookup(table, ids, **options)
        if isinstance(rows, tf.RaggedTensor):
            rows = rows.to_tensor()
        _, sparse = mx.get_dense_and_sparse_variable()
        gradients = v1.gradients(tf.reduce_sum(rows), sparse)
        train = gradient_descent.create_hash_optimizer(0.25).apply_gradients(
            zip(gradients, sparse, strict=True)
        )
        session.run(train)
        read = session.run(mx.sparse_lookup(table, [1, 2, 3], is_train=False))
    np.testing.assert_array_equal(read[:, 0], [0.75, 0.5, 0.75])


def test_timestamps_of_bags(start):
    start()
    table = make(2)
    batch = {
        "ids": tf.ragged.constant([[1, 2], [3]], dtype=tf.int64),
        "time": tf.constant([100, 200], tf.int64),
    }
    timed = mx.FeatureSpec("time", is_timestamp=True)
    spec = mx.FeatureSpec("ids", "t", eviction_threshold=50)
    mx.sparse_lookup(table, spec, batch=batch)
    assert timed.is_timestamp and table.size() == 3
    assert table.evict() == 2
    np.testing.assert_array_equal(table.engine.contains(np.array([1, 2, 3])), [False, False, True])
