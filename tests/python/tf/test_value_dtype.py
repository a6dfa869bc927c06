"""create_table(value_dtype=...): 16-bit storage behind float32 lookups."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf.optimizers import adagrad

v1 = tf.compat.v1
HALF = [tf.float16, tf.bfloat16]
KEYS, DIM = 200, 8


def make(name="t", **kwargs):
    initializer = v1.random_normal_initializer(0.0, 0.05, seed=3)
    return mx.create_table(tf.int64, DIM, name, initializer, **kwargs)


class Program:
    """Logistic regression: an example is two ids, its label the sign of their hidden weights."""

    def __init__(self, **kwargs):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.table = make(**kwargs)
            self.ids = v1.placeholder(tf.int64, [None, 2])
            self.labels = v1.placeholder(tf.float32, [None])
            self.rows = mx.sparse_lookup(self.table, self.ids)
            logits = tf.reduce_sum(self.rows, axis=[1, 2])
            self.loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(self.labels, logits))
            sparse = mx.get_dense_and_sparse_variable()[1]
            grads = tf.gradients(self.loss, sparse)
            optimizer = adagrad.create_hash_optimizer(0.2, 0.1)
            self.train = optimizer.apply_gradients(list(zip(grads, sparse, strict=True)))
            self.saver = v1.train.Saver()
            self.session = v1.Session()
            self.session.run(v1.global_variables_initializer())

    def losses(self, first, last):
        hidden = np.random.default_rng(5).normal(size=KEYS)
        losses = []
        for step in range(first, last):
            ids = np.random.default_rng(step).integers(0, KEYS, (256, 2))
            feed = {self.ids: ids, self.labels: hidden[ids].sum(axis=1) > 0}
            losses.append(self.session.run([self.loss, self.train], feed)[0])
        return np.array(losses)


def rows_of(table):
    _, keys, values, slots, *_ = table.engine.scan((0, 0), 10 * KEYS)
    return np.hstack([values, slots])[np.argsort(keys)]


@pytest.fixture
def unbounded(start):
    def again():
        start(use_dynamic_expansion=True)

    again()
    return again


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("value_dtype", HALF)
def test_training_learns_as_with_float32(unbounded, value_dtype, stochastic):
    wanted = Program().losses(0, 150)
    unbounded()
    program = Program(value_dtype=value_dtype, stochastic_rounding=stochastic)
    assert program.rows.dtype == tf.float32
    losses = program.losses(0, 150)
    assert losses[:5].mean() > 0.6
    assert losses[-10:].mean() < 0.35
    assert abs(losses[-10:].mean() - wanted[-10:].mean()) < 0.01
    assert program.table.engine.stats()["value_dtype"] == value_dtype.name


@pytest.mark.parametrize("value_dtype", HALF)
def test_training_goes_on_bit_identically_after_a_restore(unbounded, tmp_path, value_dtype):
    kwargs = {"value_dtype": value_dtype, "stochastic_rounding": True}
    program = Program(**kwargs)
    program.losses(0, 10)
    with program.graph.as_default():
        path = program.saver.save(program.session, str(tmp_path / "model"))
    program.losses(10, 20)
    expected = rows_of(program.table)
    unbounded()
    again = Program(**kwargs)
    with again.graph.as_default():
        again.saver.restore(again.session, path)
    again.losses(10, 20)
    np.testing.assert_array_equal(rows_of(again.table), expected)


@pytest.mark.parametrize("value_dtype", HALF)
def test_float32_checkpoints_restore_into_16_bits(unbounded, tmp_path, value_dtype):
    program = Program()
    program.losses(0, 10)
    with program.graph.as_default():
        path = program.saver.save(program.session, str(tmp_path / "model"))
    full = rows_of(program.table)
    unbounded()
    half = Program(value_dtype=value_dtype)
    with half.graph.as_default():
        half.saver.restore(half.session, path)
    got = rows_of(half.table)
    rounded = tf.cast(tf.cast(full[:, :DIM], value_dtype), tf.float32).numpy()
    np.testing.assert_array_equal(got[:, :DIM], rounded)
    np.testing.assert_array_equal(got[:, DIM:], full[:, DIM:])


def test_custom_initializers_are_rounded(unbounded):
    table = mx.create_table(
        tf.int64,
        2,
        "t",
        lambda shape, dtype=None, **_: tf.fill(shape, 0.1),
        value_dtype=tf.bfloat16,
    )
    rows = mx.sparse_lookup(table, tf.constant([1, 2], tf.int64))
    wanted = tf.cast(tf.cast(tf.fill([2, 2], 0.1), tf.bfloat16), tf.float32)
    np.testing.assert_array_equal(rows, wanted)


def test_a_table_has_one_value_dtype(unbounded):
    with tf.Graph().as_default():
        make(value_dtype=tf.float16)
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"value_dtype .*float16.* != "):
        make()
    with tf.Graph().as_default(), pytest.raises(ValueError, match="stochastic_rounding False != "):
        make(value_dtype=tf.float16, stochastic_rounding=True)
