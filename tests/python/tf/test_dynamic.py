"""Dynamic shapes and dynamic expansion: new keys and other batch sizes in every step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt

v1 = tf.compat.v1
DIM = 4


def regression(ids, target, table):
    """Pulls the embedding of each id to a target."""
    return tf.reduce_sum((mx.sparse_lookup(table, ids) - target) ** 2)


def stream(rng, steps):
    """Batches of growing size with ever more keys."""
    for step in range(1, steps + 1):
        yield rng.integers(-20 * step, 20 * step, size=(step % 7, 2))


@pytest.mark.parametrize("expansion", [False, True])
def test_modes_train_to_the_same_table(start, rng, expansion):
    batches = list(stream(rng, 40))
    tables = [train(start, expansion, batches) for train in (eager, function, session)]
    keys = np.unique(np.concatenate([b.ravel() for b in batches]))
    for known, rows in tables:
        np.testing.assert_array_equal(known, keys)
        np.testing.assert_array_equal(rows, tables[0][1])


def table_rows(table):
    _, keys, values, *_ = table.engine.scan((0, 0), 10**6)
    order = np.argsort(keys)
    return keys[order], values[order]


def make():
    return mx.create_table(
        tf.int64,
        DIM,
        "t",
        v1.random_normal_initializer(stddev=0.1, seed=5),
        device_vocabulary_size=5000,
    )


def eager_step(table, optimizer, ids):
    with tf.GradientTape() as tape:
        loss = regression(ids, 1.0, table)
    sparse = mx.get_dense_and_sparse_variable()[1]
    optimizer.apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))


def eager(start, expansion, batches, wrap=lambda f: f):
    start(use_dynamic_expansion=expansion)
    table, optimizer = make(), opt.adagrad.create_hash_optimizer(0.1)
    step = wrap(lambda ids: eager_step(table, optimizer, ids))
    for batch in batches:
        step(tf.constant(batch))
    return table_rows(table)


def function(start, expansion, batches):
    signature = [tf.TensorSpec([None, 2], tf.int64)]
    return eager(start, expansion, batches, lambda f: tf.function(f, input_signature=signature))


def session(start, expansion, batches):
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as sess:
        table = make()
        ids = v1.placeholder(tf.int64, [None, 2])
        loss = regression(ids, 1.0, table)
        optimizer = opt.adagrad.create_hash_optimizer(0.1)
        if expansion:
            local = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
            addresses = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_ID_OFFSET)
            pairs = zip(tf.gradients(loss, local), addresses, strict=True)
            train_op = optimizer.apply_gradients(pairs)
        else:
            train_op = optimizer.minimize(loss)
        for batch in batches:
            sess.run(train_op, {ids: batch})
    return table_rows(table)


def test_a_full_table_refuses_only_new_keys(start):
    start()
    with tf.Graph().as_default(), v1.Session() as sess:
        table = mx.create_table(
            tf.int64, DIM, "small", v1.ones_initializer(), device_vocabulary_size=3
        )
        ids = v1.placeholder(tf.int64, [None])
        rows = mx.sparse_lookup(table, ids)
        sess.run(rows, {ids: [1, 2, 3]})
        with pytest.raises(tf.errors.ResourceExhaustedError, match="small"):
            sess.run(rows, {ids: [1, 4]})
        assert (sess.run(rows, {ids: [3, 2, 1, 1]}) == 1).all()
        assert table.size() == table.capacity() == 3


def test_dataset_pipeline_feeds_the_lookup(start):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as sess:
        table = make()
        dataset = tf.data.Dataset.from_tensor_slices({"item": np.arange(10)}).batch(4)
        batch = v1.data.make_one_shot_iterator(dataset).get_next()
        rows = mx.sparse_lookup(table, mx.FeatureSpec("item"), batch=batch, modify_graph=True)
        train_op = opt.lazy_adam.create_hash_optimizer(0.1).minimize(tf.reduce_sum(rows))
        steps = 0
        with pytest.raises(tf.errors.OutOfRangeError):
            while True:
                sess.run(train_op)
                steps += 1
        assert (steps, table.size(), table.engine.optimizer_step) == (3, 10, 3)
