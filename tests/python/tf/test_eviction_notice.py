"""The warning of a rule of eviction that nothing triggers."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from admission_runs import keys, make, train_op
from evict_program import estimator, input_fn

import mxrec.tf as mx
from mxrec.tf.eviction_notice import RUNS_BEFORE_NOTICE, before_run

v1 = tf.compat.v1
SAID = "so its rows leave only when table.evict() is called"
HOOK = mx.EvictHook(evict_enable=True)
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "eviction_threshold=10": ({"eviction_threshold": 10}, {}),
    "eviction_threshold=0": ({"eviction_threshold": 0}, {}),
    "evict_max_rows=5": ({}, {"evict_max_rows": 5}),
    "evict_min_l2=0.5": ({}, {"evict_min_l2": 0.5}),
}


def graph(name: str, access: dict[str, Any], is_train: bool = True, **options: Any) -> Any:
    """An op that uses a table of the default graph."""
    rows = mx.sparse_lookup(
        make(name, **options), keys(1), is_train=is_train, access_and_evict_config=access
    )
    return train_op(tf.reduce_sum(rows)) if is_train else rows.op


def monitored(op: Any, hooks: list[Any], runs: int = 1) -> None:
    v1.train.get_or_create_global_step()
    with v1.train.MonitoredTrainingSession(hooks=hooks) as session:
        for _ in range(runs):
            session.run(op)


@pytest.mark.parametrize("rule", RULES)
def test_a_monitored_session_without_the_hook(start, caplog, rule: str) -> None:
    start()
    access, options = RULES[rule]
    for _ in range(2):  # once per table, however many graphs and runs there are
        with tf.Graph().as_default():
            monitored(graph("user", access, **options), [], runs=3)
    assert caplog.text.count(SAID) == 1
    assert f"Table 'user' has {rule}, but no EvictHook is among the hooks" in caplog.text
    assert "EvictHook(evict_enable=True, evict_time_interval=SECONDS)" in caplog.text
    assert f"or leave {rule.split('=')[0]} out" in caplog.text


def test_each_table_once_and_only_those_with_a_rule(start, caplog) -> None:
    start()
    with tf.Graph().as_default():
        ops = [
            graph("a", {"eviction_threshold": 10}, evict_max_rows=7),
            graph("b", {"access_threshold": 2}),
            graph("c", {}, evict_max_rows=1_000_000),
            graph("d", {"eviction_threshold": 10}, is_train=False),
        ]
        monitored(ops, [])
    said = [record.getMessage() for record in caplog.records if SAID in record.getMessage()]
    assert [text.split(",")[0] for text in said] == [
        "Table 'a' has eviction_threshold=10",
        "Table 'c' has evict_max_rows=1000000",
    ]
    assert "evict_max_rows=7" in said[0] and "leave eviction_threshold, evict_max_rows" in said[0]


def test_a_hook_that_is_off(start, caplog) -> None:
    start()
    with tf.Graph().as_default():
        monitored(graph("t", {"eviction_threshold": 10}), [mx.EvictHook()])
    assert "'t' has eviction_threshold=10, but the EvictHook of its session has" in caplog.text
    assert "evict_enable=False" in caplog.text and caplog.text.count(SAID) == 1


@pytest.mark.parametrize("hooks", [[HOOK], [mx.EvictHook(), HOOK], [HOOK, mx.EvictHook()]])
def test_silent_with_the_hook(start, caplog, hooks: list[Any]) -> None:
    start()
    with tf.Graph().as_default():
        monitored(graph("t", {"eviction_threshold": 10}), hooks, RUNS_BEFORE_NOTICE + 1)
    assert SAID not in caplog.text


def test_silent_in_evaluation(start, caplog) -> None:
    start()
    with tf.Graph().as_default():
        monitored(graph("t", {"eviction_threshold": 10}, is_train=False), [])
    assert SAID not in caplog.text


@pytest.mark.parametrize("elsewhere", [True, False])
def test_silent_of_tables_on_a_parameter_server(start, caplog, elsewhere: bool) -> None:
    """A worker that is not the chief need not have the hook."""
    start()
    device = "/job:ps/task:0" if elsewhere else "/cpu:0"
    with tf.Graph().as_default() as built:
        with tf.device(device):
            graph("t", {"eviction_threshold": 10})
        built.finalize()
        before_run(built)
    assert caplog.text.count(SAID) == (0 if elsewhere else 1)


@pytest.mark.parametrize("evicts", [True, False])
def test_a_session_without_hooks(start, caplog, evicts: bool) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        op = graph("t", {"eviction_threshold": 10})
        session.run(v1.global_variables_initializer())
        for _ in range(RUNS_BEFORE_NOTICE - 1):
            session.run(op)
        assert SAID not in caplog.text
        if evicts:
            mx.registered_tables()[0].evict()
        for _ in range(3):
            session.run(op)
    assert caplog.text.count(SAID) == (0 if evicts else 1)


def test_silent_in_eager_code(start, caplog) -> None:
    start()
    table = make("t")
    for _ in range(RUNS_BEFORE_NOTICE + 1):
        mx.sparse_lookup(table, keys(1), access_and_evict_config={"eviction_threshold": 10})
    assert SAID not in caplog.text


def test_said_again_after_another_init(start, caplog) -> None:
    for _ in range(2):
        start()
        with tf.Graph().as_default():
            monitored(graph("t", {"eviction_threshold": 10}), [])
    assert caplog.text.count(SAID) == 2


@needs_estimator
@pytest.mark.parametrize("hooks", [[], [HOOK]])
def test_estimators(start, caplog, tmp_path, hooks: list[Any]) -> None:
    start()
    model = estimator(tmp_path, {"eviction_threshold": 15})
    model.train(input_fn(0, 2), hooks=hooks)
    model.evaluate(input_fn(0, 2))
    model.train(input_fn(2, 2), hooks=hooks)
    assert caplog.text.count(SAID) == (0 if hooks else 1)
