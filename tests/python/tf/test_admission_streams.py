"""Random streams through TensorFlow and a plain dictionary: equal after every step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import RATE, WAYS, make, train_op
from graph_runs import contents, contents_of_engine

import mxrec
import mxrec.tf as mx
from mxrec.tf import evict_hook
from mxrec.tf.optimizers import adagrad

sys.path.append(str(Path(__file__).parents[1] / "engine"))
from admission_model import Model, Ones, Sketch, Twin

v1 = tf.compat.v1
DIM = 3
STEPS = 40
SLOTS = 3


class Stream:
    """A monitored session that evicts by a hook, beside the model that it must equal."""

    def __init__(self, rng: np.random.Generator, way: str, trigger: str, mode: str) -> None:
        self.rng = rng
        self.threshold = int(rng.integers(1, 6))
        coefficient, age = int(rng.integers(1, 3)), int(rng.integers(3, 40))
        expected = int(rng.choice([1, 4096]))
        access = {
            "access_threshold": self.threshold,
            "faae_coefficient": coefficient,
            "eviction_threshold": age,
        }
        # By ones and SGD everything can be computed by hand; the others need a table beside.
        by_hand = bool(rng.integers(0, 2))
        seed = int(rng.integers(0, 2**31))
        twin = mxrec.Table(
            "twin",
            DIM,
            optimizer=mxrec.Adagrad(RATE, 0.9),
            initializer=mxrec.Uniform(-1, 1),
            seed=seed,
        )
        self.model = Model(
            Ones(DIM, RATE) if by_hand else Twin(twin),
            self.threshold,
            coefficient,
            Sketch(expected) if mode == "sketch" else None,
            max_age=age,
        )
        initializer = None if by_hand else v1.random_uniform_initializer(-1, 1, seed=seed)
        self.table = make("t", DIM, initializer, admission=mode, admission_keys=expected)
        self.batch = {
            "ids": v1.placeholder(tf.int64, [None, SLOTS]),
            "time": v1.placeholder(tf.int64, [None]),
        }
        if way == "spec":
            mx.FeatureSpec("time", is_timestamp=True)
        rows = WAYS[way](**access)(self.table, self.batch)
        if way == "config":
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, self.batch["time"])
        self.grads = v1.placeholder(tf.float32, [None, SLOTS, DIM])
        optimizer = None if by_hand else adagrad.create_hash_optimizer(RATE)
        train = train_op(tf.reduce_sum(rows * self.grads), optimizer)
        step = v1.train.get_or_create_global_step()
        self.rows, self.train = rows, tf.group(train, v1.assign_add(step, 1))
        self.universe = rng.integers(-(2**62), 2**62, 150)
        self.read = mx.sparse_lookup(self.table, self.universe, is_train=False)
        self.every = int(rng.integers(2, 6))
        self.hook = (
            mx.EvictHook(True, evict_step_interval=self.every)
            if trigger == "steps"
            else mx.EvictHook(True, evict_time_interval=float(self.every))
        )
        self.set_threshold = {
            n: mx.set_threshold(n, emb_name="t", ids_name="ids") for n in range(6)
        }
        self.time = 1000

    def step(self, session: Any) -> None:
        """One batch of training; the hook evicts behind it."""
        batch = int(self.rng.integers(0, 20))
        ranks = self.rng.zipf(1.3, (batch, SLOTS)) % len(self.universe)
        ids = self.universe[ranks]
        self.time += int(self.rng.integers(0, 6))
        back = self.rng.integers(0, 30, batch) if self.rng.random() < 0.3 else 0
        times = np.broadcast_to(self.time - back, batch)
        grads = self.rng.integers(-2, 3, (batch, SLOTS, DIM)).astype(np.float32) / 4
        values = {self.batch["ids"]: ids, self.batch["time"]: times, self.grads: grads}
        rows, _ = session.run([self.rows, self.train], values)
        flat = ids.ravel().tolist()
        expected = self.model.lookup(flat, np.repeat(times, SLOTS).tolist())
        np.testing.assert_array_equal(rows.reshape(-1, DIM), expected)
        self.model.apply(flat, grads.reshape(-1, DIM))

    def check(self, session: Any) -> None:
        model, table = self.model, self.table
        there, _, values, slots = contents(table)
        assert there.tolist() == sorted(model.rows)
        np.testing.assert_array_equal(values, model.read(there.tolist()))
        if isinstance(model.values, Twin):
            assert slots.shape == values.shape
            np.testing.assert_array_equal(slots, contents_of_engine(model.values.table._engine)[3])
        keys = self.universe.tolist()
        np.testing.assert_array_equal(table.counts(self.universe), [model.count(k) for k in keys])
        np.testing.assert_array_equal(session.run(self.read), model.read(keys))
        assert table.size() == len(model.rows)


# Each in eight ways: ids and times by FeatureSpec or plain, triggers by steps or time, two modes.
FEW, MANY = 3, 63


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trigger", ["steps", "time"])
@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_random_streams_equal_the_model(start, monkeypatch, request, way, trigger, mode, number):
    seed = request.config.getoption("seed")
    evicted = [
        run_stream(start, monkeypatch, [seed, each], way, trigger, mode) for each in range(number)
    ]
    assert sum(evicted) > number


def run_stream(start, monkeypatch, seed, way, trigger, mode):
    """Trains both, and returns the rows that went by age."""
    start(use_dynamic_expansion=bool(seed[1] % 2))
    now = [0.0]
    monkeypatch.setattr(evict_hook.time, "monotonic", lambda: now[0])
    rng = np.random.default_rng([*seed, len(way), len(trigger), len(mode)])
    with tf.Graph().as_default():
        stream = Stream(rng, way, trigger, mode)
        last = 0
        with v1.train.SingularMonitoredSession(hooks=[stream.hook]) as session:
            for step in range(1, STEPS + 1):
                now[0] += 1.0
                stream.step(session)
                # By time the hook also wakes up in runs that do not train.
                if step - last >= stream.every:
                    stream.model.evict(None)
                    last = step
                stream.check(session)
                if rng.random() < 0.1:
                    n = int(rng.integers(0, 6))
                    session.run(stream.set_threshold[n])
                    stream.model.set_threshold(n)
    return stream.model.evicted["age"]
