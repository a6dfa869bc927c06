"""Tables with copies of their hot rows and without: the same results."""

from __future__ import annotations

import numpy as np
import pytest
from contents import assert_identical
from numpy.typing import NDArray

import mxrec

ROWS, BATCH = 100_000, 65_536


def zipf(rng: np.random.Generator, size: int, first: int = 0) -> NDArray[np.int64]:
    """Keys of which the lower ones, from ``first`` on, are the more frequent."""
    weights = np.arange(1, ROWS + 1) ** -1.05
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size))
    return (first + ranks) % ROWS


def warm(table: mxrec.Table, keys: NDArray[np.int64]) -> None:
    """Enough lookups for the table to know its hot keys."""
    out = np.empty((len(keys), table.dim), np.float32)
    for _ in range(10):
        table.lookup_into(keys, out, train=False)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dim", [1, 8, 33])
def test_results_do_not_depend_on_it(dtype, dim, rng):
    on, off = (
        mxrec.Table(
            "t", dim, optimizer=mxrec.Adagrad(0.1), seed=5, value_dtype=dtype, use_hot=use_hot
        )
        for use_hot in (True, False)
    )
    for table in on, off:
        table.lookup(np.arange(ROWS // 2))
    for step in range(4):
        warm(on, zipf(rng, BATCH, first=1000 * step))
        for size in (0, 1, 500, 20_000):
            keys = zipf(rng, size, first=1000 * step)
            grads = rng.normal(size=(size, dim)).astype(np.float32)
            for call in (
                lambda t, k=keys: t.lookup(k, train=False),
                lambda t, k=keys: t.lookup(k.astype(np.int32)),
                lambda t, k=keys, g=grads: t.apply_gradients(k, g),
                lambda t, k=keys: t.lookup(k),
                lambda t, k=keys, g=grads: t.assign(k[:200], g[:200]),
                lambda t, k=keys: t.lookup(k, train=False),
                lambda t, k=keys: t.erase(k[-100:]),
                lambda t, k=keys: t.lookup(k, train=False),
            ):
                mine, theirs = call(on), call(off)
                if isinstance(mine, np.ndarray):
                    assert mine.tobytes() == theirs.tobytes()
                else:
                    assert mine == theirs
    assert_identical(on, off)
    stats, stats_off = on.stats(), off.stats()
    assert stats["hot_rows"] > 0 and stats["bytes_hot"] > 0
    assert 0 < stats["hot_hits"] <= stats["hits"]
    assert [stats_off[name] for name in ("hot_rows", "hot_hits", "bytes_hot")] == [0, 0, 0]


def test_even_keys_make_no_row_hot(rng):
    table = mxrec.Table("t", 8)
    table.lookup(np.arange(1_000_000))
    for _ in range(10):
        table.lookup(rng.integers(0, 1_000_000, BATCH), train=False)
    assert table.stats()["hot_rows"] == table.stats()["hot_hits"] == 0


def test_setting_is_checked_and_not_saved(tmp_path):
    table = mxrec.Table("t", 2, use_hot=False)
    assert table.use_hot is False
    table.lookup(np.arange(3))
    table.save(tmp_path / "t")
    files = [path for path in (tmp_path / "t").rglob("*") if path.is_file()]
    assert files and all(b"use_hot" not in path.read_bytes() for path in files)
    assert mxrec.Table.load(tmp_path / "t").use_hot is True
    assert mxrec.Table("t", 2).use_hot is True
    with pytest.raises(TypeError, match="use_hot"):
        mxrec.Table("t", 2, use_hot=1)
