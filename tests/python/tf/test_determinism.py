"""Training in TensorFlow gives the bits of the numpy level, with any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mxrec
import mxrec.tf as mx
from mxrec.tf.optimizers import lazy_adam

v1 = tf.compat.v1
DIM, BATCH, STEPS = 9, 40_000, 4
# The ways of training: over sparse variables, or over local embeddings with these.
TARGETS = [None, mx.ASCEND_SPARSE_LOOKUP_ID_OFFSET, mx.ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS]


def batches(seed: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    keys = [
        rng.zipf(1.2, BATCH).astype(np.int64) * 2654435761,
        rng.integers(-(2**62), 2**62, BATCH),
    ]
    return [
        (keys[step % 2], rng.normal(size=(BATCH, DIM)).astype(np.float32)) for step in range(STEPS)
    ]


def columns(engine: Any) -> list[bytes]:
    cursor, blocks = (0, 0), []
    while True:
        cursor, *block, _ = engine.scan(cursor, 10_000)
        if len(block[0]) == 0:
            break
        blocks.append(block)
    keys, *others = (np.concatenate(column) for column in zip(*blocks, strict=True))
    order = np.argsort(keys)
    return [column[order].tobytes() for column in (keys, *others)]


def trained_by_tensorflow(start: Any, target: str | None, seed: int) -> list[bytes]:
    start(train_steps=STEPS, use_dynamic_expansion=target is not None)
    with tf.Graph().as_default():
        table = mx.create_table(
            tf.int64, DIM, "t", tf.random_normal_initializer(stddev=0.1, seed=5), 10**6
        )
        ids, grads = v1.placeholder(tf.int64, [None]), v1.placeholder(tf.float32, [None, DIM])
        loss = tf.reduce_sum(mx.sparse_lookup(table, ids, modify_graph=True) * grads)
        if target is None:
            sources = mx.get_dense_and_sparse_variable()[1]
            targets = sources
        else:
            sources = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
            targets = v1.get_collection(target)
        pairs = list(zip(tf.gradients(loss, sources), targets, strict=True))
        train = lazy_adam.create_hash_optimizer(0.01).apply_gradients(pairs)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for keys, values in batches(seed):
                session.run(train, {ids: keys, grads: values})
        return columns(table.engine)


@pytest.mark.parametrize("target", TARGETS)
def test_the_bits_of_the_numpy_level(start, target, seed):
    table = mxrec.Table(
        "n", DIM, optimizer=mxrec.LazyAdam(0.01), initializer=mxrec.Normal(0, 0.1), seed=5
    )
    for keys, values in batches(seed):
        table.lookup(keys)
        table.apply_gradients(keys, values)
    expected = columns(table._engine)
    before = mxrec.num_threads()
    try:
        for threads in (1, 2, 5):
            mxrec.set_num_threads(threads)
            assert trained_by_tensorflow(start, target, seed) == expected, threads
    finally:
        mxrec.set_num_threads(before)
