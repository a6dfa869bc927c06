"""Gradients through lookups: sparse variables and local embeddings, conditions, tapes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt

v1 = tf.compat.v1
LOCAL_EMB = mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB
ID_OFFSET = mx.ASCEND_SPARSE_LOOKUP_ID_OFFSET
UNIQUE_KEYS = mx.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS


def make(name="t", dim=2):
    return mx.create_table(tf.int64, dim, name, v1.zeros_initializer(), device_vocabulary_size=1000)


def sgd():
    return opt.gradient_descent.create_hash_optimizer(1.0)


def column(table, keys):
    return table.engine.lookup(np.array(keys, np.int64), train=False)[:, 0].tolist()


def test_gradient_of_a_sparse_variable(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        ids = tf.constant([[3, 4], [3, 3]], tf.int64)
        weights = tf.constant([[1.0, 2.0], [3.0, 4.0]])[:, :, None]
        loss = tf.reduce_sum(mx.sparse_lookup(table, ids) * weights)
        gradient = tf.gradients(loss, mx.get_dense_and_sparse_variable()[1])[0]
        assert isinstance(gradient, tf.IndexedSlices)
        assert session.run(gradient.values)[:, 0].tolist() == [8, 2]
        session.run(sgd().apply_gradients([(gradient, table.nodes().proxy)]))
    assert column(table, [3, 4]) == [-8, -2]


@pytest.mark.parametrize("expansion", [False, True])
def test_under_a_device_function(start, expansion):
    start(use_dynamic_expansion=expansion)
    config = v1.ConfigProto(device_count={"CPU": 2})
    devices = v1.train.replica_device_setter(
        ps_tasks=1, ps_device="/device:CPU:0", worker_device="/device:CPU:1"
    )
    with tf.Graph().as_default(), v1.Session(config=config) as session, v1.device(devices):
        table = make()
        rows = mx.sparse_lookup(table, tf.constant([3, 4, 3], tf.int64))
        sparse = mx.get_dense_and_sparse_variable()[1]
        gradients = tf.gradients(tf.reduce_sum(rows), sparse)
        session.run(sgd().apply_gradients(zip(gradients, sparse, strict=True)))
    assert column(table, [3, 4]) == [-2, -1]


def test_is_grad_false_contributes_nothing(start):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = mx.sparse_lookup(table, [1, 2]) + mx.sparse_lookup(table, [1, 3], is_grad=False)
        assert len(v1.get_collection(LOCAL_EMB)) == 1
        session.run([rows, sgd().minimize(tf.reduce_sum(rows))])
    assert column(table, [1, 2, 3]) == [-1, -1, 0]
    assert table.size() == 3
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mx.sparse_lookup(table, [1], is_grad=False))
    assert tape.gradient(loss, table.nodes().proxy) is None


@pytest.mark.parametrize("collection", [ID_OFFSET, UNIQUE_KEYS])
def test_local_embeddings_pair_up_in_order(start, collection):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        first, second = make("a"), make("b", dim=3)
        loss = (
            tf.reduce_sum(mx.sparse_lookup(first, [1, 2, 1]))
            + 10 * tf.reduce_sum(mx.sparse_lookup(second, [1]))
            + 100 * tf.reduce_sum(mx.sparse_lookup(first, [2]))
        )
        mx.sparse_lookup(first, [1], is_train=False)
        local = v1.get_collection(LOCAL_EMB)
        assert [t.shape.as_list()[1] for t in local] == [2, 3, 2]
        pairs = zip(tf.gradients(loss, local), v1.get_collection(collection), strict=True)
        session.run(sgd().apply_gradients(list(pairs)))
    assert column(first, [1, 2]) == [-2, -101]
    assert column(second, [1]) == [-10]
    assert first.engine.optimizer_step == 1


def test_addresses_that_other_ops_made(start):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table, _ = make(), make("other")
        loss = tf.reduce_sum(mx.sparse_lookup(table, [1, 2]))
        (local,) = v1.get_collection(LOCAL_EMB)
        (addresses,) = v1.get_collection(ID_OFFSET)
        (gradient,) = tf.gradients(loss, [local])
        derived = tf.gather(tf.identity(addresses), [0, 1])
        clipped, _ = tf.clip_by_global_norm([gradient], 1e9)
        session.run(sgd().apply_gradients([(clipped[0], derived)]))
        assert column(table, [1, 2]) == [-1, -1]
        # Of unknown origin: the gradient tells the table.
        fed = v1.placeholder(tf.int64, [None])
        step = sgd().apply_gradients([(gradient, fed)])
        values = session.run(addresses)
        session.run(step, {fed: values})
        assert column(table, [1, 2]) == [-2, -2]
        session.run(step, {fed: [values[0], -1]})
        assert column(table, [1, 2]) == [-3, -2]
        for bad in ([values[0], 12345], [values[0], 2**62], [values[0], -7]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(step, {fed: bad})
        assert column(table, [1, 2]) == [-3, -2]
        with pytest.raises(ValueError, match="ASCEND_SPARSE_LOOKUP_ID_OFFSET"):
            sgd().apply_gradients([(tf.ones([1, 2]), fed)])


def test_address_of_another_table_or_of_a_row_that_has_gone(start):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default(), v1.Session() as session:
        table, other = make(), make("other")
        loss = tf.reduce_sum(mx.sparse_lookup(table, [1]))
        (gradient,) = tf.gradients(loss, v1.get_collection(LOCAL_EMB))
        mx.sparse_lookup(other, [1])
        own, foreign = v1.get_collection(ID_OFFSET)
        fed = v1.placeholder(tf.int64, [None])
        step = sgd().apply_gradients([(gradient, fed)])
        address, elsewhere = session.run([own, foreign])
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(step, {fed: elsewhere})
        table.engine.erase(np.array([1]))
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(step, {fed: address})
    assert column(table, [1]) == [0] and column(other, [1]) == [0]


def test_mixed_targets_are_refused(start):
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default():
        first, second = make("a"), make("b")
        for table in (first, second):
            mx.sparse_lookup(table, [1])
        a, b = v1.get_collection(ID_OFFSET)
        keys = v1.get_collection(UNIQUE_KEYS)[0]
        ones = tf.ones([1, 2])
        with pytest.raises(ValueError, match="mixes"):
            sgd().apply_gradients([(tf.ones([2, 2]), tf.concat([a, b], 0))])
        with pytest.raises(ValueError, match="both addresses and keys"):
            sgd().apply_gradients([(ones, a), (ones, keys)])


@pytest.mark.parametrize("v2_control_flow", [True, False])
@pytest.mark.parametrize("expansion", [True, False])
def test_inside_cond(start, expansion, v2_control_flow):
    start(use_dynamic_expansion=expansion)
    (v1.enable_control_flow_v2 if v2_control_flow else v1.disable_control_flow_v2)()
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            table = make()
            choice = v1.placeholder(tf.bool, [])
            rows = tf.cond(
                choice,
                lambda: mx.sparse_lookup(table, [1, 1]),
                lambda: 10 * mx.sparse_lookup(table, [2, 3]),
            )
            some = tf.cond(
                choice, lambda: mx.sparse_lookup(table, [4, 5]), lambda: tf.zeros([2, 2])
            )
            train_op = sgd().minimize(tf.reduce_sum(rows) + tf.reduce_sum(some))
            session.run(train_op, {choice: True})
            assert column(table, [1, 2, 3, 4, 5]) == [-2, 0, 0, -1, -1]
            assert table.size() == 3
            session.run(train_op, {choice: False})
            assert column(table, [1, 2, 3, 4, 5]) == [-2, -10, -10, -1, -1]
    finally:
        v1.enable_control_flow_v2()


def test_cond_in_a_function(start):
    start()
    table = make()

    @tf.function
    def step(choice):
        with tf.GradientTape() as tape:
            rows = mx.sparse_lookup(table, [1]) if choice else 2 * mx.sparse_lookup(table, [2])
            loss = tf.reduce_sum(rows)
        sparse = mx.get_dense_and_sparse_variable()[1]
        sgd().apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))

    step(tf.constant(True))
    step(tf.constant(False))
    assert column(table, [1, 2]) == [-1, -2]


@pytest.mark.parametrize("in_function", [False, True])
def test_tape_around_the_lookup(start, in_function):
    start()
    table = make()

    def forward(ids):
        return tf.reduce_sum(mx.sparse_lookup(table, ids) ** 2 + mx.sparse_lookup(table, ids))

    call = tf.function(forward) if in_function else forward
    sparse = mx.get_dense_and_sparse_variable()[1]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = call(tf.constant([5, 5, 6]))
        sgd().apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))
        # -2, then the gradient is 2 * (2 * -2 + 1)
    assert column(table, [5, 6]) == [4, 0]


def test_dense_optimizers_do_not_meet_proxies(start):
    start()
    table = make()
    weight = tf.Variable(2.0)

    def loss():
        return weight * tf.reduce_sum(mx.sparse_lookup(table, [1]) + 1.0)

    with tf.GradientTape() as tape:
        loss()
    assert [v is weight for v in tape.watched_variables()] == [True]
    v1.train.GradientDescentOptimizer(1.0).minimize(loss)
    assert weight.numpy() == 0.0
    sgd().minimize(lambda: tf.reduce_sum(mx.sparse_lookup(table, [1])))
    assert column(table, [1]) == [-1]
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        dense = v1.get_variable("dense", initializer=2.0)
        total = dense * tf.reduce_sum(mx.sparse_lookup(table, [1]) + 2.0)
        train_op = v1.train.GradientDescentOptimizer(1.0).minimize(total)
        session.run(v1.global_variables_initializer())
        session.run(train_op)
        assert session.run(dense) == 0.0
    assert column(table, [1]) == [-1]


def test_gradient_of_a_gradient(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=1)
        x = tf.constant([[3.0]])
        rows = mx.sparse_lookup(table, [1])
        (gradient,) = tf.gradients(rows * x * x, table.nodes().proxy)
        (second,) = tf.gradients(gradient.values, x)
        assert session.run(second).tolist() == [[6.0]]
