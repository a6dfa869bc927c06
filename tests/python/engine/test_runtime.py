"""The gather mode and stats() of the process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import mxrec
from mxrec import _mxrec

MODES = ("high_performance", "high_precision")


@pytest.fixture(autouse=True)
def default_mode() -> Iterator[None]:
    mxrec.set_gather_mode("high_performance")
    yield
    mxrec.set_gather_mode("high_performance")


@pytest.mark.parametrize("dim", [1, 7, 8, 16, 32, 33, 64, 128, 257])
def test_both_modes_give_the_same_bits(dim: int, rng: np.random.Generator) -> None:
    with mxrec.Table("t", dim=dim, initializer=mxrec.Normal(), optimizer=mxrec.Adagrad()) as table:
        keys = rng.integers(-500, 500, size=3001)
        rows = table.lookup(keys)
        table.apply_gradients(keys, rows)
        asked = rng.integers(-1000, 1000, size=5003)  # half of them have no row
        found = {}
        for mode in MODES:
            mxrec.set_gather_mode(mode)
            found[mode] = [
                table.lookup(asked, train=False),
                table.lookup(asked[:0], train=False),
                table.lookup(keys),
            ]
        for fast, plain in zip(*found.values(), strict=True):
            np.testing.assert_array_equal(fast.view(np.uint32), plain.view(np.uint32))


def test_training_in_either_mode_gives_the_same_table(rng: np.random.Generator) -> None:
    batches = [rng.integers(0, 3000, size=2000) for _ in range(4)]
    contents = []
    for mode in MODES:
        mxrec.set_gather_mode(mode)
        with mxrec.Table("t", dim=9, optimizer=mxrec.LazyAdam()) as table:
            for keys in batches:
                table.apply_gradients(keys, table.lookup(keys) + np.float32(0.5))
            every = np.sort(table.keys())
            contents.append((every, table.lookup(every, train=False)))
    np.testing.assert_array_equal(contents[0][0], contents[1][0])
    np.testing.assert_array_equal(contents[0][1], contents[1][1])


def test_set_gather_mode() -> None:
    assert mxrec.gather_mode() == "high_performance"
    mxrec.set_gather_mode("high_precision")
    assert mxrec.gather_mode() == "high_precision"
    with pytest.raises(ValueError, match=r"mode.*'high_performance', 'high_precision'.*'fast'"):
        mxrec.set_gather_mode("fast")
    with pytest.raises(TypeError, match=r"mode.*None"):
        mxrec.set_gather_mode(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fast"):
        _mxrec.set_gather_mode("fast")
    assert mxrec.gather_mode() == "high_precision"


def test_stats_name_the_kernel_and_the_threads() -> None:
    stats = mxrec.stats()
    assert stats["version"] == mxrec.__version__
    assert stats["kernel_target"] == _mxrec.kernel_target()
    assert stats["gather_mode"] == "high_performance"
    assert stats["gather_kernel"] == stats["kernel_target"]
    assert stats["streaming_bytes"] > 0
    assert stats["num_threads"] == mxrec.num_threads()
    assert stats["thread_binding"] is False
    mxrec.set_gather_mode("high_precision")
    stats = mxrec.stats()
    assert (stats["gather_mode"], stats["gather_kernel"]) == ("high_precision", "plain")
    assert stats["streaming_bytes"] is None


def test_stats_have_the_registered_tables_that_are_open() -> None:
    table = _mxrec.Table("registered", 4)
    _mxrec.register_table("registered", table)
    try:
        table.lookup(np.arange(5))
        assert mxrec.stats()["tables"]["registered"] == table.stats()
        assert mxrec.stats()["tables"]["registered"]["rows"] == 5
        table.close()
        assert "registered" not in mxrec.stats()["tables"]
    finally:
        _mxrec.unregister_table("registered")
    assert "registered" not in mxrec.stats()["tables"]
