"""Bad arguments: a clear exception each, and the table as it was."""

from __future__ import annotations

import numpy as np
import pytest
from contents import contents

import mxrec

KEYS = np.arange(4)
ROWS = np.zeros((4, 3), np.float32)


@pytest.fixture
def table():
    table = mxrec.Table("t", 3, optimizer=mxrec.Adagrad(0.1))
    table.lookup(KEYS)
    return table


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


BAD_KEYS = {
    "list": ([1, 2, 3, 4], TypeError, r"keys .*int64.*list.*np\.asarray"),
    "none": (None, TypeError, "keys .*NoneType"),
    "int": (1, TypeError, "keys .*int"),
    "int16": (KEYS.astype(np.int16), TypeError, r"keys .*int64.*int16.*astype\(np\.int64\)"),
    "strided int32": (np.arange(8, dtype=np.int32)[::2], ValueError, "keys .*C-contiguous"),
    "int32 of two dimensions": (np.zeros((2, 2), np.int32), ValueError, r"keys .*shape \(n,\)"),
    "uint64": (KEYS.astype(np.uint64), TypeError, "keys .*int64.*uint64"),
    "float64": (KEYS.astype(np.float64), TypeError, "keys .*int64.*float64"),
    "big endian": (KEYS.astype(">i8"), TypeError, "keys .*int64.*>i8"),
    "object": (KEYS.astype(object), TypeError, "keys .*int64"),
    "datetime": (KEYS.astype("M8[s]"), TypeError, "keys .*int64"),
    "two dimensions": (KEYS.reshape(2, 2), ValueError, r"keys .*\(n,\).*\(2, 2\)"),
    "scalar": (np.array(1), ValueError, r"keys .*\(n,\).*\(\)"),
    "strided": (np.arange(8)[::2], ValueError, r"keys .*contiguous.*ascontiguousarray"),
    "reversed": (KEYS[::-1], ValueError, "keys .*contiguous"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
@pytest.mark.parametrize(
    "method", ["lookup", "lookup_into", "apply_gradients", "assign", "contains", "erase"]
)
def test_bad_keys(table, method, case):
    keys, error, message = BAD_KEYS[case]
    arguments = (
        (keys, ROWS.copy()) if method in ("lookup_into", "apply_gradients", "assign") else (keys,)
    )
    with pytest.raises(error, match=message):
        getattr(table, method)(*arguments)
    assert len(table) == 4


BAD_ROWS = {
    "list": (ROWS.tolist(), TypeError, "{} .*float32.*list"),
    "float64": (ROWS.astype(np.float64), TypeError, "{} .*float32.*float64"),
    "float16": (ROWS.astype(np.float16), TypeError, "{} .*float32.*float16"),
    "int32": (ROWS.astype(np.int32), TypeError, "{} .*float32.*int32"),
    "short": (ROWS[:3], ValueError, r"{} .*\(4, 3\).*\(3, 3\)"),
    "narrow": (np.zeros((4, 2), np.float32), ValueError, r"{} .*\(4, 3\).*\(4, 2\)"),
    "flat": (ROWS.reshape(-1), ValueError, r"{} .*\(4, 3\).*\(12,\)"),
    "fortran": (np.asfortranarray(ROWS), ValueError, "{} .*contiguous"),
    "strided": (np.zeros((4, 6), np.float32)[:, ::2], ValueError, "{} .*contiguous"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize(
    ("method", "parameter"),
    [("lookup_into", "out"), ("apply_gradients", "grads"), ("assign", "values")],
)
def test_bad_rows(table, method, parameter, case):
    rows, error, message = BAD_ROWS[case]
    with pytest.raises(error, match=message.format(parameter)):
        getattr(table, method)(KEYS, rows)


def test_out_must_be_writable(table):
    with pytest.raises(ValueError, match=r"out .*writable.*read-only"):
        table.lookup_into(KEYS, read_only(ROWS))


def test_inputs_may_be_read_only(table):
    keys, rows = read_only(KEYS), read_only(ROWS)
    table.assign(keys, rows)
    table.apply_gradients(keys, rows)
    np.testing.assert_array_equal(table.lookup(keys), rows)


def test_misaligned_arrays_are_refused(table):
    raw = np.zeros(4 * 8 + 1, np.uint8)
    keys = raw[1:].view(np.int64)
    with pytest.raises(ValueError, match=r"keys .*aligned"):
        table.lookup(keys)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 7, 11])
def test_gradients_that_are_not_finite_change_nothing(table, bad, where):
    before = contents(table)
    grads = np.ones((4, 3), np.float32)
    grads.reshape(-1)[where] = bad
    with pytest.raises(ValueError, match=r"(?i)grad.*(nan|inf)"):
        table.apply_gradients(KEYS, grads)
    for x, y in zip(before, contents(table), strict=True):
        np.testing.assert_array_equal(x, y)
    assert table.stats()["optimizer_step"] == 0


@pytest.mark.parametrize("rate", [-0.1, -1, np.nan, np.inf, np.float32(-1)])
def test_learning_rate_out_of_range(table, rate):
    with pytest.raises(ValueError, match=r"learning_rate .*at least 0"):
        table.apply_gradients(KEYS, ROWS, learning_rate=rate)


@pytest.mark.parametrize("rate", ["0.1", True, np.True_, [0.1], 1j])
def test_learning_rate_of_a_wrong_type(table, rate):
    before = contents(table)
    with pytest.raises(TypeError, match=r"learning_rate .*at least 0"):
        table.apply_gradients(KEYS, ROWS, learning_rate=rate)
    np.testing.assert_array_equal(contents(table).values, before.values)


@pytest.mark.parametrize("train", [0, 1, None, "no", np.array([True])])
def test_train_is_a_bool(table, train):
    with pytest.raises(TypeError, match="train must be a bool"):
        table.lookup(KEYS, train)
    with pytest.raises(TypeError, match="train must be a bool"):
        table.lookup_into(KEYS, np.empty_like(ROWS), train=train)
    assert table.lookup(KEYS, np.True_).shape == ROWS.shape


def test_no_optimizer():
    table = mxrec.Table("plain", 3)
    table.lookup(KEYS)
    assert table.optimizer is None
    with pytest.raises(RuntimeError, match=r"'plain' has no optimizer.*optimizer=mxrec"):
        table.apply_gradients(KEYS, ROWS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(name=3), TypeError, "name .*str.*int"),
        (dict(name=""), ValueError, "name"),
        (dict(name="x" * 101), ValueError, "name.*100"),
        (dict(dim=0), ValueError, "dim .*8192.*0"),
        (dict(dim=8193), ValueError, "dim .*8192.*8193"),
        (dict(dim=1.5), TypeError, r"dim .*int.*1\.5"),
        (dict(dim=True), TypeError, "dim .*int.*True"),
        (dict(dim="4"), TypeError, "dim .*int"),
        (dict(memory_rows=0), ValueError, "memory_rows .*0"),
        (dict(memory_rows=-5), ValueError, "memory_rows .*-5"),
        (dict(seed=-1), ValueError, "seed .*-1"),
        (dict(seed=2**64), ValueError, "seed .*18446744073709551616"),
        (dict(num_shards=0), ValueError, "num_shards .*256.*0"),
        (dict(num_shards=3), ValueError, "num_shards .*power of two.*3"),
        (dict(num_shards=512), ValueError, "num_shards .*256.*512"),
        (dict(optimizer="sgd"), TypeError, r"optimizer .*mxrec\.SGD.*'sgd'"),
        (dict(optimizer=mxrec.SGD), TypeError, "optimizer"),
        (dict(initializer=0.1), TypeError, r"initializer .*mxrec\.Zeros.*0\.1"),
    ],
    ids=str,
)
def test_bad_tables(arguments, error, message):
    with pytest.raises(error, match=message):
        mxrec.Table(**{"name": "t", "dim": 4, **arguments})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mxrec.SGD(-0.1), ValueError, "learning_rate"),
        (lambda: mxrec.SGD(float("nan")), ValueError, "learning_rate"),
        (lambda: mxrec.SGD("x"), TypeError, "learning_rate .*'x'"),
        (lambda: mxrec.SGD(0.1, 1.5), ValueError, "weight_decay"),
        (lambda: mxrec.Momentum(0.1, 1.5), ValueError, "momentum"),
        (lambda: mxrec.Adagrad(0.1, 0.0), ValueError, "initial_accumulator_value"),
        (lambda: mxrec.Ftrl(0.1, 0.5), ValueError, "learning_rate_power"),
        (lambda: mxrec.Ftrl(0.1, l1_regularization_strength=-1), ValueError, "l1_regularization"),
        (lambda: mxrec.LazyAdam(beta1=1.0), ValueError, "beta1"),
        (lambda: mxrec.LazyAdam(beta2=1.5), ValueError, "beta2"),
        (lambda: mxrec.LazyAdam(epsilon=0.0), ValueError, "epsilon"),
        (lambda: mxrec.Uniform(1, 0), ValueError, "low|high"),
        (lambda: mxrec.Normal(0, -1), ValueError, "stddev"),
        (lambda: mxrec.Constant(1e39), ValueError, "value .*float32"),
        (lambda: mxrec.VarianceScaling(0.0), ValueError, "scale"),
        (lambda: mxrec.VarianceScaling(mode="fan"), ValueError, "mode .*'fan_in'.*'fan'"),
        (lambda: mxrec.VarianceScaling(distribution="x"), ValueError, "distribution"),
        (lambda: mxrec.set_num_threads(0), ValueError, r"1.*1024.*0"),
        (lambda: mxrec.set_num_threads(2.0), TypeError, "n .*int"),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_bad_chunk_rows(table):
    with pytest.raises(ValueError, match="chunk_rows"):
        table.items(chunk_rows=0)
