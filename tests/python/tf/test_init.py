"""init, terminate_config_initializer, ConfigInitializer, and the small functions around them."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import pathlib
import time

import numpy as np
import pytest
import tensorflow as tf

import mxrec
import mxrec.tf as mx
from mxrec import _mxrec

INT32_MAX = 2**31 - 1


def test_defaults(start):
    start()
    config = mx.ConfigInitializer.get_instance()
    assert (config.max_steps, config.train_steps, config.eval_steps, config.save_steps) == (-1,) * 4
    assert config.use_dynamic and not config.use_dynamic_expansion and not config.if_load
    assert config.bind_cpu and config.use_hot and not config.use_lccl
    assert config.host_pipeline_ops is mx.get_host_pipeline_ops()
    assert mx.get_use_dynamic_expansion() is False
    assert (mx.get_rank_id(), mx.get_rank_size(), mx.get_device_id()) == (0, 1, 0)


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"max_steps": -2}, ValueError, r"max_steps must be in \[-1, 2147483647\], got -2"),
        ({"train_steps": INT32_MAX + 1}, ValueError, "train_steps"),
        ({"eval_steps": 1.5}, TypeError, "eval_steps must be an int"),
        ({"save_steps": True}, TypeError, "save_steps"),
        ({"max_steps": 0, "train_steps": 0, "eval_steps": 0}, ValueError, "not all be 0"),
        ({"if_load": 1}, TypeError, "if_load must be a bool"),
        ({"use_dynamic": "yes"}, TypeError, "use_dynamic"),
        ({"is_incremental_checkpoint": True}, ValueError, "save_checkpoint_due_time must be given"),
        ({"save_checkpoint_due_time": 0}, ValueError, "save_checkpoint_due_time"),
        ({"restore_model_version": -1}, ValueError, "restore_model_version"),
        ({"recent_key_count_threshold": -1}, ValueError, "recent_key_count_threshold"),
        (
            {
                "is_incremental_checkpoint": True,
                "save_checkpoint_due_time": 5,
                "save_delta_checkpoints_secs": 5,
            },
            ValueError,
            "must be less than save_checkpoint_due_time=5",
        ),
        ({"on_save_failure": "ignore"}, ValueError, "must be one of 'raise', 'continue', got"),
        ({"is_incremental_checkpoint": 1}, TypeError, "is_incremental_checkpoint"),
    ],
)
def test_rejected_arguments_leave_nothing_behind(start, kwargs, error, text):
    with pytest.raises(error, match=text):
        start(**kwargs)
    with pytest.raises(RuntimeError, match="not initialized"):
        mx.ConfigInitializer.get_instance()
    mx.init()


def test_settings_of_incremental_checkpoints(start):
    start(
        is_incremental_checkpoint=True,
        save_checkpoint_due_time=5,
        save_delta_checkpoints_secs=2,
        restore_model_version=0,
        recent_key_count_threshold=3,
        on_save_failure="continue",
    )
    config = mx.ConfigInitializer.get_instance()
    assert config.is_incremental_checkpoint and config.on_save_failure == "continue"
    assert (config.save_checkpoint_due_time, config.save_delta_checkpoints_secs) == (5, 2)
    assert (config.restore_model_version, config.recent_key_count_threshold) == (0, 3)
    start(save_checkpoint_due_time=5)
    config = mx.ConfigInitializer.get_instance()
    assert not config.is_incremental_checkpoint and config.restore_model_version is None


def test_unknown_arguments_are_named_once(start, caplog):
    with caplog.at_level(logging.WARNING, "mxrec"):
        start(unheard_of=1, another=2)
    assert [r.getMessage() for r in caplog.records] == [
        "init: unknown arguments are ignored: another, unheard_of"
    ]


def test_second_init_needs_terminate(start):
    start()
    with pytest.raises(RuntimeError, match="terminate_config_initializer"):
        mx.init()
    mx.terminate_config_initializer()
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)
    assert mx.get_use_dynamic_expansion()


def test_terminate_releases_tables(start):
    start()
    table = mx.create_table(tf.int64, 4, "t", tf.zeros_initializer())
    assert "t" in [t.table_name for t in mx.registered_tables()]
    mx.terminate_config_initializer()
    assert mx.registered_tables() == []
    with pytest.raises(RuntimeError, match="released"):
        table.size()
    mx.init()
    assert mx.create_table(tf.int64, 8, "t", tf.zeros_initializer()).dim == 8


def test_the_number_of_threads_is_the_users():
    before = _mxrec.num_threads()
    try:
        for threads in (3, 2):
            mx.init()
            _mxrec.set_num_threads(threads)
            mx.terminate_config_initializer()
            assert _mxrec.num_threads() == threads
            _mxrec.set_num_threads(threads + 2)
            mx.init()
            assert _mxrec.num_threads() == threads + 2
            mx.terminate_config_initializer()
    finally:
        mx.terminate_config_initializer()
        _mxrec.set_num_threads(before)


def test_set_if_load(start):
    start()
    mx.set_if_load(True)
    assert mx.ConfigInitializer.get_instance().if_load
    with pytest.raises(TypeError, match="if_load"):
        mx.set_if_load(1)


def test_collection_name_is_read_and_write(start):
    start()
    params = mx.ConfigInitializer.get_instance().train_params_config
    first = mx.create_table(tf.int64, 4, "a", tf.zeros_initializer())
    params.ascend_global_hashtable_collection = "other"
    second = mx.create_table(tf.int64, 4, "b", tf.zeros_initializer())
    assert mx.get_dense_and_sparse_variable()[1] == [second.nodes().proxy]
    params.ascend_global_hashtable_collection = first.collection
    assert mx.get_dense_and_sparse_variable()[1][0] is first.nodes().proxy
    with pytest.raises(TypeError):
        params.ascend_global_hashtable_collection = 3


def test_small_dense_ops(start):
    start()
    x = tf.ones([1000])
    kept = mx.npu_ops.dropout(x, 0.5)
    assert set(np.unique(kept)) == {0.0, 2.0}
    np.testing.assert_array_equal(mx.npu_ops.dropout(x, 1.0), x)
    with pytest.raises(ValueError, match="keep_prob"):
        mx.npu_ops.dropout(x, 0.0)
    np.testing.assert_array_equal(mx.hccl_ops.allreduce(x, "sum"), x)
    with pytest.raises(ValueError, match="reduction"):
        mx.hccl_ops.allreduce(x, "avg")
    stamps = tf.constant([5, 6], tf.int64)
    np.testing.assert_array_equal(mx.return_timestamp(stamps), stamps)
    with pytest.raises(TypeError, match="int64"):
        mx.return_timestamp(tf.constant([1.0]))


def test_enums():
    assert mx.CacheModeEnum.mapping("SSD") is mx.CacheModeEnum.SSD
    assert mx.ApplyGradientsStrategy.mapping("direct_apply").name == "DIRECT_APPLY"
    with pytest.raises(KeyError):
        mx.CacheModeEnum.mapping("TAPE")


def workers():
    """How many of this process's threads are the engine's."""
    found = 0
    for name in glob.glob("/proc/self/task/*/comm"):
        with contextlib.suppress(FileNotFoundError):  # a thread may end meanwhile
            found += pathlib.Path(name).read_text() == "mxrec-worker\n"
    return found


def test_terminate_ends_the_workers():
    def become(n):
        # The system lists a thread for a moment after it has ended, and names one after it began.
        deadline = time.monotonic() + 10
        while workers() != n and time.monotonic() < deadline:
            time.sleep(0.001)
        return workers() == n

    before = _mxrec.num_threads()
    _mxrec.end_threads()
    assert become(0)
    mx.init(train_steps=1)
    _mxrec.set_num_threads(3)
    try:
        table = mxrec.Table("busy", 4)
        table.lookup(np.arange(100_000))
        assert become(2)
        mx.terminate_config_initializer()
        assert become(0)
        table.lookup(np.arange(100_000))  # tables of the numpy level go on, with new threads
        assert become(2)
    finally:
        mx.terminate_config_initializer()
        _mxrec.set_num_threads(before)


@pytest.mark.parametrize("bind_cpu", [True, False])
def test_bind_cpu_pins_the_workers(bind_cpu):
    before = _mxrec.num_threads()
    everywhere = os.sched_getaffinity(0)
    mx.init(train_steps=1, bind_cpu=bind_cpu)
    _mxrec.set_num_threads(3)
    try:
        table = mxrec.Table("bound", 4)
        for _ in range(50):  # until the workers have taken part
            table.lookup(np.arange(100_000))
        affinities = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
        bound = [affinity for affinity in affinities if affinity != everywhere]
        assert mxrec.stats()["thread_binding"] == bind_cpu
        if bind_cpu and len(everywhere) > 1:
            assert bound and all(len(affinity) == 1 for affinity in bound)
        else:
            assert not bound
        assert os.sched_getaffinity(0) == everywhere  # the caller is not ours to pin
    finally:
        mx.terminate_config_initializer()
        _mxrec.set_num_threads(before)
