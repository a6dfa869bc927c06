"""Each end of each range: the value at the end is taken, the one beyond it is an error.

An error names the parameter and the value; a wrong type is a TypeError. Nothing is left behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from mx_rec.core.asc.feature_spec import FeatureSpec
from mx_rec.core.asc.helper import get_asc_insert_func
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.core.feature_process import EvictHook
from mx_rec.graph.acg_push_ops import ACGPushOpsToDatasetHook
from mx_rec.graph.merge_lookup import do_merge_lookup
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.optimizers import (
    adagrad,
    adagrad_by_addr,
    ftrl,
    gradient_descent,
    gradient_descent_by_addr,
    lazy_adam,
    lazy_adam_by_addr,
    momentum,
)
from mx_rec.util.initialize import (
    ConfigInitializer,
    clear_channel,
    init,
    set_if_load,
    terminate_config_initializer,
)
from mx_rec.util.ops import import_host_pipeline_ops

INT32_MAX = 2**31 - 1
INT64 = -(2**63), 2**63 - 1
BILLION = 10**9
WORDS: tuple[Any, ...] = ("1", None, [1])
ZEROS = tf.zeros_initializer()
# The engine computes in float32.
ABOVE_0 = float(np.nextafter(np.float32(0.0), np.float32(1.0)))
BELOW_1 = float(np.nextafter(np.float32(1.0), np.float32(0.0)))


class Range(NamedTuple):
    """What a parameter takes, what is out of its range, and what has a wrong type."""

    takes: tuple[Any, ...]
    refuses: tuple[Any, ...]
    wrong: tuple[Any, ...]


def ints(low: int, high: int, none: bool = False) -> Range:
    wrong = [1.5, True, "1", [1]] + ([] if none else [None])
    return Range((low, high, *([None] if none else [])), (low - 1, high + 1), tuple(wrong))


def floats(low: float, high: float, below: float, above: float) -> Range:
    """Ends that are taken, and values just outside."""
    beyond = (below, above, math.nan, math.inf, -math.inf)
    return Range((low, high), beyond, ("0.5", True, [0.5]))


FLAG = Range((True, False, np.True_), (), (0, 1, "True"))
STEPS = ints(-1, INT32_MAX)
RATE = floats(0.0, 10.0, float(np.nextafter(0.0, -1.0)), float(np.nextafter(10.0, 11.0)))


def outside(low: float, high: float) -> tuple[float, float]:
    return float(np.nextafter(low, -math.inf)), float(np.nextafter(high, math.inf))


DECAY = floats(1e-5, 1e-2, *outside(1e-5, 1e-2))
UNIT = floats(0.0, 1.0, *outside(0.0, 1.0))
OPEN_UNIT = floats(ABOVE_0, BELOW_1, 0.0, 1.0)
LEFT_OPEN_UNIT = floats(1e-30, 1.0, 0.0, outside(0, 1)[1])
TABLE = {"key_dtype": tf.int64, "dim": 4, "name": "t", "emb_initializer": ZEROS}

Cases = dict[str, Range]
INIT: Cases = {
    "max_steps": STEPS,
    "train_steps": STEPS,
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "if_load": FLAG,
    "use_dynamic": FLAG,
    "use_dynamic_expansion": FLAG,
    "bind_cpu": FLAG,
    "use_mpi": FLAG,
    "use_hot": FLAG,
    "use_lccl": FLAG,
    "save_checkpoint_due_time": Range((1, INT32_MAX), (0, INT32_MAX + 1), (1.5, True, "1")),
    "save_delta_checkpoints_secs": Range((1, INT32_MAX), (0, INT32_MAX + 1), (1.5, True, "1")),
    "is_incremental_checkpoint": FLAG,
    "restore_model_version": ints(0, INT32_MAX, none=True),
    "recent_key_count_threshold": ints(0, INT32_MAX),
}
# What parameters of ``init`` need beside them.
OTHERS_OF_INIT = {
    "is_incremental_checkpoint": {"save_checkpoint_due_time": 2, "save_delta_checkpoints_secs": 1}
}
CREATE_TABLE: Cases = {
    "key_dtype": Range(
        (tf.int64, tf.int32, np.int64, "int32"), (tf.float32, tf.string), ("x", 3.5)
    ),
    "dim": Range((1, 8192, tf.TensorShape([1]), tf.TensorShape([8192])), (0, 8193), WORDS),
    "name": Range(
        ("a", "x" * 100, "A.b_9", "...", "_"),
        ("", "x" * 101, ".", "..", "a/b", "a-b", "é"),
        (1, None),
    ),
    "emb_initializer": Range(
        (ZEROS, tf.ones_initializer, tf.keras.initializers.HeNormal()), (), (1.0,)
    ),
    "device_vocabulary_size": ints(1, BILLION),
    "host_vocabulary_size": ints(0, BILLION),
    "ssd_vocabulary_size": ints(0, BILLION),
    "ssd_data_path": Range((["a"], ("a", "b"), None), (), ("a", 1, [1])),
    "is_save": FLAG,
    "is_dp": FLAG,
    "init_param": floats(-10.0, 10.0, *outside(-10.0, 10.0)),
    "all2all_gradients_op": Range(
        ("sum_gradients", "sum_gradients_and_div_by_ranksize"), ("mean", ""), (1, None)
    ),
    "enable_merge": FLAG,
    "padding_keys": Range(
        (INT64[0], INT64[1], [1, 2], None), (INT64[0] - 1, INT64[1] + 1), (0.5, "a")
    ),
    "padding_keys_mask": FLAG,
    "padding_keys_len": Range((0, None), (1, -1), (0.5, "0")),
    "value_dtype": Range((tf.float32, tf.float16, tf.bfloat16), (tf.float64, tf.int32), ("x",)),
    "shard_num": Range((1,), (0,), (1.5, "1")),
    "fusion_optimizer_var": FLAG,
    "hashtable_threshold": Range((0, INT32_MAX), (-1, INT32_MAX + 1), (1.5, "1")),
    "optimizer_list": Range((None, [], [object()]), (), ()),
}
THRESHOLD = ints(-1, INT32_MAX, none=True)
COEFFICIENT = Range((1, INT32_MAX), (0, -1, INT32_MAX + 1), (1.5, True, "1"))
ACCESS: Cases = {
    "access_threshold": THRESHOLD,
    "eviction_threshold": THRESHOLD,
    "faae_coefficient": COEFFICIENT,
}
FEATURE_SPEC: Cases = {
    **ACCESS,
    "name": Range(("f", "x" * 255), ("",), (1, None)),
    "table_name": Range(("t", None), ("",), (1,)),
    "index_key": Range((0, INT32_MAX, "key", None), (-1, ""), (1.5, True, ["key"])),
    "is_timestamp": FLAG,
    "batch_size": ints(1, INT32_MAX, none=True),
    "feat_count": ints(1, INT32_MAX, none=True),
}
LOOKUP: Cases = {
    "send_count": ints(1, INT32_MAX, none=True),
    "is_train": FLAG,
    "name": Range(("lookup", None), (), (1,)),
    "modify_graph": FLAG,
    "is_grad": FLAG,
    "serving_default_value": Range((0.5, [1.0] * 4, None), ([1.0] * 3,), ("x",)),
    "combiner": Range((None,), ("max", ""), (1,)),
    "access_and_evict_config": Range(({}, None), ({"threshold": 1},), (1, "x")),
}
EVICT_HOOK: Cases = {
    "evict_enable": FLAG,
    "evict_time_interval": Range((0.5, 86400), (0, -1, 2**31), ("1", None, True)),
    "evict_step_interval": ints(1, INT32_MAX, none=True),
}
POSITIVE = Range((0.0, 1.0), (-1e-9, math.nan, math.inf), ("0", True))
FTRL: Cases = {
    "learning_rate": RATE,
    "learning_rate_power": Range((0.0, -0.5, -3.0), (1e-9, math.nan), ("0", True)),
    "initial_accumulator_value": POSITIVE,
    "l1_regularization_strength": POSITIVE,
    "l2_regularization_strength": POSITIVE,
    "l2_shrinkage_regularization_strength": POSITIVE,
    "use_locking": FLAG,
}
ADAM: Cases = {"learning_rate": RATE, "beta1": OPEN_UNIT, "beta2": UNIT, "epsilon": LEFT_OPEN_UNIT}
ADAGRAD: Cases = {"learning_rate": RATE, "initial_accumulator_value": LEFT_OPEN_UNIT}
OPTIMIZERS: dict[str, tuple[Callable[..., Any], dict[str, Any], Cases]] = {
    "gradient_descent": (
        gradient_descent.create_hash_optimizer,
        {"learning_rate": 0.1},
        {
            "learning_rate": RATE,
            "weight_decay": DECAY._replace(takes=(*DECAY.takes, None)),
            "use_locking": FLAG,
            "use_fusion_optim": FLAG,
        },
    ),
    "gradient_descent_by_addr": (
        gradient_descent_by_addr.create_hash_optimizer_by_addr,
        {"learning_rate": 0.1},
        {"learning_rate": RATE, "weight_decay": UNIT, "use_locking": FLAG},
    ),
    "lazy_adam": (lazy_adam.create_hash_optimizer, {}, {**ADAM, "use_fusion_optim": FLAG}),
    "lazy_adam_by_addr": (lazy_adam_by_addr.create_hash_optimizer_by_address, {}, ADAM),
    "adagrad": (adagrad.create_hash_optimizer, {}, {**ADAGRAD, "use_locking": FLAG}),
    "adagrad_by_addr": (adagrad_by_addr.create_hash_optimizer_by_address, {}, ADAGRAD),
    "ftrl": (ftrl.create_hash_optimizer, {"learning_rate": 0.1}, FTRL),
    "momentum": (
        momentum.create_hash_optimizer,
        {"learning_rate": 0.1, "momentum": 0.9},
        {"learning_rate": RATE, "momentum": UNIT, "use_nesterov": FLAG},
    ),
}


def check(call: Callable[..., Any], others: dict[str, Any], name: str, taken: Range) -> None:
    """Calls with each value of one parameter."""
    for value in taken.takes:
        call(**{**others, name: value})
    for value in taken.refuses:
        with pytest.raises(ValueError) as caught:
            call(**{**others, name: value})
        assert name in str(caught.value), f"{value!r}: {caught.value}"
    for value in taken.wrong:
        with pytest.raises(TypeError) as caught_type:
            call(**{**others, name: value})
        assert name in str(caught_type.value), f"{value!r}: {caught_type.value}"


@pytest.mark.parametrize("name", INIT)
def test_init(start, name: str) -> None:
    del start

    def call(**kwargs: Any) -> None:
        terminate_config_initializer()
        try:
            init(**kwargs)
        except (TypeError, ValueError):
            with pytest.raises(RuntimeError, match="not initialized"):
                ConfigInitializer.get_instance()
            raise
        if hasattr(ConfigInitializer.get_instance(), name):
            assert getattr(ConfigInitializer.get_instance(), name) == kwargs[name]

    check(call, OTHERS_OF_INIT.get(name, {}), name, INIT[name])


def test_incremental_checkpoints_need_two_intervals(start) -> None:
    full, delta = "save_checkpoint_due_time", "save_delta_checkpoints_secs"
    for missing, other in ((full, delta), (delta, full)):
        with pytest.raises(ValueError, match=rf"{missing} must be given.*\[1, 2147483647\]"):
            start(is_incremental_checkpoint=True, **{other: 5})
    for bad in (5, 6):
        with pytest.raises(ValueError, match=f"{delta} must be less than {full}=5, got {bad}"):
            start(is_incremental_checkpoint=True, **{full: 5, delta: bad})
    start(is_incremental_checkpoint=True, **{full: INT32_MAX, delta: INT32_MAX - 1})


def test_init_as_the_product_description_writes_it(start) -> None:
    """The arguments of its example of incremental checkpoints."""
    start(
        train_steps=100,
        eval_steps=10,
        save_steps=50,
        max_steps=200,
        use_dynamic=True,
        use_dynamic_expansion=False,
        save_checkpoint_due_time=4,
        save_delta_checkpoints_secs=2,
        is_incremental_checkpoint=True,
        restore_model_version=3,
    )
    config = ConfigInitializer.get_instance()
    assert config.save_checkpoint_due_time == 4 and config.save_delta_checkpoints_secs == 2
    assert config.is_incremental_checkpoint is True and config.restore_model_version == 3


def test_all_steps_0(start) -> None:
    zeros = {"max_steps": 0, "train_steps": 0, "eval_steps": 0}
    with pytest.raises(ValueError, match="max_steps, train_steps and eval_steps"):
        start(**zeros)
    for name in zeros:
        start(**{**zeros, name: 1})


@pytest.mark.parametrize("name", CREATE_TABLE)
def test_create_table(start, name: str, tmp_path, monkeypatch) -> None:
    from mxrec.tf import registered_tables

    start()
    monkeypatch.chdir(tmp_path)  # where the SSD tier's files are, unless ssd_data_path says
    others = {"host_vocabulary_size": 1} if name == "ssd_vocabulary_size" else {}

    def call(**kwargs: Any) -> None:
        with tf.Graph().as_default():
            try:
                create_table(**kwargs)
            except (TypeError, ValueError):
                assert registered_tables() == []
                raise
        start()

    check(call, TABLE | others, name, CREATE_TABLE[name])


def test_sizes_are_taken_as_they_are(start) -> None:
    start()
    table = create_table(**TABLE, device_vocabulary_size=BILLION, host_vocabulary_size=BILLION)
    assert table.capacity() == 2 * BILLION and table.size() == 0
    assert table.stats()["bytes"] < 2**24  # no memory is taken before there are rows


def test_an_ssd_tier_of_a_billion_rows(start, tmp_path) -> None:
    start()
    table = create_table(
        **TABLE,
        device_vocabulary_size=BILLION,
        host_vocabulary_size=BILLION,
        ssd_vocabulary_size=BILLION,
        ssd_data_path=[str(tmp_path)],
    )
    assert table.capacity() == 3 * BILLION and table.size() == 0
    assert table.table_name == "t" and table.dim == 4
    np.testing.assert_array_equal(sparse_lookup(table, [INT64[1], 0]), np.zeros((2, 4)))
    assert table.size() == 2


def test_ssd_needs_a_host_tier(start) -> None:
    start()
    with pytest.raises(ValueError, match="ssd_vocabulary_size=5 needs host_vocabulary_size > 0"):
        create_table(**TABLE, ssd_vocabulary_size=5)


@pytest.mark.parametrize("name", LOOKUP)
def test_sparse_lookup(start, name: str) -> None:
    start()
    with tf.Graph().as_default():
        table = create_table(**TABLE)
        check(sparse_lookup, {"hashtable": table, "ids": [1]}, name, LOOKUP[name])
        assert table.size() == 0 and not table.admits and not table.evicts


def test_combiners_of_sparse_and_ragged_ids(start) -> None:
    start()
    ones = tf.ones_initializer()
    table = create_table(**{**TABLE, "emb_initializer": ones}, device_vocabulary_size=4)
    ragged = tf.ragged.constant([[1, 2, 3, 4], []], dtype=tf.int64)
    for ids in (ragged, ragged.to_sparse()):
        for combiner, value in (("sum", 4.0), ("mean", 1.0), ("sqrtn", 2.0)):
            rows = sparse_lookup(table, ids, combiner=combiner)
            np.testing.assert_array_equal(rows, [[value] * 4, [0.0] * 4])
        with pytest.raises(ValueError, match=r"combiner.*'max'"):
            sparse_lookup(table, ids, combiner="max")


@pytest.mark.parametrize("name", ACCESS)
def test_access_and_evict_config(start, name: str) -> None:
    def call(**config: Any) -> None:
        start()
        with tf.Graph().as_default():
            table = create_table(**TABLE)
            sparse_lookup(table, [1], access_and_evict_config=config)

    check(call, {}, name, ACCESS[name])


@pytest.mark.parametrize("name", FEATURE_SPEC)
def test_feature_spec(start, name: str) -> None:
    start()
    check(FeatureSpec, {"name": "f"}, name, FEATURE_SPEC[name])


FLAGS_OF_CALLS: dict[str, tuple[Callable[..., Any], str]] = {
    "GraphModifierHook": (GraphModifierHook, "dump_graph modify_graph"),
    "ACGPushOpsToDatasetHook": (ACGPushOpsToDatasetHook, "dump_graph"),
    "get_asc_insert_func": (
        lambda **kwargs: get_asc_insert_func(tgt_key_specs=[FeatureSpec("f")], **kwargs),
        "is_training dump_graph",
    ),
    "do_merge_lookup": (do_merge_lookup, "is_train"),
    "set_if_load": (set_if_load, "if_load"),
    "clear_channel": (clear_channel, "is_train_channel"),
}


@pytest.mark.parametrize("call", FLAGS_OF_CALLS)
def test_flags(start, call: str) -> None:
    start()
    function, names = FLAGS_OF_CALLS[call]
    for name in names.split():
        with tf.Graph().as_default():
            check(function, {}, name, FLAG._replace(wrong=(*FLAG.wrong, None)))


def test_set_threshold(start) -> None:
    start()
    with tf.Graph().as_default():
        table = create_table(**TABLE)
        sparse_lookup(table, [1], access_and_evict_config={"access_threshold": 2})
        set_threshold = import_host_pipeline_ops().set_threshold
        check(set_threshold, {"emb_name": "t"}, "threshold", ints(0, INT32_MAX)._replace(wrong=()))
        for bad in (1.5, True, "1"):
            with pytest.raises(TypeError, match="threshold must be an int"):
                set_threshold(bad, emb_name="t")
        set_threshold(3, emb_name=["t", "t"])
        with pytest.raises(ValueError, match="emb_name: there is no table 'u'; there are: 't'"):
            set_threshold(3, emb_name=["t", "u"])


@pytest.mark.parametrize("name", EVICT_HOOK)
def test_evict_hook(name: str) -> None:
    check(EvictHook, {"evict_enable": True}, name, EVICT_HOOK[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(start, optimizer: str) -> None:
    start()
    factory, others, cases = OPTIMIZERS[optimizer]
    for name, taken in cases.items():
        check(factory, others, name, taken)
    check(factory, others, "name", Range(("other",), ("",), (1, None)))


def test_a_learning_rate_is_checked_where_the_step_runs(start) -> None:
    """Of a tensor, that it is finite and not negative."""
    start()
    table = create_table(**TABLE)
    for bad in (-1.0, math.nan, math.inf):
        optimizer = gradient_descent.create_hash_optimizer(tf.constant(bad))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(sparse_lookup(table, [1]))
        proxy = table.nodes().proxy
        with pytest.raises(tf.errors.InvalidArgumentError, match="learning_rate"):
            optimizer.apply_gradients([(tape.gradient(loss, proxy), proxy)])
    np.testing.assert_array_equal(sparse_lookup(table, [1], is_train=False), np.zeros((1, 4)))
