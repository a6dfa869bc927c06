"""Parts of ``mxrec bench``: keys, bars, the C++ suite's results, report and plots."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mxrec.bench import bars, native, plots, report, results, timing, workload
from mxrec.bench.results import Results, SideResult
from mxrec.cli.console import PlainConsole

GOOGLE_BENCHMARK = {
    "context": {"compiler": "GNU 12, -O3"},
    "benchmarks": [
        {
            "name": "absl::flat_hash_map/rows:5000/dim:8/find/zipf1.05/real_time",
            "real_time": 1.0,
            "keys/s": 2e6,
        },
        *(
            {
                "name": f"{adapter}/rows:5000/dim:8/find/zipf1.05/real_time",
                "real_time": 1.0,
                "keys/s": 2e6,
            }
            for adapter in ("mxrec_hot_off", "a map without a colour of its own")
        ),
        {
            "name": "mxrec/rows:5000/dim:8/growth/iterations:1/manual_time",
            "keys/s": 3e6,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "p99.9_ms": 3.0,
            "max_ms": 4.0,
            "bytes/row": 96.0,
            "overhead/row": 32.0,
        },
        {"name": "mxrec/rows:5000/dim:8/erase/manual_time", "error_occurred": True},
    ],
}
PROBE = {
    "rows": 100,
    "dim": 16,
    "batch": 10,
    "unit": "Mkeys/s",
    "laws": {"uniform": {"hash+gather": [40, 50], "known rows": [90, 91], "mxrec": [36, 40]}},
}
GROWTH = {
    "rows": 100,
    "dim": 2,
    "batch": 10,
    "adapters": {
        "mxrec": {
            "rows": 100, "Mkeys/s": 5.0, "p50 ms": 1.0, "p99 ms": 2.0, "p99.9 ms": 3.0,
            "max ms": 4.0, "resident bytes": 5000, "payload bytes": 1600, "stats bytes": 4900,
            "latencies ms": [1.0, 4.0, 1.0],
        }
    },
}  # fmt: skip


def make_results(**fields: Any) -> Results:
    return Results(
        "full", {"processor": "P"}, {"mxrec": "1"}, workload.Config().to_dict(), 2, **fields
    )


def side(**cases: list[float]) -> SideResult:
    return SideResult("v", {name: {timing.THROUGHPUT: values} for name, values in cases.items()})


# --- Keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", workload.LAWS)
def test_keys_follow_their_law(law: str, rng: np.random.Generator) -> None:
    rows, exponent = 1000, workload.LAWS[law]
    ranks = workload.draw_ranks(exponent, rows, 100_000, rng)
    assert ranks.dtype == np.int64
    assert 0 <= ranks.min() <= ranks.max() < rows
    power = 1.0 - exponent
    share = 0.01 if exponent == 0 else (11**power - 1) / (rows**power - 1)
    assert np.mean(ranks < 10) == pytest.approx(share, abs=0.01)


def test_keys_are_distinct_and_repeat_by_seed() -> None:
    config = workload.Config(rows=5000, batch=512, lookup_batches=2)
    keys = np.concatenate(list(workload.all_keys(config)))
    assert len(np.unique(keys)) == 5000
    assert keys.min() >= 0
    again = [workload.lookup_ranks(config, "zipf 1.05") for _ in range(2)]
    np.testing.assert_array_equal(again[0], again[1])
    rows = workload.static_rows_of(np.arange(5000), 5000)
    assert len(np.unique(rows)) == 5000


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_fed_arrays_are_aligned(size: int) -> None:
    keys = np.arange(size)
    copy = workload.aligned(keys)
    np.testing.assert_array_equal(copy, keys)
    assert copy.ctypes.data % 64 == 0
    assert copy.flags.c_contiguous


# --- Bars ---------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round() -> None:
    assert results.ratios([10, 30], [1, 2]) == [10, 15]
    assert results.ratios([10], []) == []
    assert str(results.Spread.of([1.0, 3.0, 2.0])) == "2.00 (1.00-3.00)"


def test_every_bar_is_met_or_not_or_not_measured() -> None:
    empty = make_results()
    assert {row[-1] for row in report.bar_rows(empty)} == {"-"}
    mxrec = side(**{"lookup zipf 1.05": [50, 60], "training lookup zipf 1.05": [30, 30]})
    mxrec.figures["training lookup zipf 1.05"][timing.TRAINING_SHARE] = [0.5, 0.6]
    mxrec.figures["lookup zipf 1.05"] |= {timing.HOT_OFF: [40, 40], timing.HOT_GAIN: [1.1, 1.2]}
    found = make_results(
        groups={
            "table": {
                "mxrec": mxrec,
                "tfra": side(**{"lookup zipf 1.05": [5, 5]}),
                "tf": side(**{"lookup zipf 1.05": [40, 40]}),
            }
        },
        probe=PROBE,
        growth=GROWTH,
    )
    rows = {row[:2]: row[2:] for row in report.bar_rows(found)}
    assert rows["lookup, Zipf 1.05", "TFRA"] == ("≥ 10x", "11.00 (10.00-12.00)", "yes")
    assert rows["lookup, Zipf 1.05", bars.STOCK][-1] == "no"
    assert rows["training lookup, Zipf 1.05", "the same with train=False"][-1] == "no"
    assert rows["hot keys on, Zipf 1.05", "hot keys off"][-1] == "yes"
    assert rows["hot keys off, Zipf 1.05", "TFRA"] == ("≥ 8x", "8.00", "yes")
    assert rows["50M x 16, uniform, C++", "hash + gather"] == ("≥ 0.8x", "0.85 (0.80-0.90)", "yes")
    assert rows["index and metadata, by RSS", "-"] == ("≤ 36 bytes/row", "34.00", "yes")
    assert rows["stats() beside RSS", "-"] == ("≤ 5 % apart", "2.00", "yes")
    assert rows["insert", "TFRA"] == ("≥ 10x", "not measured", "-")


def test_the_ratio_of_a_pair_is_the_median_of_its_passes() -> None:
    calls: list[str] = []

    def slow(batch: int) -> None:
        calls.append(f"slow {batch}")
        time.sleep(0.004)

    config = workload.Config(seconds=0.02)
    rate, other, ratio = timing.compared(
        config, lambda batch: calls.append(f"fast {batch}"), slow, [1, 2], 1000
    )
    assert rate > other > 0
    assert ratio > 2
    assert calls[:4] == ["fast 1", "fast 2", "slow 1", "slow 2"]  # one pass warms up
    assert calls[4:12] == [*calls[:4], *calls[2:4], *calls[:2]]  # then they take turns


# --- The C++ suite ------------------------------------------------------------------------------


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_names_of_the_suite_are_taken_apart() -> None:
    find, *_, growth = native.map_rows(GOOGLE_BENCHMARK)
    assert find["adapter"] == "absl::flat_hash_map"
    assert (find["rows"], find["dim"], find["operation"], find["law"]) == (
        5000,
        8,
        "find",
        "zipf1.05",
    )
    assert (growth["operation"], growth["law"], growth["max_ms"]) == ("growth", None, 4.0)


def test_programs_of_the_suite_are_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "maps.json").write_text(json.dumps(GOOGLE_BENCHMARK))
    program(
        tmp_path,
        "table_benchmark",
        f"""case "$*" in *--benchmark_list_tests*) echo mxrec/rows:5; exit 0;; esac
echo "skipped: libcuckoo, 5 rows may need 9 GiB" >&2
echo mxrec/rows:5000/dim:8/find/uniform 1 ms
for flag; do
  case $flag in --benchmark_out=*) cp {tmp_path}/maps.json "${{flag#*=}}";; esac
done""",
    )
    program(
        tmp_path, "probe_benchmark", f"echo 'progress: 1/2 filling' >&2; echo '{json.dumps(PROBE)}'"
    )
    program(tmp_path, "growth_benchmark", "echo 'no such luck' >&2; exit 1")
    found = make_results()
    for group in native.PROGRAMS:
        native.run(group, tmp_path, [], found, PlainConsole())
    assert found.probe == PROBE
    assert not found.growth
    assert found.failed == ["growth_benchmark ended with status 1: no such luck"]
    assert found.maps[0]["adapter"] == "absl::flat_hash_map"
    assert found.versions["C++ suite"] == "GNU 12, -O3"
    assert any("libcuckoo, 5 rows may need 9 GiB" in reason for reason in found.skipped)
    assert "filling" in capsys.readouterr().out
    native.run("probe", tmp_path / "nowhere", [], found, PlainConsole())
    assert "there is no" in found.skipped[-1]


# --- Report and plots ---------------------------------------------------------------------------


def test_report_and_plots_of_everything(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = {
        name: side(**{f"lookup {law}": [speed, speed + 1] for law in workload.LAWS})
        for name, speed in (("mxrec", 60.0), ("tf", 30.0), ("tfra", 5.0))
    }
    for law in workload.LAWS:
        table["mxrec"].figures[f"lookup {law}"] |= {
            timing.HOT_OFF: [50.0, 51.0],
            timing.HOT_GAIN: [1.2, 1.3],
        }
    for name in ("mxrec", "tfra"):
        table[name].figures["insert"] = {
            timing.THROUGHPUT: [9.0, 8.0],
            timing.WORST_BATCH: [20.0, 30.0],
        }
        table[name].latencies_ms["insert"] = [1.0, 2.0, 30.0]
    found = make_results(
        groups={"table": table},
        probe=PROBE,
        growth=GROWTH,
        maps=native.map_rows(GOOGLE_BENCHMARK),
        skipped=["this was skipped"],
        failed=["that failed\nfor this reason"],
    )
    images = plots.draw(found, tmp_path / "images")
    assert {path.name for path in images.values()} == {
        "bench-throughput.png", "bench-hot.png", "bench-insert.png", "bench-growth.png",
        "bench-maps.png",
    }  # fmt: skip
    for path in images.values():
        assert path.read_bytes().startswith(b"\x89PNG")
    text = report.markdown(found, tmp_path / "docs" / "report.md", images)
    assert "](../images/bench-hot.png)" in text
    for part in ("this was skipped", "failed: that failed", "for this reason", "| mxrec | 100 |"):
        assert part in text
    # Every table has as many cells in each of its lines.
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block
    json.dumps(found.to_dict())


def test_a_run_without_figures_has_a_report_and_no_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = make_results(skipped=["everything"])
    assert plots.draw(found, tmp_path) == {}
    assert "- everything" in report.markdown(found, tmp_path / "report.md", {})
