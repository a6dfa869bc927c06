"""Tables with an SSD tier: the same as tables in memory, in all that they say and hold."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tier_runs import (
    DIM,
    MEMORY,
    SSD,
    UNIVERSE,
    assert_same,
    batch,
    eventually,
    everything,
    in_memory,
    step,
    tier_files,
    tiered,
    until_spilled,
)

import mxrec
from mxrec._mxrec import MAX_SSD_ROWS

STEPS = 40
KINDS: dict[str, dict[str, Any]] = {
    "LazyAdam": {"optimizer": mxrec.LazyAdam(0.1)},
    "SGD, one shard": {"optimizer": mxrec.SGD(0.1), "num_shards": 1},
    "Adagrad in 16 bits": {
        "optimizer": mxrec.Adagrad(0.1),
        "value_dtype": "bfloat16",
        "stochastic_rounding": True,
    },
    "Ftrl with admission and ages": {
        "optimizer": mxrec.Ftrl(0.1),
        "admission": mxrec.Admission(2),
        "eviction": mxrec.Eviction(max_age=12),
    },
    "Momentum with a sketch and few rows": {
        "optimizer": mxrec.Momentum(0.1),
        "admission": mxrec.Admission(2, mode="sketch", expected_keys=UNIVERSE),
        "eviction": mxrec.Eviction(max_rows=1500, min_l2=0.01),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_is_the_same_in_both(kind: str, tmp_path: Path) -> None:
    with tiered(tmp_path, **KINDS[kind]) as table, in_memory(**KINDS[kind]) as twin:
        for number in range(STEPS):
            assert_same(step(table, number), step(twin, number))
        assert_same(everything(table), everything(twin))
        assert sorted(table.keys()) == sorted(twin.keys())
        stats, wanted = table.stats(), twin.stats()
        for name in ("rows", "capacity", "hits", "misses", "inserts", "erased", "admitted"):
            assert stats[name] == wanted[name], name
        for name in ("evicted", "refused", "counted_keys", "optimizer_step", "updates"):
            assert stats[name] == wanted[name], name
        tiers = stats["tiers"]
        assert tiers["memory"]["promoted"] > 1000 and tiers["ssd"]["spilled"] > 1000


def test_versions_restore_to_any_sizes(tmp_path: Path) -> None:
    """Full versions and deltas of both kinds of tables, written while training goes on."""
    options = KINDS["Ftrl with admission and ages"]
    table, twin = tiered(tmp_path, **options), in_memory(**options)
    states = {}
    for number in range(1, 31):
        assert_same(step(table, number), step(twin, number))
        if number % 10 == 0:
            states[number] = everything(twin)
            saves = [
                mxrec.save(each, tmp_path / name, step=number, delta=number > 10, wait=False)
                for name, each in (("tiered", table), ("memory", twin))
            ]
            assert_same(step(table, 1000 + number), step(twin, 1000 + number))
            for save in saves:
                save.wait()
    sizes: list[dict[str, Any]] = [
        {"memory_rows": MEMORY, "ssd_rows": SSD, "ssd_paths": [tmp_path], "num_shards": 2},
        {"memory_rows": 5000, "ssd_rows": 10_000, "ssd_paths": [tmp_path]},
        {"memory_rows": None},
    ]
    for size in sizes:
        with mxrec.Table("t", DIM, seed=3, **options, **size) as other:
            step(other, 77)  # what is there goes
            for number, wanted in states.items():
                for name in ("tiered", "memory"):
                    assert mxrec.restore(other, tmp_path / name, step=number) == number
                    assert_same(everything(other), wanted)
    assert [v.kind for v in mxrec.versions(tmp_path / "tiered", all=True)] == [
        "full",
        "delta",
        "delta",
    ]
    assert_same(step(table, 50), step(twin, 50))
    updates = table.stats()["updates"]
    mxrec.restore([table], tmp_path / "memory", step=20)
    assert table.stats()["updates"] == updates > table.stats()["optimizer_step"]
    mxrec.restore([twin], tmp_path / "tiered", step=20)
    assert_same(step(table, 51), step(twin, 51))
    table.close()
    twin.close()


def test_load_takes_sizes(tmp_path: Path) -> None:
    options = KINDS["Momentum with a sketch and few rows"]
    with tiered(tmp_path, **options) as table:
        for number in range(20):
            step(table, number)
        table.save(tmp_path / "saved")
        wanted, later = everything(table), step(table, 20)
    with mxrec.Table.load(tmp_path / "saved") as loaded:
        assert (loaded.memory_rows, loaded.ssd_rows, loaded.capacity) == (20_200, 0, 20_200)
        assert loaded.stats()["tiers"] is None
        assert_same(everything(loaded), wanted)
    rows = len(wanted["keys"])
    with mxrec.Table.load(
        tmp_path / "saved", memory_rows=100, ssd_rows=rows, ssd_paths=[tmp_path], num_shards=4
    ) as loaded:
        assert (loaded.memory_rows, loaded.ssd_rows) == (100, rows)
        assert loaded.stats()["updates"] == 0 < loaded.stats()["optimizer_step"]
        assert loaded.admission == options["admission"] and loaded.eviction == options["eviction"]
        assert_same(everything(loaded), wanted)
    rule = mxrec.Eviction(max_age=9)
    sizes = {"memory_rows": 50, "ssd_rows": 30_000, "ssd_paths": [tmp_path]}
    with mxrec.Table.load(tmp_path / "saved", **sizes, eviction=rule) as loaded:
        assert loaded.eviction == rule
        assert_same(step(loaded, 20), later)
    with pytest.raises(mxrec.CapacityError, match=f"{rows} rows; restore into a table"):
        mxrec.Table.load(
            tmp_path / "saved", memory_rows=10, ssd_rows=rows - 11, ssd_paths=[tmp_path]
        )
    with pytest.raises(ValueError, match="ssd_rows=9 needs memory_rows"):
        mxrec.Table.load(tmp_path / "saved", ssd_rows=9)
    assert tier_files(tmp_path) == []


def test_properties_and_stats(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [tmp_path / "a", str(tmp_path / "b")]
    with mxrec.Table("t", DIM, memory_rows=64, ssd_rows=1000, ssd_paths=paths) as table:
        assert (table.memory_rows, table.ssd_rows, table.capacity) == (64, 1000, 1064)
        assert table.ssd_paths == (str(tmp_path / "a"), str(tmp_path / "b"))
        table.lookup(np.arange(1000))
        until_spilled(table)
        table.lookup(np.arange(300), train=False)
        stats = table.stats()
        memory, ssd = stats["tiers"]["memory"], stats["tiers"]["ssd"]
        assert memory["rows"] + ssd["rows"] == stats["rows"] == 1000
        assert (memory["capacity"], ssd["capacity"], stats["capacity"]) == (64, 1000, 1064)
        assert ssd["read_in_place"] > 0 and ssd["errors"] == 0 and ssd["background_error"] is None
        assert len(ssd["path_bytes"]) == 2 and ssd["path_bytes"][1] == 0
        assert ssd["uses_io_uring"] is (ssd["why_no_io_uring"] is None)
        assert stats["bytes"] >= stats["bytes_rows"] + stats["bytes_index"] + stats["bytes_staged"]
        figures = mxrec.tier_figures(stats)
        assert figures is not None and figures.memory_hit_rate is not None
        assert figures.hits == 300 and figures.waited == ssd["read_in_place"] / 300
        with pytest.raises(mxrec.CapacityError, match="capacity is 1064 rows"):
            table.lookup(np.arange(1000, 1100))
        assert len(table) == 1000
    with mxrec.Table("t", DIM, memory_rows=64) as table:
        assert (table.memory_rows, table.ssd_rows, table.capacity) == (64, 0, 64)
        assert table.ssd_paths == () and table.stats()["tiers"] is None
        table.prefetch(np.arange(9))
    with mxrec.Table("t", DIM) as table:
        assert (table.memory_rows, table.capacity) == (None, None)


def test_the_working_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with mxrec.Table("t", DIM, memory_rows=64, ssd_rows=3000) as table:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert table.ssd_paths == (str(tmp_path),)
        table.lookup(np.arange(3000))
        assert len(tier_files(tmp_path)) == 1 and tier_files(tmp_path / "elsewhere") == []
        assert np.all(table.contains(np.arange(3000)))


def test_prefetch_reads_ahead(tmp_path: Path, rng: np.random.Generator) -> None:
    with tiered(tmp_path, optimizer=mxrec.SGD(0.1)) as table, in_memory() as twin:
        keys = np.arange(5000)
        for each in (table, twin):
            each.lookup(keys)
        staged, ahead = 0, 0
        for _ in range(4):
            until_spilled(table)
            wanted = rng.permutation(5000)[:300].astype(np.int32)
            before = table.stats()["tiers"]["memory"]
            table.prefetch(wanted)
            eventually(lambda: table.stats()["tiers"]["memory"]["staged_rows"] > 200)
            assert table.lookup(wanted).tobytes() == twin.lookup(wanted).tobytes()
            memory = table.stats()["tiers"]["memory"]
            assert memory["promoted_staged"] > before["promoted_staged"] + 200
            staged += memory["promoted_staged"] - before["promoted_staged"]
            ahead += memory["promoted"] - before["promoted"]
        assert staged <= ahead
        table.prefetch(np.arange(10**6, 10**6 + 5))  # have no row
        table.prefetch(np.empty(0, np.int64))
        with pytest.raises(TypeError, match="keys must be a numpy array"):
            table.prefetch([1, 2])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="closed"):
        table.prefetch(keys)


def test_a_row_that_changes_after_a_prefetch_is_the_changed_one(tmp_path: Path) -> None:
    with tiered(tmp_path, optimizer=mxrec.SGD(1.0)) as table:
        keys = np.arange(2000)
        table.lookup(keys)
        until_spilled(table)
        table.prefetch(keys)
        eventually(lambda: table.stats()["tiers"]["memory"]["staged_rows"] > 1000)
        ones = np.ones((2000, DIM), np.float32)
        table.assign(keys, 3 * ones)
        table.apply_gradients(keys[:500], ones[:500])
        table.erase(keys[1990:])
        found = table.lookup(keys, train=False)
        np.testing.assert_array_equal(found[:500], 2.0)
        np.testing.assert_array_equal(found[500:1990], 3.0)
        np.testing.assert_array_equal(found[1990:], 0.0)


# --- Errors and files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ssd_rows": 5}, ValueError, "ssd_rows=5 needs memory_rows, got None"),
        ({"memory_rows": 5, "ssd_paths": ["."]}, ValueError, "ssd_paths=.* needs ssd_rows, got 0"),
        ({"memory_rows": 5, "ssd_rows": -1}, ValueError, r"ssd_rows must be in \[0, .*got -1"),
        ({"memory_rows": 5, "ssd_rows": MAX_SSD_ROWS + 1}, ValueError, "ssd_rows must be in"),
        ({"memory_rows": 5, "ssd_rows": 1.5}, TypeError, "ssd_rows must be an int"),
        ({"memory_rows": 5, "ssd_rows": 5, "ssd_paths": "."}, TypeError, "must be a list or tuple"),
        ({"memory_rows": 5, "ssd_rows": 5, "ssd_paths": [1]}, TypeError, "must hold directories"),
        ({"memory_rows": 5, "ssd_rows": 5, "ssd_paths": []}, ValueError, "ssd_paths is empty"),
        ({"memory_rows": 5, "ssd_rows": 5, "ssd_paths": [""]}, ValueError, "holds an empty path"),
        (
            {"memory_rows": 5, "ssd_rows": 5, "ssd_paths": [".", "nowhere"]},
            FileNotFoundError,
            "ssd_paths: there is no directory /.*/nowhere; make it",
        ),
        (
            {"memory_rows": 5, "ssd_rows": 5, "ssd_paths": ["file"]},
            NotADirectoryError,
            "ssd_paths: /.*/file is no directory",
        ),
    ],
)
def test_rejected_options(
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=message):
        mxrec.Table("t", DIM, **options)
    assert tier_files(tmp_path) == []


UNPRIVILEGED = """
import os, sys
import mxrec
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    mxrec.Table("t", 2, memory_rows=5, ssd_rows=5, ssd_paths=[sys.argv[1]])
except PermissionError as error:
    print(error)
"""


def test_a_directory_without_permission() -> None:
    # Not below tmp_path, which other users may not even look at.
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o500)
        done = run(UNPRIVILEGED, path)
    assert done.stdout.startswith(f"ssd_paths: this process may not make files in {path}; change")


def run(program: str, path: Path | str) -> subprocess.CompletedProcess[str]:
    """Runs a program with a directory as argument; the environment is this one's."""
    return subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_files_go_with_the_table(tmp_path: Path, rng: np.random.Generator) -> None:
    table = tiered(tmp_path)
    table.lookup(batch(rng))
    assert len(tier_files(tmp_path)) == 1
    table.close()
    assert tier_files(tmp_path) == []
    run(
        "import sys, numpy, mxrec\n"
        "t = mxrec.Table('t', 2, memory_rows=9, ssd_rows=999, ssd_paths=[sys.argv[1]])\n"
        "t.lookup(numpy.arange(500))",
        tmp_path,
    )
    assert tier_files(tmp_path) == []


KILLED = """
import os, signal, sys
import numpy, mxrec
t = mxrec.Table("t", 2, memory_rows=9, ssd_rows=9999, ssd_paths=[sys.argv[1]])
t.lookup(numpy.arange(5000))
print("ready", flush=True)
signal.pause()
"""


def test_files_of_a_killed_process_go_when_another_table_is_made(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        (theirs,) = tier_files(tmp_path)
        with tiered(tmp_path) as table:
            table.lookup(np.arange(1000))
            assert theirs in tier_files(tmp_path) and len(tier_files(tmp_path)) == 2
        assert tier_files(tmp_path) == [theirs]  # it lives
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
        assert tier_files(tmp_path) == [theirs]
    with tiered(tmp_path) as table:
        (mine,) = tier_files(tmp_path)
        assert mine != theirs
        table.lookup(np.arange(1000))
    assert tier_files(tmp_path) == []


FORKED = """
import os, sys
import numpy, mxrec
t = mxrec.Table("t", 2, memory_rows=9, ssd_rows=9999, ssd_paths=[sys.argv[1]])
t.lookup(numpy.arange(5000))
child = os.fork()
if child == 0:
    for call in (t.stats, lambda: t.lookup(numpy.arange(5000)), lambda: t.save(sys.argv[1] + "/s")):
        try:
            call()
        except RuntimeError as error:
            assert "was forked" in str(error), error
        else:
            raise AssertionError("not refused")
    t.close()
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
t.lookup(numpy.arange(5000, 9000))
assert t.contains(numpy.arange(9000)).all() and t.stats()["tiers"]["ssd"]["errors"] == 0
print("goes on")
"""


def test_a_forked_process_leaves_its_parents_table_alone(tmp_path: Path) -> None:
    assert run(FORKED, tmp_path).stdout == "goes on\n"
    assert tier_files(tmp_path) == []


def test_an_optimizer_that_is_bound_later_widens_spilled_rows(tmp_path: Path) -> None:
    with tiered(tmp_path) as table, in_memory() as twin:
        keys = np.arange(3000)
        for each in (table, twin):
            each.lookup(keys)
            each._engine.bind_optimizer(mxrec.LazyAdam(0.1).to_options())
        for number in range(5):
            assert_same(step(table, number), step(twin, number))
        assert_same(everything(table), everything(twin))


def save_apart(table: mxrec.Table, path: Path) -> None:
    """Saves to path / "versions", which shares no file with the tier: what happens to those of the
    one does not happen to the other."""
    mxrec.save(table, path / "linked", step=1)
    shutil.copytree(path / "linked", path / "versions")


def test_rows_that_the_disk_has_lost_are_errors_until_a_restore(tmp_path: Path) -> None:
    keys = np.arange(20_000)
    options = {"memory_rows": 200, "ssd_rows": 40_000, "ssd_paths": [tmp_path]}
    with mxrec.Table("t", 64, optimizer=mxrec.SGD(0.1), **options) as table:
        for part in np.split(keys, 10):
            table.lookup(part)
        wanted = table.lookup(keys, train=False)
        save_apart(table, tmp_path)
        until_spilled(table)
        for segment in tmp_path.glob("mxrec-ssd-*/segment-*"):
            os.truncate(segment, 4096)
        for train in (False, True):
            with pytest.raises(OSError, match=r"table 't': SSD segment \d+: cannot read /"):
                table.lookup(keys, train=train)
        assert len(table) == 20_000 and table.stats()["tiers"]["ssd"]["errors"] > 0
        assert "look after the disks" in mxrec.tier_advice(table.stats())[0]
        new = np.arange(10**6, 10**6 + 50)  # what needs no disk goes on
        table.lookup(new)
        table.apply_gradients(new, np.ones((50, 64), np.float32))
        assert table.erase(new) == 50
        assert mxrec.restore(table, tmp_path / "versions") == 1
        assert table.lookup(keys, train=False).tobytes() == wanted.tobytes()


def test_a_restore_reads_what_the_disk_has_lost_although_no_row_changed(tmp_path: Path) -> None:
    options = {"memory_rows": 200, "ssd_rows": 40_000, "ssd_paths": [tmp_path]}
    with mxrec.Table("t", 64, **options) as table:
        for part in np.split(np.arange(20_000), 10):
            table.lookup(part)
        save_apart(table, tmp_path)
        for segment in tmp_path.glob("mxrec-ssd-*/segment-*"):
            os.truncate(segment, 4096)
        with pytest.raises(OSError, match="cannot read"):
            table.lookup(np.arange(20_000), train=False)
        mxrec.restore(table, tmp_path / "versions")
        assert table.lookup(np.arange(20_000), train=False).any(axis=1).all()
