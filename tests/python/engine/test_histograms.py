"""Histograms of frequencies and ages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mxrec
from mxrec import histograms


def expected(values: np.ndarray, edges: np.ndarray) -> list[int]:
    bins = itertools.pairwise(edges.tolist())
    return [int(np.sum((values >= low) & (values < high))) for low, high in bins]


def test_they_count_every_row(rng, monkeypatch):
    monkeypatch.setattr(histograms, "_CHUNK_ROWS", 1000)
    table = mxrec.Table("t", 2, num_shards=4)
    universe = rng.integers(-(2**62), 2**62, 30_000)
    counts = np.zeros(len(universe), np.int64)
    last = np.zeros(len(universe), np.int64)
    for _ in range(6):
        places = rng.zipf(1.2, 20_000) % len(universe)
        time = int(2 ** rng.uniform(0, 32))
        table.lookup(universe[places], timestamp=time)
        np.add.at(counts, places, 1)
        last[places] = np.maximum(last[places], time)
    used = counts > 0
    found = table.histograms()
    edges = found["edges"]
    assert edges.tolist() == [0, *(2**bit for bit in range(33))]
    assert {name: (each.dtype, each.shape) for name, each in found.items()} == {
        "edges": (np.int64, (34,)),
        "frequencies": (np.int64, (33,)),
        "ages": (np.int64, (33,)),
    }
    assert found["frequencies"].tolist() == expected(counts[used], edges)
    assert found["ages"].tolist() == expected(last.max() - last[used], edges)
    assert found["ages"].sum() == found["frequencies"].sum() == len(table)


def test_rows_that_training_never_used_have_no_age():
    table = mxrec.Table("t", 2)
    assert table.histograms()["frequencies"].sum() == 0
    table.assign(np.array([1]), np.ones((1, 2), np.float32))
    found = table.histograms()
    assert (found["frequencies"][0], found["frequencies"].sum(), found["ages"].sum()) == (1, 1, 0)


def test_keys_that_are_not_admitted_or_gone_have_no_row():
    table = mxrec.Table("t", 2, admission=mxrec.Admission(2), eviction=mxrec.Eviction(max_age=10))
    table.lookup(np.array([1, 2, 2]), timestamp=100)
    table.lookup(np.array([3, 3, 3, 3]), timestamp=200)
    assert table.histograms()["ages"].nonzero()[0].tolist() == [0, 7]  # 0 and [64, 128)
    table.evict(budget=0)
    found = table.histograms()
    assert found["ages"].nonzero()[0].tolist() == [0]
    assert found["frequencies"].nonzero()[0].tolist() == [3]


def test_a_closed_table():
    table = mxrec.Table("t", 2)
    table.close()
    with pytest.raises(RuntimeError, match="closed"):
        table.histograms()
