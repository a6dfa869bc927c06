"""What mxrec.Table does with good arguments."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from contents import contents

import mxrec

INT64 = np.iinfo(np.int64)


def test_importing_mxrec_imports_numpy_only():
    code = (
        "import sys, mxrec\n"
        "heavy = {'tensorflow', 'matplotlib', 'rich', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(mxrec.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == mxrec.__version__


def test_lookup_inserts_and_repeats():
    table = mxrec.Table("t", 4, initializer=mxrec.Uniform())
    keys = np.array([5, 7, 5, -3])
    rows = table.lookup(keys)
    assert rows.shape == (4, 4) and rows.dtype == np.float32 and rows.flags.writeable
    assert len(table) == 3
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (np.abs(rows) <= 0.05).all() and len(np.unique(rows)) > 6
    np.testing.assert_array_equal(table.lookup(keys), rows)
    np.testing.assert_array_equal(table.lookup(keys, train=False), rows)


def test_reading_changes_nothing():
    table = mxrec.Table("t", 3, initializer=mxrec.Ones())
    table.lookup(np.array([1, 2]))
    before = contents(table)
    rows = table.lookup(np.array([2, 9]), train=False)
    np.testing.assert_array_equal(rows, [[1, 1, 1], [0, 0, 0]])
    assert len(table) == 2
    for x, y in zip(before, contents(table), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_int64_is_a_key():
    keys = np.array([0, -1, 1, INT64.min, INT64.max, INT64.min + 1, 2**40, -(2**40)])
    table = mxrec.Table("t", 2, initializer=mxrec.Zeros())
    values = np.arange(16, dtype=np.float32).reshape(8, 2)
    table.assign(keys, values)
    np.testing.assert_array_equal(table.lookup(keys, train=False), values)
    assert table.contains(keys).all() and len(table) == 8
    assert sorted(table.keys()) == sorted(keys)
    assert table.erase(keys[:5]) == 5
    np.testing.assert_array_equal(table.contains(keys), [False] * 5 + [True] * 3)


@pytest.mark.parametrize("dim", [1, 3, 8, 17, 8192])
def test_dims(dim, rng):
    table = mxrec.Table("t", dim, optimizer=mxrec.LazyAdam())
    keys = np.arange(5)
    values = rng.normal(size=(5, dim)).astype(np.float32)
    table.assign(keys, values)
    out = np.full((5, dim), np.nan, np.float32)
    assert table.lookup_into(keys, out) is None
    np.testing.assert_array_equal(out, values)


def test_empty_batches():
    table = mxrec.Table("t", 4, optimizer=mxrec.SGD())
    keys, values = np.empty(0, np.int64), np.empty((0, 4), np.float32)
    assert table.lookup(keys).shape == (0, 4)
    table.lookup_into(keys, values)
    table.assign(keys, values)
    assert table.apply_gradients(keys, values) == (0, 0)
    assert table.contains(keys).shape == (0,) and table.erase(keys) == 0
    assert len(table) == 0 and table.keys().shape == (0,) and list(table.items()) == []


def test_assign_last_of_repeated_keys_wins_and_keeps_slots():
    table = mxrec.Table("t", 1, optimizer=mxrec.Adagrad(0.1), initializer=mxrec.Zeros())
    one = np.array([1])
    table.lookup(one)
    table.apply_gradients(one, np.array([[2.0]], np.float32))
    slots = contents(table).slots
    table.assign(np.array([1, 1, 2]), np.array([[5], [6], [7]], np.float32))
    np.testing.assert_array_equal(table.lookup(np.array([1, 2])), [[6], [7]])
    np.testing.assert_array_equal(contents(table).slots[:1], slots)


def test_apply_gradients_skips_and_counts_keys_without_a_row():
    table = mxrec.Table("t", 1, optimizer=mxrec.SGD(1.0), initializer=mxrec.Zeros())
    table.lookup(np.array([1]))
    grads = np.array([[1], [2], [4], [8]], np.float32)
    result = table.apply_gradients(np.array([1, 9, 1, 9]), grads)
    assert result == mxrec.ApplyResult(updated=1, skipped=1)
    assert len(table) == 1 and table.lookup(np.array([1])) == -5
    assert table.stats()["skipped_gradients"] == 1


def test_learning_rate_of_one_call():
    table = mxrec.Table("t", 1, optimizer=mxrec.SGD(1.0), initializer=mxrec.Zeros())
    keys, grads = np.array([1]), np.ones((1, 1), np.float32)
    table.lookup(keys)
    table.apply_gradients(keys, grads, learning_rate=0.25)
    table.apply_gradients(keys, grads, learning_rate=np.float32(0))
    table.apply_gradients(keys, grads)
    assert table.lookup(keys) == -1.25 and table.optimizer == mxrec.SGD(1.0)


def test_items_and_keys_give_everything_once(rng):
    table = mxrec.Table("t", 2)
    keys = np.unique(rng.integers(INT64.min, INT64.max, 20_000))
    rows = table.lookup(keys)
    chunks = list(table.items(chunk_rows=1000))
    assert len(chunks) > 5 and all(0 < len(k) == len(v) <= 1000 for k, v in chunks)
    all_keys = np.concatenate([k for k, _ in chunks])
    order = np.argsort(all_keys)
    np.testing.assert_array_equal(all_keys[order], keys)
    np.testing.assert_array_equal(np.concatenate([v for _, v in chunks])[order], rows)
    assert table.keys().dtype == np.int64
    np.testing.assert_array_equal(np.sort(table.keys()), keys)


def test_fixed_capacity_refuses_the_whole_batch():
    table = mxrec.Table("t", 2, memory_rows=10, num_shards=4)
    table.lookup(np.arange(8))
    before = contents(table)
    with pytest.raises(mxrec.CapacityError, match="10") as caught:
        table.lookup(np.arange(6, 12))
    assert isinstance(caught.value, MemoryError)
    assert len(table) == 8
    np.testing.assert_array_equal(contents(table).keys, before.keys)
    stats = table.stats()
    assert stats["refused"] > 0 and stats["capacity"] == 10 and table.memory_rows == 10
    table.lookup(np.arange(10))
    assert len(table) == 10
    table.erase(np.array([0]))
    table.lookup(np.array([100]))
    assert len(table) == 10


def test_stats():
    table = mxrec.Table("t", 8, num_shards=2)
    table.lookup(np.arange(1000))
    table.lookup(np.arange(500, 1500))
    table.erase(np.arange(10))
    stats = table.stats()
    assert stats["rows"] == len(table) == 1490 and stats["capacity"] is None
    assert stats["inserts"] == 1500 and stats["hits"] == 500 and stats["misses"] == 1500
    assert stats["erased"] == 10 and stats["num_shards"] == table.num_shards == 2
    assert stats["bytes_rows"] >= 1490 * 8 * 4 and stats["bytes_index"] > 0
    assert stats["bytes_metadata"] > 0 and 0 < stats["load"] <= 1 and stats["segments"] >= 2


def test_seed_and_initializer_decide_the_values():
    keys = np.arange(100)

    def rows(seed, order=1):
        table = mxrec.Table("t", 4, seed=seed, initializer=mxrec.Normal(0, 2))
        return table.lookup(keys[::order].copy())[::order]

    np.testing.assert_array_equal(rows(1), rows(1, order=-1))
    assert (rows(1) != rows(2)).any() and (rows(2**64 - 1) != rows(2)).any()


@pytest.mark.parametrize(
    ("initializer", "low", "high", "mean", "stddev"),
    [
        (mxrec.Zeros(), 0, 0, 0, 0),
        (mxrec.Ones(), 1, 1, 1, 0),
        (mxrec.Ones(gain=0.5), 0.5, 0.5, 0.5, 0),
        (mxrec.Constant(-2.5), -2.5, -2.5, -2.5, 0),
        (None, -0.05, 0.05, 0, 0.1 / 12**0.5),
        (mxrec.Uniform(1, 3), 1, 3, 2, 2 / 12**0.5),
        (mxrec.Normal(1, 0.5), -3, 5, 1, 0.5),
        (mxrec.TruncatedNormal(0, 1), -2, 2, 0, 0.8796),
        (mxrec.VarianceScaling(2.0, "fan_out", "untruncated_normal"), -3, 3, 0, (2 / 16) ** 0.5),
        (mxrec.VarianceScaling(1.0, "fan_in", "uniform", fan_in=100), -0.174, 0.174, 0, 0.1),
        (mxrec.VarianceScaling(1.0, "fan_avg", "truncated_normal"), -1, 1, 0, 0.25),
    ],
    ids=repr,
)
def test_distributions(initializer, low, high, mean, stddev):
    table = mxrec.Table("t", 16, seed=3, initializer=initializer)
    rows = table.lookup(np.arange(20_000)).astype(np.float64)
    slack = 1e-6
    assert low - slack <= rows.min() and rows.max() <= high + slack
    assert rows.mean() == pytest.approx(mean, abs=0.01 * max(stddev, 1e-6) + slack)
    assert rows.std() == pytest.approx(stddev, rel=0.01, abs=slack)


def test_close_and_context_manager():
    with mxrec.Table("t", 2, optimizer=mxrec.SGD()) as table:
        table.lookup(np.array([1]))
        assert not table.closed and "rows=1" in repr(table)
    assert table.closed and "closed" in repr(table)
    table.close()
    keys, values = np.array([1]), np.zeros((1, 2), np.float32)
    calls = {
        "lookup": lambda: table.lookup(keys),
        "read": lambda: table.lookup(keys, train=False),
        "lookup_into": lambda: table.lookup_into(keys, values),
        "apply_gradients": lambda: table.apply_gradients(keys, values),
        "assign": lambda: table.assign(keys, values),
        "contains": lambda: table.contains(keys),
        "erase": lambda: table.erase(keys),
        "keys": table.keys,
        "items": table.items,
        "len": lambda: len(table),
        "stats": table.stats,
        "save": lambda: table.save("never-made"),
        "enter": table.__enter__,
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match="closed"):
            call()
            pytest.fail(f"{name} works on a closed table")
    assert table.name == "t" and table.dim == 2


def test_names_may_repeat():
    a, b = mxrec.Table("same", 2), mxrec.Table("same", 3)
    a.lookup(np.array([1]))
    assert (len(a), len(b)) == (1, 0)


def test_many_threads_use_one_table(rng):
    table = mxrec.Table("t", 4, optimizer=mxrec.SGD(1.0), initializer=mxrec.Zeros())
    batches = [rng.integers(0, 3000, 2000) for _ in range(8)]
    errors: list[BaseException] = []

    def work(keys):
        try:
            for _ in range(5):
                table.lookup(keys)
                table.apply_gradients(keys, np.ones((len(keys), 4), np.float32))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(keys,)) for keys in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    keys, counts = np.unique(np.concatenate(batches), return_counts=True)
    np.testing.assert_array_equal(table.lookup(keys)[:, 0], -5.0 * counts)


def test_registry_and_kernels():
    from mxrec import _mxrec

    table = _mxrec.Table("t", 2)
    _mxrec.register_table("engine-test", table)
    try:
        assert _mxrec.find_table("engine-test") == table
        assert hash(_mxrec.find_table("engine-test")) == hash(table)
        assert "engine-test" in _mxrec.registered_tables()
        with pytest.raises(ValueError, match="engine-test"):
            _mxrec.register_table("engine-test", _mxrec.Table("u", 2))
    finally:
        assert _mxrec.unregister_table("engine-test")
    assert _mxrec.find_table("engine-test") is None
    assert not _mxrec.unregister_table("engine-test")
    assert _mxrec.kernel_target()


def test_bind_optimizer_later():
    from mxrec import _mxrec

    table = _mxrec.Table("t", 2)
    keys = np.arange(3)
    rows = table.lookup(keys)
    assert table.optimizer.kind == "None"
    table.bind_optimizer(_mxrec.OptimizerOptions("Adagrad", initial_accumulator_value=0.25))
    assert table.optimizer.kind == "Adagrad" and table.optimizer.slot_names
    np.testing.assert_array_equal(table.lookup(keys), rows)
    _, _, _, slots, *_ = table.scan((0, 0), 10)
    np.testing.assert_array_equal(slots, np.full_like(slots, 0.25))
    with pytest.raises(RuntimeError, match="Adagrad"):
        table.bind_optimizer(_mxrec.OptimizerOptions("SGD"))


def test_missing_and_version():
    from mxrec import _mxrec

    table = _mxrec.Table("t", 2)
    table.lookup(np.array([1]))
    version = table.version
    np.testing.assert_array_equal(table.missing(np.array([3, 1, 2, 3])), [3, 2])
    table.lookup(np.array([1, 7]), train=False)
    assert table.version == version
    table.lookup(np.array([7]))
    assert table.version != version


def test_int32_keys_are_the_same_keys(rng):
    wide = rng.integers(-(2**31), 2**31, 5_000)
    wide[::3] = wide[0]
    narrow = wide.astype(np.int32)
    options = {"dim": 5, "initializer": mxrec.Normal(), "optimizer": mxrec.Adagrad(), "seed": 3}
    one, other = mxrec.Table("wide", **options), mxrec.Table("narrow", **options)
    for _ in range(2):
        np.testing.assert_array_equal(one.lookup(wide), other.lookup(narrow))
        grads = rng.standard_normal((len(wide), 5)).astype(np.float32)
        assert one.apply_gradients(wide, grads) == other.apply_gradients(narrow, grads)
    assert other.contains(wide).all() and one.contains(narrow).all()
    out = np.empty_like(grads)
    other.lookup_into(narrow, out, train=False)
    np.testing.assert_array_equal(one.lookup(wide, train=False), out)
    assert one.erase(narrow[:100]) == other.erase(wide[:100])
    assert len(one) == len(other)
