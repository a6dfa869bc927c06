"""Measures saves and restores of versions, each in a process of its own.

python version_figures.py MEASUREMENT DIR ARGUMENT: prints the figures, as JSON. DIR is on the disk
that is measured; what is written there is removed.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mxrec

BATCH = 65_536
PIECE = 16 << 20
MIB = 2.0**20


def make_table(dim: int, rows: int, optimizer: mxrec.Optimizer) -> mxrec.Table:
    """A table of the keys 0 .. rows - 1, each updated once."""
    table = mxrec.Table("t", dim, optimizer=optimizer, initializer=mxrec.Normal(0.0, 0.01))
    for begin in range(0, rows, BATCH):
        keys = np.arange(begin, min(begin + BATCH, rows))
        table.lookup(keys, timestamp=1)
        table.apply_gradients(keys, np.full((len(keys), dim), 0.01, np.float32))
    return table


def train(table: mxrec.Table, keys: np.ndarray, out: np.ndarray, grads: np.ndarray) -> None:
    table.lookup_into(keys, out, timestamp=2)
    table.apply_gradients(keys, grads)


def timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def bytes_of(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def forget_pages(directory: Path) -> None:
    """Has the system read the files below a directory from the disk the next time."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --- A delta beside a full version ----------------------------------------------------------------


def delta_of_a_part(directory: Path, rows: str) -> dict[str, float]:
    """Saves everything, changes 5 % of the rows, saves a delta; three times."""
    dim, count = 32, int(rows)
    rng = np.random.default_rng(7)
    table = make_table(dim, count, mxrec.LazyAdam(0.01))
    seconds: dict[str, list[float]] = {"full": [], "delta": []}
    size = {}
    for round_ in range(3):
        for kind in seconds:
            if kind == "delta":
                changed = rng.permutation(count)[: count // 20]
                for begin in range(0, len(changed), BATCH):
                    keys = changed[begin : begin + BATCH]
                    table.apply_gradients(keys, np.full((len(keys), dim), 0.1, np.float32))
            os.sync()
            step = 2 * round_ + (kind == "delta")
            seconds[kind].append(
                timed(
                    lambda k=kind, s=step: mxrec.save(table, directory, step=s, delta=k == "delta")
                )
            )
            version = mxrec.versions(directory)[-1]
            assert version.kind == kind
            size[kind] = version.bytes
    full, delta = (float(np.median(seconds[kind])) for kind in ("full", "delta"))
    return {
        "rows": count,
        "MiB full": size["full"] / MIB,
        "MiB delta": size["delta"] / MIB,
        "bytes, delta / full": size["delta"] / size["full"],
        "seconds full": full,
        "seconds delta": delta,
        "seconds, delta / full": delta / full,
    }


# --- The disk's rate ------------------------------------------------------------------------------


def open_plain(path: Path, flags: int) -> int:
    """Past the page cache, where the file system allows it."""
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:
        return os.open(path, flags, 0o600)


def write_plain(path: Path, size: int) -> None:
    """What the disk can do: one file, written from front to back and synced."""
    piece = mmap.mmap(-1, PIECE)  # at a page boundary, as direct writes want it
    piece.write(np.random.default_rng(1).bytes(PIECE))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.close(file)
    file = open_plain(path, os.O_WRONLY)
    for _ in range(size // PIECE):
        assert os.writev(file, [piece]) == PIECE
    os.fsync(file)
    os.close(file)


def read_plain(path: Path) -> None:
    piece = mmap.mmap(-1, PIECE)
    file = open_plain(path, os.O_RDONLY)
    while os.readv(file, [piece]):
        pass
    os.close(file)


def touch_memory(size: int) -> None:
    """Has the system give so much memory, and gives it back.

    A virtual machine may get memory of its host page by page, when it is touched, which can take
    seconds a GiB: neither the disk nor the table would be measured. What was just given back is
    still there for who asks next.
    """
    huge = 2 << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, huge):
            memory[at] = 1


def rates(directory: Path, gibibytes: str) -> dict[str, float]:
    """Saves and loads a table of rows of 256 bytes, alternating with plain reads and writes."""
    dim = 64
    size = int(float(gibibytes) * 2**30)
    table = make_table(dim, size // (4 * dim), mxrec.SGD(0.01))
    plain, versions = directory / "plain", directory / "versions"
    found: dict[str, list[float]] = {
        name: [] for name in ("write", "save", "read", "load", "touch")
    }
    plain.mkdir()
    for round_ in range(3):
        shutil.rmtree(versions, ignore_errors=True)
        os.sync()
        found["write"].append(timed(lambda: write_plain(plain / "file", size)))
        os.sync()
        found["save"].append(timed(lambda s=round_: mxrec.save(table, versions, step=s)))
    saved = bytes_of(versions)
    table.close()
    for _ in range(3):
        forget_pages(directory)
        found["read"].append(timed(lambda: read_plain(plain / "file")))
        forget_pages(directory)
        found["touch"].append(timed(lambda: touch_memory(2 * size)))
        with mxrec.Table("t", dim, optimizer=mxrec.SGD(0.01)) as empty:
            found["load"].append(timed(lambda t=empty: mxrec.restore(t, versions)))
    wrote = size // PIECE * PIECE
    rate = {
        name: (saved if name in ("save", "load") else wrote) / MIB / float(np.median(seconds))
        for name, seconds in found.items()
        if name != "touch"
    }
    return {
        "MiB": saved / MIB,
        "s to get a GiB of memory": float(np.median(found["touch"])) / (2 * size / 2**30),
        **{f"MiB/s {name}": value for name, value in rate.items()},
        "save / write": rate["save"] / rate["write"],
        "load / read": rate["load"] / rate["read"],
    }


# --- Training beside a save -----------------------------------------------------------------------


def calls_beside_a_save(directory: Path, kind: str) -> dict[str, float]:
    """The worst lookups and updates of a 5 M x 32 Adam table, without and beside saves."""
    dim, rows, batch = 32, 5_000_000, 16_384
    rng = np.random.default_rng(7)
    table = make_table(dim, rows, mxrec.LazyAdam(0.01))
    batches = [rng.integers(0, rows, batch) for _ in range(50)]
    out = np.empty((batch, dim), np.float32)
    grads = np.full((batch, dim), 0.01, np.float32)

    def one(number: int) -> tuple[float, float]:
        keys = batches[number % len(batches)]
        look = timed(lambda: table.lookup_into(keys, out, timestamp=2))
        return look, timed(lambda: table.apply_gradients(keys, grads))

    mxrec.save(table, directory, step=0)
    without: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    begins, seconds, number = [], [], 0
    for step in range(1, 4):
        for _ in range(300):
            without.append(one(number := number + 1))
        began = time.perf_counter()
        started = mxrec.save(table, directory, step=step, delta=kind == "delta", wait=False)
        begins.append(time.perf_counter() - began)
        while not started.done:
            beside.append(one(number := number + 1))
        started.wait()
        seconds.append(time.perf_counter() - began)
    worst = {
        f"ms, worst {name} {which}": 1e3 * max(calls[index] for calls in measured)
        for index, name in enumerate(("lookup", "apply"))
        for which, measured in (("without", without), ("beside", beside))
    }
    medians = [float(np.median([sum(calls) for calls in m])) for m in (without, beside)]
    return {
        **worst,
        "ms more, worst lookup": worst["ms, worst lookup beside"]
        - worst["ms, worst lookup without"],
        "ms more, worst apply": worst["ms, worst apply beside"] - worst["ms, worst apply without"],
        "ms to begin a save, worst": 1e3 * max(begins),
        "seconds of a save, median": float(np.median(seconds)),
        "steps beside": len(beside),
        "ms of a step, median without": 1e3 * medians[0],
        "ms of a step, median beside": 1e3 * medians[1],
    }


def streaming(directory: Path, minutes: str) -> dict[str, float]:
    """Alternates some seconds of training with deltas every 2 s and without any save."""
    dim, rows, batch = 32, 2_000_000, 16_384
    rng = np.random.default_rng(7)
    table = make_table(dim, rows, mxrec.LazyAdam(0.01))
    keys = rng.zipf(1.1, 200 * batch * 2) - 1
    keys = keys[keys < rows][: 200 * batch].reshape(200, batch).copy()
    out = np.empty((batch, dim), np.float32)
    grads = np.full((batch, dim), 0.01, np.float32)
    mxrec.save(table, directory, step=0)
    step, steps, saves = 0, {"with": 0, "without": 0}, []
    spent = {"with": 0.0, "without": 0.0}
    seconds = 6.5  # three deltas; short, for machines that are faster in one minute than the next
    rounds = max(2, round(60 * float(minutes) / (2 * seconds)))
    for round_ in range(rounds):
        for which in ("with", "without") if round_ % 2 else ("without", "with"):
            begin = last = time.perf_counter()
            started = None
            while (now := time.perf_counter()) - begin < seconds:
                if which == "with" and now - last >= 2 and (started is None or started.done):
                    last = now
                    if started is not None:
                        started.wait()
                    started = mxrec.save(table, directory, step=step, delta=True, wait=False)
                    saves.append(started)
                train(table, keys[step % len(keys)], out, grads)
                step += 1
                steps[which] += 1
            if started is not None:
                started.wait()
            spent[which] += time.perf_counter() - begin
    assert all(save.kind == "delta" for save in saves)
    speed = {which: steps[which] * batch / spent[which] for which in steps}
    return {
        "minutes": float(minutes),
        "deltas": len(saves),
        "keys a second without": speed["without"],
        "keys a second with": speed["with"],
        "with / without": speed["with"] / speed["without"],
    }


if __name__ == "__main__":
    measurement, where, argument = sys.argv[1:]
    target = Path(where) / f"version-figures-{os.getpid()}"
    target.mkdir()
    try:
        figures = globals()[measurement](target, argument)
    finally:
        shutil.rmtree(target)
    print(json.dumps({name: float(value) for name, value in figures.items()}))
