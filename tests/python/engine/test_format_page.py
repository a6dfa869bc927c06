"""docs/format-checkpoint.md is enough to write a reader: its own example reads checkpoints."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contents import contents

import mxrec

PAGE = Path(__file__).resolve().parents[3] / "docs" / "format-checkpoint.md"
DIM = 6


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page's code defines."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def joined(blocks: Any) -> list[Any]:
    """Columns of all blocks, by ascending key."""
    columns = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    order = np.argsort(columns[0])
    return [column[order] for column in columns]


def trained(rng: Any, **options: Any) -> Any:
    """A table with rows of several frequencies and times."""
    table = mxrec.Table("t", DIM, initializer=mxrec.Normal(0.1, 0.3), seed=11, **options)
    for now in range(1000, 1004):
        keys = rng.integers(-(2**62), 2**62, 3000) % 4000 - 2000
        table.lookup(keys, timestamp=now)
        if table.optimizer is not None:
            table.apply_gradients(keys, rng.normal(size=(len(keys), DIM)).astype(np.float32))
    return table


@pytest.mark.parametrize("value_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("optimizer", [None, mxrec.Adagrad(0.1), mxrec.LazyAdam(0.01)], ids=repr)
def test_rows(page, rng, tmp_path, value_dtype, optimizer):
    table = trained(rng, optimizer=optimizer, value_dtype=value_dtype)
    table.save(tmp_path / "t")
    wanted = contents(table)
    keys, frequency, last_time, rows = joined(page["read"](tmp_path / "t"))
    assert len(keys) > 1000
    np.testing.assert_array_equal(keys, wanted.keys)
    np.testing.assert_array_equal(frequency, wanted.frequency)
    np.testing.assert_array_equal(rows, np.hstack([wanted.values, wanted.slots]))
    assert set(last_time) == {1000, 1001, 1002, 1003}
    assert list(page["read_counts"](tmp_path / "t")) == []


@pytest.mark.parametrize("value_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("optimizer", [None, mxrec.Adagrad(0.1), mxrec.LazyAdam(0.01)], ids=repr)
def test_segments(page, rng, tmp_path, value_dtype, optimizer):
    """Rows on SSD, most of them in files that the checkpoint has taken as they are."""
    dim = 301
    table = mxrec.Table(
        "t",
        dim,
        initializer=mxrec.Normal(0.1, 0.3),
        optimizer=optimizer,
        value_dtype=value_dtype,
        memory_rows=200,
        ssd_rows=9_800,
        ssd_paths=[tmp_path],
        stochastic_rounding=value_dtype == "bfloat16",
    )
    for start in range(0, 6000, 200):
        keys = np.arange(start, start + 200)
        table.lookup(keys, timestamp=1000 + start)
        if optimizer is not None:
            table.apply_gradients(keys[::9].copy(), rng.normal(size=(23, dim)).astype(np.float32))
    wait_until_written(table)
    table.save(tmp_path / "t")
    manifest = page["read_manifest"](tmp_path / "t")
    assert manifest["version"] == 5
    in_segments = sum(file["rows"] for file in manifest["segments"]["files"])
    assert 2000 < in_segments < manifest["rows"] == 6000
    wanted = contents(table)
    keys, frequency, last_time, rows = joined(page["read"](tmp_path / "t"))
    np.testing.assert_array_equal(keys, wanted.keys)
    np.testing.assert_array_equal(frequency, wanted.frequency)
    np.testing.assert_array_equal(rows, np.hstack([wanted.values, wanted.slots]))
    np.testing.assert_array_equal(last_time, 1000 + keys // 200 * 200)
    loaded = contents(mxrec.Table.load(tmp_path / "t"))
    np.testing.assert_array_equal(loaded.values, wanted.values)


def wait_until_written(table: Any) -> None:
    """Files that wait for the disk get there."""
    before = -1
    while (now := table.stats()["tiers"]["ssd"]["bytes_written"]) != before:
        before = now
        time.sleep(0.1)


def test_exact_counts(page, rng, tmp_path):
    table = trained(rng, optimizer=mxrec.Adagrad(0.1), admission=mxrec.Admission(4))
    table.save(tmp_path / "t")
    keys, counts, last_time, none = joined(page["read_counts"](tmp_path / "t"))
    assert len(keys) == table.stats()["counted_keys"] > 1000
    assert none.shape == (len(keys), 0) and set(last_time) == {1000, 1001, 1002, 1003}
    assert set(counts) == {1, 2, 3}
    np.testing.assert_array_equal(counts, table.counts(keys))
    with_rows, frequency, _, rows = joined(page["read"](tmp_path / "t"))
    assert not set(keys) & set(with_rows)
    np.testing.assert_array_equal(frequency, table.counts(with_rows))
    np.testing.assert_array_equal(rows[:, :DIM], table.lookup(with_rows, train=False))


def splitmix64(keys: Any) -> Any:
    """splitmix64 of keys as uint64."""
    with np.errstate(over="ignore"):
        h = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))


def test_a_sketch(page, rng, tmp_path):
    """A key's count follows from the blocks by what the page says of their bytes."""
    expected_keys = 20_000
    options = mxrec.Admission(4, mode="sketch", expected_keys=expected_keys)
    table = trained(rng, admission=options)
    table.save(tmp_path / "t")
    numbers, _, _, floats = joined(page["read_counts"](tmp_path / "t"))
    blocks = 256 * max(expected_keys // 18 // 256, 1)
    contents_of = np.zeros((blocks, 64), np.uint8)
    contents_of[numbers] = np.ascontiguousarray(floats).view(np.uint8).reshape(-1, 64)
    halves = contents_of[:, :62]
    counters = np.stack([halves & 15, halves >> 4], axis=-1).reshape(blocks, 124)
    with_rows = joined(page["read"](tmp_path / "t"))[0]
    keys = np.setdiff1d(np.arange(-2000, 2000), with_rows)
    h = splitmix64(keys)
    block = ((h >> np.uint64(32)) * np.uint64(blocks)) >> np.uint64(32)
    of_section = [
        counters[block, 31 * s + (31 * (h >> np.uint64(8 * s) & np.uint64(255)) // 256).astype(int)]
        for s in range(4)
    ]
    wanted = np.minimum.reduce(of_section)
    assert set(wanted) == {0, 1, 2, 3}
    np.testing.assert_array_equal(table.counts(keys), wanted)
