"""A lookup is not grouped where the group would wait for what it feeds itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import control_flow_of, lookups_of, make, run
from tensorflow.python.framework import function
from tensorflow.python.ops import data_flow_ops

import mxrec.tf as mx

v1 = tf.compat.v1

# put(ids) makes an op that lets the tensor of get() be computed.
Channel = tuple[Callable[[Any], Any], Callable[[], Any]]


def session_with_timeout() -> Any:
    return v1.Session(config=v1.ConfigProto(operation_timeout_in_ms=20_000))


def fifo() -> Channel:
    q = v1.FIFOQueue(4, [tf.int64], [[3]])
    return q.enqueue, q.dequeue


def fifo_many() -> Channel:
    q = v1.FIFOQueue(4, [tf.int64], [[]])
    return q.enqueue_many, lambda: q.dequeue_many(3)


def full_fifo() -> Channel:
    """What is fed back waits until there is room."""
    q = v1.FIFOQueue(1, [tf.int64], [[3]])

    def get() -> Any:
        zeros = tf.zeros([3], tf.int64)
        with tf.control_dependencies([q.enqueue(zeros)]):
            full = q.enqueue(zeros)
        with tf.control_dependencies([full]):
            return tf.constant([1, 2, 3], tf.int64)

    def put(ids: Any) -> Any:
        with tf.control_dependencies([ids]):
            return q.dequeue()

    return put, get


def staging() -> Channel:
    area = data_flow_ops.StagingArea([tf.int64], [[3]])
    return lambda ids: area.put([ids]), lambda: area.get()[0]


def map_staging() -> Channel:
    area = data_flow_ops.MapStagingArea([tf.int64], shapes=[[3]])
    key = tf.constant(7, tf.int64)
    return lambda ids: area.put(key, [ids], [0]), lambda: area.get(key)[1][0]


def barrier() -> Channel:
    b = data_flow_ops.Barrier([tf.int64], shapes=[[3]])

    def put(ids: Any) -> Any:
        return b.insert_many(0, tf.constant(["k"]), ids[None])

    return put, lambda: tf.ensure_shape(b.take_many(1)[2][0][0], [3])


def accumulator() -> Channel:
    a = v1.ConditionalAccumulator(tf.float32, [3])

    def put(ids: Any) -> Any:
        return a.apply_grad(tf.cast(ids, tf.float32))

    return put, lambda: tf.cast(a.take_grad(1), tf.int64)


def python() -> Channel:
    q: queue.Queue[Any] = queue.Queue()

    def put(ids: Any) -> Any:
        return v1.py_func(q.put, [ids], [])

    def get() -> Any:
        return tf.ensure_shape(v1.py_func(lambda: q.get(timeout=20), [], tf.int64), [3])

    return put, get


def in_a_function() -> Channel:
    q = v1.FIFOQueue(4, [tf.int64], [[3]], shared_name="in_a_function")

    @function.Defun(noinline=True, func_name="dequeues")  # type: ignore[misc]
    def dequeue() -> Any:
        inner = v1.FIFOQueue(4, [tf.int64], [[3]], shared_name="in_a_function")
        return inner.dequeue()

    return q.enqueue, lambda: tf.ensure_shape(dequeue(), [3])


CHANNELS = [
    fifo,
    fifo_many,
    full_fifo,
    staging,
    map_staging,
    barrier,
    accumulator,
    python,
    in_a_function,
]


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.__name__)
def test_rows_that_the_ids_of_another_lookup_wait_for(
    start: Any, channel: Callable[[], Channel]
) -> None:
    start()
    with tf.Graph().as_default(), session_with_timeout() as session:
        a, b, c = (make(name) for name in "abc")
        put, get = channel()
        x = v1.placeholder(tf.int64, [3])
        first = mx.sparse_lookup(a, x)
        ids = tf.cast(tf.reduce_sum(0.0 * first, 1), tf.int64) + x
        fetches = [put(ids), mx.sparse_lookup(b, get()), mx.sparse_lookup(c, x)]
        # Not all of these waits can be cancelled: one that would never end is ended from outside.
        rescue = threading.Timer(10, session.run, [put(tf.constant([1, 2, 3], tf.int64))])
        rescue.start()
        _, ops = run(session, fetches, {x: [1, 2, 3]})
        rescue.cancel()
        rescue.join()
        # The third is grouped with the first, which waits for nothing.
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1, "MxrecLookup": 1}
        assert [table.size() for table in (a, b, c)] == [3, 3, 3]


def test_pooled_lookups_wait_likewise(start: Any) -> None:
    start()
    with tf.Graph().as_default(), session_with_timeout() as session:
        a, b = make("a"), make("b")
        put, get = fifo()
        x = v1.placeholder(tf.int64, [3])
        first = mx.sparse_lookup(a, tf.RaggedTensor.from_row_lengths(x, [1, 1, 1]), combiner="sum")
        ids = tf.cast(tf.reduce_sum(0.0 * first, 1), tf.int64) + x
        bags = tf.RaggedTensor.from_row_lengths(get(), [2, 1])
        second = mx.sparse_lookup(b, bags, combiner="sum")
        _, ops = run(session, [put(ids), second], {x: [1, 2, 3]})
        assert lookups_of(ops) == {"MxrecPooledLookup": 2}


def test_lookups_under_one_lock(start: Any) -> None:
    start()
    with tf.Graph().as_default(), session_with_timeout() as session:
        mutex = tf.raw_ops.MutexV2(shared_name="one_lock", container="")
        values = []
        for name in "ab":
            lock = tf.raw_ops.MutexLock(mutex=mutex)
            with tf.control_dependencies([lock]):
                value = mx.sparse_lookup(make(name), tf.constant([1, 2], tf.int64))
            with tf.control_dependencies([value]):
                unlock = tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
            with tf.control_dependencies([unlock]):
                values.append(tf.identity(value))
        _, ops = run(session, values)
        assert lookups_of(ops) == {"MxrecLookup": 2}


def test_lookups_behind_the_same_queue_are_grouped(start: Any) -> None:
    start()
    with tf.Graph().as_default(), session_with_timeout() as session:
        tables = [make(name) for name in "abcdef"]
        examples = v1.FIFOQueue(9, [tf.int64] * 3, [[2]] * 3)
        other = v1.FIFOQueue(9, [tf.int64], [[2]])
        ids = [*examples.dequeue(), other.dequeue()]
        values = [mx.sparse_lookup(t, x) for t, x in zip(tables[:4], ids, strict=True)]
        values.append(mx.sparse_lookup(tables[4], ids[0] + ids[3]))
        values.append(mx.sparse_lookup(tables[5], ids[3] + ids[1]))
        for _ in range(3):
            session.run([examples.enqueue([[1, 2], [3, 4], [5, 6]]), other.enqueue([[7, 8]])])
        # Three behind the first queue, one behind the other, two behind both.
        _, ops = run(session, values)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 2, "MxrecLookup": 1}
        # A fed queue does not wait.
        feed = {x: np.array([1, 1]) for x in ids}
        _, ops = run(session, values, feed)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_queues_in_branches(start: Any, control_flow: str) -> None:
    start()
    with (
        control_flow_of(control_flow),
        tf.Graph().as_default(),
        session_with_timeout() as session,
    ):
        tables = [make(name) for name in "abc"]
        queues = [v1.FIFOQueue(9, [tf.int64] * 2, [[2]] * 2) for _ in range(2)]
        training = v1.placeholder(tf.bool, [])
        both = tf.cond(training, lambda: queues[0].dequeue(), lambda: queues[1].dequeue())
        values = [mx.sparse_lookup(t, x) for t, x in zip(tables, both, strict=False)]
        values.append(mx.sparse_lookup(tables[2], tf.constant([1], tf.int64)))
        session.run([q.enqueue([[1, 2], [3, 4]]) for q in queues])
        _, ops = run(session, values, {training: True})
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1, "MxrecLookup": 1}


def test_a_wait_that_only_one_of_two_branches_needs(start: Any) -> None:
    start()
    with (
        control_flow_of("v1"),
        tf.Graph().as_default(),
        session_with_timeout() as session,
    ):
        a, b = make("a"), make("b")
        put, get = fifo()
        x = v1.placeholder(tf.int64, [3])
        waits = [v1.placeholder(tf.bool, []) for _ in range(2)]
        waited = get()
        ids = [tf.cond(wait, lambda: waited + 0, lambda: x + 0) for wait in waits]
        first = mx.sparse_lookup(a, ids[0])
        enqueue = put(tf.cast(tf.reduce_sum(0.0 * first, 1), tf.int64))
        fetches = [enqueue, mx.sparse_lookup(b, ids[1])]
        _, ops = run(session, fetches, {x: [1, 2, 3], waits[0]: False, waits[1]: True})
        assert lookups_of(ops) == {"MxrecLookup": 2}


def test_python_without_state_does_not_wait(start: Any) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        x = tf.constant([1, 2], tf.int64)
        values = [
            mx.sparse_lookup(
                make(name), tf.ensure_shape(v1.py_func(np.copy, [x], tf.int64, stateful=False), [2])
            )
            for name in "ab"
        ]
        _, ops = run(session, values)
        assert lookups_of(ops) == {"MxrecGroupedLookup": 1}


def test_partial_runs_need_single_lookups(start: Any) -> None:
    start(group_lookups=False)
    with tf.Graph().as_default(), session_with_timeout() as session:
        ids = [v1.placeholder(tf.int64, [None]) for _ in "ab"]
        values = [mx.sparse_lookup(make(name), x) for name, x in zip("ab", ids, strict=True)]
        handle = session.partial_run_setup(values, ids)
        assert session.partial_run(handle, values[0], {ids[0]: [1, 2]}).shape == (2, 4)
        assert session.partial_run(handle, values[1], {ids[1]: [3]}).shape == (1, 4)
