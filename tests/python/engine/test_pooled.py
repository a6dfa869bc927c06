"""Pooled lookups for numpy: against a sum in numpy of the same order, and their memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import mxrec

COMBINERS = ["sum", "mean", "sqrtn"]


def make(dim=5, **options):
    options.setdefault("optimizer", mxrec.Adagrad(0.1))
    return mxrec.Table("t", dim, initializer=mxrec.Normal(), **options)


def random_batch(rng, n, bags, keys=60):
    """keys, offsets, weights; some weights are 0."""
    offsets = np.sort(np.concatenate([[0], rng.integers(0, n + 1, bags - 1), [n]]))
    weights = rng.normal(size=n).astype(np.float32) * (rng.random(n) > 0.1)
    return rng.integers(0, keys, n), offsets, weights.astype(np.float32)


def divisor(weights, combiner):
    total = {
        "sum": 1.0,
        "mean": sum(float(w) for w in weights),
        "sqrtn": np.sqrt(sum(float(w) ** 2 for w in weights)),
    }[combiner]
    return np.float32(total)


def pooled_in_numpy(rows, offsets, weights, combiner):
    """The documented sum: float32, in order."""
    out = np.zeros([len(offsets) - 1, rows.shape[1]], np.float32)
    for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
        for i in range(begin, end):
            out[b] += weights[i] * rows[i]
        by = divisor(weights[begin:end], combiner)
        out[b] = 0 if by == 0 else out[b] / by
    return out


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_numpy(rng, combiner, weighted):
    for dim, n, bags in [(1, 300, 40), (5, 300, 1), (17, 5000, 700), (8, 0, 3), (8, 0, 1)]:
        table = make(dim)
        for train in (False, True, True, False):
            keys, offsets, weights = random_batch(rng, n, bags)
            pooled = table.lookup_pooled(
                keys, offsets, weights if weighted else None, combiner, train
            )
            rows = table.lookup(keys, train=False)
            given = weights if weighted else np.ones(n, np.float32)
            np.testing.assert_array_equal(pooled, pooled_in_numpy(rows, offsets, given, combiner))
            assert pooled.dtype == np.float32
            assert train or rows.any() == (len(table) > 0 and n > 0)
        assert len(table) <= 60


@pytest.mark.parametrize("combiner", COMBINERS)
def test_training_equals_gradients_of_each_key(rng, combiner):
    pooled, plain = make(), make()
    for _ in range(5):
        keys, offsets, weights = random_batch(rng, 400, 50)
        out = pooled.lookup_pooled(keys, offsets, weights, combiner)
        plain.lookup(keys)
        each = np.zeros([400, 5], np.float32)
        for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
            by = divisor(weights[begin:end], combiner)
            if by != 0:
                each[begin:end] = (weights[begin:end] / by)[:, None] * out[b]
        result = pooled.apply_pooled_gradients(keys, offsets, out, weights, combiner)
        assert result == plain.apply_gradients(keys, each)
        np.testing.assert_array_equal(pooled.lookup(keys), plain.lookup(keys))
    result = pooled.apply_pooled_gradients(
        np.array([1, 10**9]), np.array([0, 2]), np.ones([1, 5], np.float32), learning_rate=0.0
    )
    assert result == (1, 1)


def test_int32_keys_are_taken_as_they_are(rng):
    keys, offsets, weights = random_batch(rng, 300, 30)
    narrow, wide = make(), make()
    for train in (False, True):
        np.testing.assert_array_equal(
            narrow.lookup_pooled(keys.astype(np.int32), offsets, weights, "mean", train),
            wide.lookup_pooled(keys, offsets, weights, "mean", train),
        )
    ones = np.ones([30, 5], np.float32)
    narrow.apply_pooled_gradients(keys.astype(np.int32), offsets, ones)
    wide.apply_pooled_gradients(keys, offsets, ones)
    np.testing.assert_array_equal(narrow.lookup(keys), wide.lookup(keys))


def test_any_number_of_threads_gives_the_same_bits(rng):
    keys, offsets, weights = random_batch(rng, 50_000, 2_000, keys=5_000)
    found = []
    for threads in (1, 2, 5):
        mxrec.set_num_threads(threads)
        table = make(17, num_shards=4 * threads if threads < 5 else 1)
        out = table.lookup_pooled(keys, offsets, weights, "sqrtn")
        table.apply_pooled_gradients(keys, offsets, out, weights, "sqrtn")
        found.append((out, table.lookup(keys)))
    for out, rows in found[1:]:
        np.testing.assert_array_equal(out, found[0][0])
        np.testing.assert_array_equal(rows, found[0][1])


def test_errors_leave_the_table_as_it_was():
    table = make(2)
    keys, offsets, ones = np.array([1, 2]), np.array([0, 2]), np.ones([1, 2], np.float32)
    cases = [
        ({"offsets": np.array([0, 1])}, ValueError, "goes from 0 to 1; it must go from 0 to 2"),
        ({"offsets": np.array([], np.int64)}, ValueError, "offsets is empty"),
        ({"offsets": np.array([0, 3, 1, 2])}, ValueError, r"offsets\[2\] is 1 after 3"),
        ({"offsets": np.array([0, 2], np.int32)}, TypeError, "offsets must have dtype int64"),
        ({"offsets": [0, 2]}, TypeError, "offsets must be a numpy array"),
        ({"weights": np.ones(3, np.float32)}, ValueError, r"weights must have shape \(2,\)"),
        ({"weights": np.ones(2)}, TypeError, "weights must have dtype float32"),
        ({"combiner": "max"}, ValueError, "combiner must be 'sum', 'mean' or 'sqrtn', got 'max'"),
        ({"combiner": None}, TypeError, "combiner must be a str"),
    ]
    for change, error, text in cases:
        arguments = {"keys": keys, "offsets": offsets, **change}
        with pytest.raises(error, match=text):
            table.lookup_pooled(**arguments)
        with pytest.raises(error, match=text):
            table.apply_pooled_gradients(grads=ones, **arguments)
    with pytest.raises(TypeError, match="train"):
        table.lookup_pooled(keys, offsets, train=1)
    with pytest.raises(ValueError, match=r"grads must have shape \(1, 2\)"):
        table.apply_pooled_gradients(keys, offsets, np.ones([2, 2], np.float32))
    with pytest.raises(ValueError, match="grads is NaN"):
        table.apply_pooled_gradients(keys, offsets, ones * np.nan)
    with pytest.raises(ValueError, match="weights is NaN"):
        table.apply_pooled_gradients(keys, offsets, ones, np.array([1, np.inf], np.float32))
    with pytest.raises(ValueError, match="learning_rate"):
        table.apply_pooled_gradients(keys, offsets, ones, learning_rate=-1.0)
    assert len(table) == 0 and table.stats()["optimizer_step"] == 0
    with pytest.raises(RuntimeError, match="no optimizer"):
        make(2, optimizer=None).apply_pooled_gradients(keys, offsets, ones)
    full = make(2, memory_rows=1)
    with pytest.raises(mxrec.CapacityError):
        full.lookup_pooled(keys, offsets)
    table.close()
    with pytest.raises(RuntimeError, match="closed"):
        table.lookup_pooled(keys, offsets)


_PEAK = """
import resource
import numpy as np
import mxrec

n, dim, bags = 2_000_000, 64, 1_000
table = mxrec.Table("t", dim, optimizer=mxrec.SGD(0.1))
rng = np.random.default_rng(1)
table.lookup(np.arange(20_000))
keys = rng.integers(0, 20_000, n)
offsets = np.arange(bags + 1) * (n // bags)
weights = np.ones(n, np.float32)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
table.lookup_pooled(keys[:2000], offsets[:2], train=False)  # threads start
before = peak()
out = table.lookup_pooled(keys, offsets, weights, "mean", train=False)
read = peak()
out = table.lookup_pooled(keys, offsets, weights, "mean")
table.apply_pooled_gradients(keys, offsets, out, weights, "mean")
print(read - before, peak() - before, n * dim * 4)
"""


def test_no_array_of_one_row_per_key_is_made():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PEAK)], check=True, capture_output=True, text=True
    )
    reading, training, rows = map(int, run.stdout.split())
    assert reading < rows / 50
    assert training < rows / 4  # the batch's keys by shard, and sums of the distinct keys
