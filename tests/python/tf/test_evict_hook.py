"""EvictHook in monitored sessions and Estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import keys, make, train_op
from evict_program import estimator, input_fn
from graph_runs import contents

import mxrec.tf as mx
from mxrec.tf import evict_hook

v1 = tf.compat.v1
HAS_ESTIMATOR = hasattr(tf, "estimator")
needs_estimator = pytest.mark.skipif(not HAS_ESTIMATOR, reason="TensorFlow without tf.estimator")


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"evict_enable": 1}, TypeError, "evict_enable must be a bool"),
        ({"evict_time_interval": 0}, ValueError, r"evict_time_interval must be in \(0, .*got 0"),
        ({"evict_time_interval": -1}, ValueError, "evict_time_interval"),
        ({"evict_time_interval": None}, TypeError, "evict_time_interval"),
        ({"evict_step_interval": 0}, ValueError, r"evict_step_interval must be in \[1, .*got 0"),
        ({"evict_step_interval": 1.0}, TypeError, "evict_step_interval"),
    ],
)
def test_rejected_arguments(kwargs, error, text):
    with pytest.raises(error, match=text):
        mx.EvictHook(**{"evict_enable": True, **kwargs})


class Program:
    """A graph with two tables, one of which forgets keys after 10 seconds."""

    def __init__(self, access: Any = None, step: bool = True) -> None:
        self.tables = [make("t"), make("kept")]
        self.ids = v1.placeholder(tf.int64, [None])
        self.time = v1.placeholder(tf.int64, [])
        access = {"eviction_threshold": 10} if access is None else access
        rows = mx.sparse_lookup(self.tables[0], self.ids, access_and_evict_config=access)
        rows += mx.sparse_lookup(self.tables[1], self.ids)
        self.train = train_op(tf.reduce_sum(rows))
        # After the lookups.
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, self.time)
        if step:
            count = v1.train.get_or_create_global_step()
            self.train = tf.group(self.train, v1.assign_add(count, 1))

    def there(self) -> list[int]:
        found: list[int] = contents(self.tables[0])[0].tolist()
        return found

    def run(self, session: Any, key: int, time: int) -> list[int]:
        session.run(self.train, {self.ids: keys(key), self.time: time})
        return self.there()


def test_by_steps(start):
    start()
    with tf.Graph().as_default():
        program = Program()
        hook = mx.EvictHook(evict_enable=True, evict_step_interval=3)
        with v1.train.MonitoredTrainingSession(hooks=[hook]) as session:
            assert program.run(session, 1, 100) == [1]
            assert program.run(session, 2, 120) == [1, 2]
            assert program.run(session, 3, 125) == [2, 3]  # the third step
            assert program.run(session, 4, 140) == [2, 3, 4]
            session.run(program.ids, {program.ids: keys(1)})  # no step
            assert program.run(session, 5, 141) == [2, 3, 4, 5]
            assert program.run(session, 6, 142) == [4, 5, 6]
    assert program.tables[1].size() == 6
    program.tables[0].evict()
    assert program.tables[0].stats()["evicted_by_age"] == 3


def test_by_time(start, monkeypatch):
    start()
    now = [0.0]
    monkeypatch.setattr(evict_hook.time, "monotonic", lambda: now[0])
    with tf.Graph().as_default():
        program = Program(step=False)
        hook = mx.EvictHook(evict_enable=True, evict_time_interval=60)
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            assert program.run(session, 1, 100) == [1]
            now[0] = 59.0
            assert program.run(session, 2, 120) == [1, 2]
            now[0] = 60.0
            assert program.run(session, 3, 121) == [2, 3]
            now[0] = 119.0
            assert program.run(session, 4, 140) == [2, 3, 4]
            now[0] = 120.5
            assert program.run(session, 5, 140) == [4, 5]


def test_by_both(start, monkeypatch):
    start()
    now = [0.0]
    monkeypatch.setattr(evict_hook.time, "monotonic", lambda: now[0])
    with tf.Graph().as_default():
        program = Program()
        hook = mx.EvictHook(True, 60, 4)
        with v1.train.MonitoredTrainingSession(hooks=[hook]) as session:
            program.run(session, 1, 100)
            now[0] = 61.0
            assert program.run(session, 2, 120) == [2]
            assert program.run(session, 3, 140) == [2, 3]
            assert program.run(session, 4, 140) == [3, 4]


def test_off_is_off(start):
    start()
    with tf.Graph().as_default():
        program = Program()
        hook = mx.EvictHook(evict_time_interval=1e-9, evict_step_interval=1)
        with v1.train.MonitoredTrainingSession(hooks=[hook]) as session:
            program.run(session, 1, 100)
            assert program.run(session, 2, 200) == [1, 2]


def test_needs_a_rule_and_a_step(start):
    start()
    with tf.Graph().as_default():
        Program(access={"access_threshold": 1})
        with pytest.raises(ValueError, match=r"none of the trained tables 'kept', 't'"):
            mx.EvictHook(evict_enable=True).begin()
    start()
    with tf.Graph().as_default():
        Program(step=False)
        mx.EvictHook(evict_enable=True).begin()
        with pytest.raises(ValueError, match="global step"):
            mx.EvictHook(evict_enable=True, evict_step_interval=1).begin()


def test_evaluation_triggers_nothing(start):
    start()
    with tf.Graph().as_default():
        program = Program()
        with v1.train.MonitoredTrainingSession() as session:
            program.run(session, 1, 100)
            program.run(session, 2, 200)
    with tf.Graph().as_default():
        table = make()
        access = {"eviction_threshold": 10}
        read = mx.sparse_lookup(table, keys(1, 2), is_train=False, access_and_evict_config=access)
        v1.train.get_or_create_global_step()
        hook = mx.EvictHook(True, 1e-9, 1)
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            for _ in range(3):
                session.run(read)
    assert program.there() == [1, 2]


# --- Estimators ---------------------------------------------------------------------------------

ACCESS = {"eviction_threshold": 15}


@needs_estimator
def test_train(start, tmp_path):
    start(use_dynamic_expansion=True)
    model = estimator(tmp_path, ACCESS)
    hooks = [mx.EvictHook(evict_enable=True, evict_step_interval=4)]
    model.train(input_fn(0, 6), hooks=hooks)
    (table,) = mx.registered_tables()
    # At step 4 it is second 30, and batches 0 and 1 are too old.
    np.testing.assert_array_equal(contents(table)[0], np.arange(8, 24))
    # Another training goes on from there: steps 7 to 10, and at step 8 it is second 70.
    model.train(input_fn(6, 4), hooks=hooks)
    np.testing.assert_array_equal(contents(table)[0], np.arange(24, 40))
    # Old keys stay away, whoever asks for them.
    read = model.evaluate(input_fn(0, 10), hooks=[mx.EvictHook(True, 1e-9, 1)])
    assert read["present"] == pytest.approx(16 / 40)
    np.testing.assert_array_equal(contents(table)[0], np.arange(24, 40))


@needs_estimator
def test_train_and_evaluate(start, tmp_path):
    start()
    model = estimator(tmp_path, ACCESS, save_checkpoints_steps=3)
    hook = mx.EvictHook(evict_enable=True, evict_step_interval=2)
    train = tf.estimator.TrainSpec(input_fn(0, 12), max_steps=12, hooks=[hook])
    evaluate = tf.estimator.EvalSpec(
        input_fn(0, 12), steps=None, hooks=[hook], start_delay_secs=0, throttle_secs=0
    )
    result, _ = tf.estimator.train_and_evaluate(model, train, evaluate)
    (table,) = mx.registered_tables()
    # The last trigger was at step 12, of second 110.
    np.testing.assert_array_equal(contents(table)[0], np.arange(40, 48))
    # What was evaluated is the checkpoint of step 12, written before that: step 10 was of second
    # 90, so that batches 8 to 11 are there.
    assert result["present"] == pytest.approx(16 / 48)
    assert result["global_step"] == 12


@needs_estimator
def test_admission_in_an_estimator(start, tmp_path):
    start()
    model = estimator(tmp_path, {"access_threshold": 2, "eviction_threshold": 1000})
    model.train(input_fn(0, 3))
    (table,) = mx.registered_tables()
    assert table.size() == 0
    model.train(input_fn(1, 3, seconds=11))
    np.testing.assert_array_equal(contents(table)[0], np.arange(4, 12))
    assert model.evaluate(input_fn(0, 4))["present"] == pytest.approx(0.5)


def test_a_graph_without_tables_gets_a_warning(start, caplog):
    start()
    make()  # elsewhere
    hook = mx.EvictHook(evict_enable=True, evict_step_interval=1)
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        hook.begin()
    assert "has no table, so nothing is evicted" in caplog.text
