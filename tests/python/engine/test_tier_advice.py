"""mxrec.tier_figures and mxrec.tier_advice: which size to raise, and by how much."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tier_runs import DIM

import mxrec


def stats(
    memory: dict[str, Any] | None = None, ssd: dict[str, Any] | None = None, **others: Any
) -> dict[str, Any]:
    """Statistics of a table of 10,000 rows, 1,000 of them in memory, that misses nothing."""
    return {
        "hits": 100_000,
        "misses": 10_000,
        "updates": 50,
        "tiers": {
            "memory": {
                "rows": 1000,
                "capacity": 1000,
                "promoted": 0,
                "promoted_staged": 0,
                **(memory or {}),
            },
            "ssd": {
                "rows": 9000,
                "capacity": 99_000,
                "read_in_place": 0,
                "bytes_read": 5_000_000,
                "bytes_written": 1_000_000,
                "read_requests": 200,
                "wait_seconds": 0.0,
                "errors": 0,
                "background_error": None,
                **(ssd or {}),
            },
        },
        **others,
    }


def test_figures_are_shares_of_the_keys_that_have_a_row() -> None:
    figures = mxrec.tier_figures(
        stats({"promoted": 30_000, "promoted_staged": 20_000}, {"read_in_place": 5000})
    )
    assert figures is not None
    assert figures.memory_hit_rate == pytest.approx(0.65)
    assert (figures.waited, figures.staged) == (0.15, 0.2)
    assert figures.bytes_read_per_update == 100_000
    assert figures.bytes_written_per_update == 20_000
    assert figures.read_requests == 200


def test_figures_between_two_times() -> None:
    before = stats({"promoted": 30_000, "promoted_staged": 20_000})
    now = stats(
        {"promoted": 31_000, "promoted_staged": 20_200},
        {"bytes_read": 5_400_000, "read_in_place": 100},
        hits=110_000,
        updates=54,
    )
    figures = mxrec.tier_figures(now, before)
    assert figures is not None
    assert (figures.hits, figures.updates) == (10_000, 4)
    assert (figures.waited, figures.staged) == (0.09, 0.02)
    assert figures.bytes_read_per_update == 100_000
    assert mxrec.tier_advice(now, before) and not mxrec.tier_advice(stats(), stats())


def test_figures_of_nothing() -> None:
    assert mxrec.tier_figures({"tiers": None}) is None
    assert mxrec.tier_advice({"tiers": None}) == []
    figures = mxrec.tier_figures(stats({"promoted": 5}, hits=0, updates=0))
    assert figures is not None and figures.memory_hit_rate is None
    assert (figures.waited, figures.staged, figures.bytes_read_per_update) == (0.0, 0.0, None)
    assert mxrec.tier_advice(stats({"promoted": 5}, hits=0, updates=0)) == []


def test_sizes_that_are_right_need_no_advice() -> None:
    assert mxrec.tier_advice(stats()) == []
    assert mxrec.tier_advice(stats({"promoted": 9000})) == []  # 9 %


def test_memory_is_to_grow_where_it_serves_too_few_keys() -> None:
    (advice,) = mxrec.tier_advice(stats({"promoted": 38_000, "promoted_staged": 30_000}))
    assert advice == (
        "raise memory_rows (host_vocabulary_size) to about 8,700: 38 % of the keys looked up had "
        "their row on SSD, 30 % read ahead"
    )
    # 0.62 = 0.1^power; 0.97 = (rows / 10,000)^power.
    assert 10_000 * 0.97 ** (np.log(0.1) / np.log(0.62)) == pytest.approx(8635, abs=1)
    (more,) = mxrec.tier_advice(stats({"promoted": 12_000}))
    assert wanted(more) < wanted(advice)
    none_in_memory = stats({"promoted": 50_000, "rows": 0}, {"rows": 10_000})
    assert 0 < wanted(*mxrec.tier_advice(none_in_memory)) <= 10_000
    (all_of_them,) = mxrec.tier_advice(stats({"promoted": 100_000}))
    assert wanted(all_of_them) == 9700


def wanted(advice: str) -> int:
    found = re.search(r"to about ([\d,]+)", advice)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_ssd_is_to_grow_where_the_table_is_full() -> None:
    (advice,) = mxrec.tier_advice(stats(ssd={"rows": 95_000}))
    assert advice.startswith("raise ssd_rows (ssd_vocabulary_size) to about 149,000: 96,000 of")
    assert mxrec.tier_advice(stats(ssd={"rows": 88_000})) == []


def test_disks_that_fail_or_are_too_slow() -> None:
    first, *_ = mxrec.tier_advice(stats({"promoted": 50_000}, {"background_error": "disk: EIO"}))
    assert first == "look after the disks of the SSD tier: disk: EIO"
    (advice,) = mxrec.tier_advice(stats(ssd={"errors": 3}))
    assert "3 rows could not be read" in advice
    (advice,) = mxrec.tier_advice(stats(ssd={"wait_seconds": 10.0}))
    assert "steps waited 0.20 s" in advice


def test_what_it_says_comes_true(tmp_path: Path) -> None:
    """Keys by Zipf's law: with the memory that is asked for, the advice is silent."""

    def advice(memory_rows: int) -> list[str]:
        rng = np.random.default_rng(2)
        keys = (rng.zipf(1.3, (60, 2000)) % 5000).astype(np.int64)
        with mxrec.Table(
            "t", DIM, memory_rows=memory_rows, ssd_rows=20_000, ssd_paths=[tmp_path]
        ) as table:
            for part in keys[:30]:
                table.lookup(part)
            warm = table.stats()
            for part in keys[30:]:
                table.lookup(part)
            return mxrec.tier_advice(table.stats(), warm)

    (small,) = advice(100)
    assert small.startswith("raise memory_rows")
    assert 100 < wanted(small) < 5000
    assert advice(wanted(small)) == []
