"""Tables that store embeddings as float16 or bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
from contents import assert_identical, contents
from numpy.typing import NDArray

import mxrec

HALF = ["float16", "bfloat16"]
OPTIMIZERS = [
    mxrec.SGD(0.05, 0.01),
    mxrec.Momentum(0.02, 0.8, use_nesterov=True),
    mxrec.Adagrad(0.1),
    mxrec.Ftrl(0.1, -0.4, 0.2, 0.05, 0.1, 0.01),
    mxrec.LazyAdam(0.01),
]


def rounded(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """To nearest, ties to even; the values lie within the type's range."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (even & np.uint32(0xFFFF0000)).view(np.float32)


def neighbours(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """The distance of the type's values around each of these."""
    digits = 10 if dtype == "float16" else 7
    return np.exp2(np.floor(np.log2(np.abs(values))) - digits).astype(np.float32)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("dim", [1, 7, 16])
def test_equals_float32_rounded_after_each_step(dtype, optimizer, dim, rng):
    tables = [
        mxrec.Table("t", dim, optimizer=optimizer, initializer=mxrec.Normal(0, 0.1), value_dtype=d)
        for d in (dtype, "float32")
    ]
    half, full = tables
    every = np.arange(200)

    def round_full() -> None:
        full.assign(every, rounded(full.lookup(every, train=False), dtype))

    for table in tables:
        table.lookup(every)
    round_full()
    for _ in range(30):
        keys = rng.integers(0, 200, 64)
        grads = (0.5 * rng.normal(size=(64, dim))).astype(np.float32)
        for table in tables:
            table.apply_gradients(keys, grads)
        round_full()
        np.testing.assert_array_equal(half.lookup(every), full.lookup(every))
    assert_identical(half, full)


@pytest.mark.parametrize("dtype", HALF)
def test_adagrad_equals_numpy_bit_for_bit(dtype, rng):
    dim, keys = 5, np.arange(100)
    table = mxrec.Table("t", dim, optimizer=mxrec.Adagrad(0.1, 0.5), value_dtype=dtype)
    first = rng.normal(size=(100, dim)).astype(np.float32)
    table.assign(keys, first)
    w, a = rounded(first, dtype), np.full((100, dim), 0.5, np.float32)
    for _ in range(50):
        g = rng.normal(size=(100, dim)).astype(np.float32)
        table.apply_gradients(keys, g)
        a = a + g * g
        w = rounded(w - g * np.float32(0.1) / np.sqrt(a), dtype)
    got = contents(table)
    assert got.values.tobytes() == w.tobytes()
    assert got.slots.tobytes() == a.tobytes()


@pytest.mark.parametrize("dtype", HALF)
def test_stochastic_rounding_keeps_the_mean_that_nearest_loses(dtype):
    keys, grads = np.arange(2000), np.full((2000, 8), -1.0, np.float32)
    rate, steps = 2.0**-15, 64
    moved = {}
    for stochastic in (False, True):
        table = mxrec.Table(
            "t",
            8,
            optimizer=mxrec.SGD(rate),
            initializer=mxrec.Ones(),
            value_dtype=dtype,
            stochastic_rounding=stochastic,
        )
        table.lookup(keys)
        for _ in range(steps):
            table.apply_gradients(keys, grads)
        moved[stochastic] = table.lookup(keys).astype(np.float64) - 1.0
    assert not moved[False].any()
    gap = float(neighbours(np.ones(1, np.float32), dtype)[0])
    deviation = np.sqrt(steps * rate * gap / moved[True].size)
    assert abs(moved[True].mean() - steps * rate) < 6 * deviation
    # Rows and columns are rounded on their own.
    by_row, by_column = moved[True].mean(axis=1), moved[True].mean(axis=0)
    assert by_row.std() < 2 * np.sqrt(steps * rate * gap / 8)
    assert np.abs(by_column - steps * rate).max() < 6 * np.sqrt(steps * rate * gap / 2000)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_stochastic_rounding_is_the_same_on_threads_shards_and_after_a_restart(
    dtype, optimizer, seed, tmp_path
):
    def steps(table: mxrec.Table, first: int, last: int) -> None:
        for step in range(first, last):
            rng = np.random.default_rng([seed, step])
            keys = rng.zipf(1.3, 3000).astype(np.int64)
            table.lookup(keys)
            table.apply_gradients(keys, rng.normal(size=(3000, 5)).astype(np.float32))
            table.erase(keys[:20].copy())

    def make(num_shards: int) -> mxrec.Table:
        return mxrec.Table(
            "t",
            5,
            optimizer=optimizer,
            seed=3,
            num_shards=num_shards,
            value_dtype=dtype,
            stochastic_rounding=True,
        )

    mxrec.set_num_threads(1)
    expected = make(1)
    steps(expected, 0, 8)
    for threads, shards in ((1, 16), (3, 1), (4, 64)):
        mxrec.set_num_threads(threads)
        table = make(shards)
        steps(table, 0, 4)
        table.save(tmp_path / "t")
        steps(table, 4, 8)
        assert_identical(table, expected)
        again = mxrec.Table.load(tmp_path / "t", num_shards=8)
        assert (again.value_dtype, again.stochastic_rounding) == (dtype, True)
        steps(again, 4, 8)
        assert_identical(again, expected)


@pytest.mark.parametrize("dtype", HALF)
def test_lookups_are_float32_and_infinity_saturates(dtype):
    table = mxrec.Table("t", 3, value_dtype=dtype)
    keys = np.array([4, 5, 4])
    assert table.lookup(keys).dtype == np.float32
    table.assign(keys[:1].copy(), np.array([[np.inf, -3e38, -0.0]], np.float32))
    row = table.lookup(keys)[0]
    largest = np.float32(65504 if dtype == "float16" else 2.0**127 * (2 - 2.0**-7))
    if dtype == "float16":
        assert row[:2].tolist() == [largest, -largest]
    else:
        assert row.tolist()[0] == largest and abs(row[1] + 3e38) < 1e36
    assert np.signbit(row[2])
    (chunk,) = table.items()
    assert chunk[1].dtype == np.float32


def test_stats_tell_type_and_bytes():
    keys = np.arange(100_000)
    sizes = {}
    for dtype in ("float32", *HALF):
        table = mxrec.Table("t", 64, value_dtype=dtype, num_shards=1)
        table.lookup(keys)
        stats = table.stats()
        assert stats["value_dtype"] == dtype
        sizes[dtype] = stats["bytes_rows"]
    for dtype in HALF:
        assert abs(sizes[dtype] - sizes["float32"] / 2) <= 2**21


def test_checkpoints_restore_into_any_type(tmp_path, rng):
    full = mxrec.Table("t", 6, optimizer=mxrec.Adagrad(0.1))
    keys = np.arange(500)
    full.lookup(keys)
    full.apply_gradients(keys, rng.normal(size=(500, 6)).astype(np.float32))
    full.save(tmp_path / "full")
    for dtype in HALF:
        half = mxrec.Table("t", 6, optimizer=mxrec.Adagrad(0.1), value_dtype=dtype)
        half._engine.restore(str(tmp_path / "full"))
        got, wanted = contents(half), contents(full)
        np.testing.assert_array_equal(got.values, rounded(wanted.values, dtype))
        np.testing.assert_array_equal(got.slots, wanted.slots)
        half.save(tmp_path / dtype)
        assert mxrec._mxrec.read_checkpoint_info(str(tmp_path / dtype))["value_dtype"] == dtype
        back = mxrec.Table("t", 6, optimizer=mxrec.Adagrad(0.1))
        back._engine.restore(str(tmp_path / dtype))
        assert_identical(back, half)
        assert back.value_dtype == "float32"


@pytest.mark.parametrize("value", ["float16", np.float16, np.dtype("float16")])
def test_value_dtype_may_be_a_numpy_type(value):
    assert mxrec.Table("t", 2, value_dtype=value).value_dtype == "float16"


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"value_dtype": "float64"}, ValueError, "value_dtype must be 'float32', .*'float64'"),
        ({"value_dtype": np.int32}, ValueError, "value_dtype must be .*'int32'"),
        ({"value_dtype": None}, TypeError, "value_dtype must be .*None"),
        ({"value_dtype": 16}, TypeError, "value_dtype must be .*16"),
        ({"stochastic_rounding": 1}, TypeError, "stochastic_rounding must be a bool"),
        ({"stochastic_rounding": True}, ValueError, "stochastic_rounding is on but .*float32"),
    ],
)
def test_rejected_arguments(kwargs, error, text):
    with pytest.raises(error, match=text):
        mxrec.Table("t", 2, **kwargs)
