"""Measures memory, errors and speed of admission and eviction, each in a process of its own.

python admission_figures.py MEASUREMENT ARGUMENT: prints the figures, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from admission_model import mixed

import mxrec

BATCH = 65_536
MIB = 2.0**20


def resident() -> int:
    """Bytes of anonymous memory of this process."""
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no Anonymous in smaps_rollup")


def hashes(keys: np.ndarray) -> np.ndarray:
    """``mixed`` of many keys."""
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def zipf(rng: np.random.Generator, n: int, universe: int) -> np.ndarray:
    """n keys in [0, universe), Zipf-distributed with exponent 1.1."""
    keys = rng.zipf(1.1, 2 * n) - 1
    return keys[keys < universe][:n].copy()


def table(dim: int, **options: object) -> mxrec.Table:
    return mxrec.Table("t", dim, initializer=mxrec.Zeros(), **options)


def warm(dim: int) -> None:
    """Makes what is not a table's own: threads, scratch of batches, the allocator's arenas."""
    keys, out = np.arange(BATCH), np.empty((BATCH, dim), np.float32)
    with table(dim, admission=mxrec.Admission(2), eviction=mxrec.Eviction(max_age=1)) as other:
        for step in range(3):
            other.lookup_into(keys + step * BATCH // 2, out, timestamp=step)
        other.evict()


# --- Rows and memory of a long tail -------------------------------------------------------------

DISTINCT = 20_000_000
THRESHOLD = 3


def long_tail(mode: str) -> dict[str, float]:
    """20 M distinct keys, all of them once and a Zipf stream of as many occurrences."""
    assert hashes(np.array([5, -3]))[1] == mixed(-3)
    dim = 4
    rng = np.random.default_rng(7)
    stream = np.concatenate([rng.permutation(DISTINCT), zipf(rng, DISTINCT, DISTINCT)])
    rng.shuffle(stream)
    seen = np.bincount(stream, minlength=DISTINCT)
    due = seen >= THRESHOLD
    out = np.empty((BATCH, dim), np.float32)
    warm(dim)
    before = resident()
    admission = mxrec.Admission(THRESHOLD, mode=mode, expected_keys=DISTINCT)
    tail = table(dim, admission=admission)
    for begin in range(0, len(stream), BATCH):
        keys = stream[begin : begin + BATCH]
        tail.lookup_into(keys, out[: len(keys)], timestamp=1)
    grown = resident() - before
    stats = tail.stats()
    admitted = np.zeros(DISTINCT, bool)
    admitted[tail.keys()] = True
    of_rows = stats["bytes_rows"] + stats["bytes_metadata"] + stats["bytes_index"]
    figures = {
        "occurrences": len(stream),
        "keys due": due.sum(),
        "rows": len(tail),
        "keys refused": (~admitted).sum(),
        "bytes of counts, stats": stats["bytes_admission"],
        "bytes of counts, resident": grown - of_rows - stats["bytes_hot"],
        "due and not admitted": (due & ~admitted).sum(),
        "early": (admitted & ~due).sum(),
    }
    if mode == "sketch":
        blocks = DISTINCT // 18 // 256 * 256
        block = (hashes(np.arange(DISTINCT)) >> np.uint64(32)) * np.uint64(blocks) >> np.uint64(32)
        # Each key adds to its block what it was seen before it was due.
        additions = np.bincount(block.astype(np.int64), np.minimum(seen, THRESHOLD - 1), blocks)
        others = additions[block.astype(np.int64)]
        for c in range(1, THRESHOLD):
            of_c = seen == c
            bound = np.minimum(1, (others[of_c] / (31 * (THRESHOLD - c))) ** 4)
            figures[f"early of those seen {c} times"] = (admitted & of_c).sum() / of_c.sum()
            figures[f"  bound, mean over their blocks ({c})"] = bound.mean()
        figures["additions a block, mean"] = additions.mean()
    return figures


# --- Memory of evicted rows ---------------------------------------------------------------------


def evicted_memory(argument: str) -> dict[str, float]:
    """The rows of 5 M keys, of which 90 % are too old."""
    dim = int(argument)
    rows = 5_000_000
    rng = np.random.default_rng(7)
    keys = rng.permutation(rows)
    out = np.empty((BATCH, dim), np.float32)
    warm(dim)
    before = resident()
    full = table(dim, eviction=mxrec.Eviction(max_age=10))
    young = rng.random(rows) < 0.1
    for time_, some in ((5, keys), (50, keys[young])):
        for begin in range(0, len(some), BATCH):
            part = some[begin : begin + BATCH]
            full.lookup_into(part, out[: len(part)], timestamp=time_)
    held = resident() - before
    began = time.perf_counter()
    evicted = full.evict()
    took = time.perf_counter() - began
    left = resident() - before
    return {
        "rows evicted": evicted,
        "bytes a row before": held / rows,
        "MiB before": held / MIB,
        "MiB after": left / MIB,
        "fallen by, of the evicted rows' bytes": (held - left) / (held / rows * evicted),
        "seconds": took,
    }


# --- Speed --------------------------------------------------------------------------------------


def all_admitted(mode: str) -> dict[str, float]:
    """Training lookups of batches whose keys all have rows, with and without admission."""
    dim, universe = 16, 1_000_000
    rng = np.random.default_rng(7)
    batches = [zipf(rng, BATCH, universe) for _ in range(20)]
    out = np.empty((BATCH, dim), np.float32)
    admission = mxrec.Admission(1, mode=mode, expected_keys=universe)
    tables = [table(dim), table(dim, admission=admission)]
    for each in tables:
        for begin in range(0, universe, BATCH):
            keys = np.arange(begin, min(begin + BATCH, universe))
            each.lookup_into(keys, out[: len(keys)], timestamp=1)
        for keys in batches:
            each.lookup_into(keys, out, timestamp=1)
    seconds: list[list[float]] = [[], []]
    for _ in range(15):
        for keys in batches:
            for which, each in enumerate(tables):
                began = time.perf_counter()
                each.lookup_into(keys, out, timestamp=2)
                seconds[which].append(time.perf_counter() - began)
    plain, admitting = (BATCH / np.median(each) for each in seconds)
    return {
        "keys a second without admission": plain,
        "with admission": admitting,
        "with / without": admitting / plain,
    }


def steps_during_a_sweep(capacity: str) -> dict[str, float]:
    """Training steps before a trigger of 10 M rows, and until the sweep behind it is done."""
    dim, old, young = 8, 10_000_000, 1_000_000
    memory_rows = old + young if capacity == "full" else None
    rng = np.random.default_rng(7)
    swept = table(
        dim,
        optimizer=mxrec.SGD(0.01),
        memory_rows=memory_rows,
        eviction=mxrec.Eviction(max_age=10),
    )
    out = np.empty((BATCH, dim), np.float32)
    grads = np.full((BATCH, dim), 0.01, np.float32)
    for begin in range(0, old + young, BATCH):
        keys = np.arange(begin, min(begin + BATCH, old + young))
        swept.lookup_into(keys, out[: len(keys)], timestamp=5 if begin < old else 50)
    batches = [old + zipf(rng, BATCH, young) for _ in range(20)]

    def step(number: int) -> float:
        began = time.perf_counter()
        keys = batches[number % len(batches)]
        swept.lookup_into(keys, out, timestamp=50)
        swept.apply_gradients(keys, grads)
        return time.perf_counter() - began

    for keys in batches:  # all of them are young
        swept.lookup_into(keys, out, timestamp=50)
    plain = np.array([step(number) for number in range(400)]) * 1e3
    began = time.perf_counter()
    assert swept.evict(50, budget=0) == 0
    trigger = (time.perf_counter() - began) * 1e3
    assert len(swept) <= young + BATCH
    during_list = []
    while swept.stats()["evicting"]:
        during_list += [step(number) for number in range(25)]
    for number in range(25):  # freed slabs go back when they have rested
        during_list.append(step(number))
    during = np.array(during_list) * 1e3
    stats = swept.stats()
    assert stats["evicted"] >= old - BATCH
    usual = np.median(plain)
    return {
        "rows evicted": stats["evicted"],
        "ms a step, median without": usual,
        "ms a step, p99 without": np.percentile(plain, 99),
        "ms a step, worst without": plain.max(),
        "steps of the sweep": len(during),
        "ms of the trigger": trigger,
        "ms added, median": np.median(during) - usual,
        "ms added, p99": np.percentile(during, 99) - usual,
        "ms added, worst": during.max() - usual,
        "ms added, worst beyond the worst without": during.max() - plain.max(),
        "MiB of rows left": stats["bytes_rows"] / MIB,
    }


if __name__ == "__main__":
    measurement, argument = sys.argv[1:]
    figures = globals()[measurement](argument)
    json.dump({name: float(value) for name, value in figures.items()}, sys.stdout, indent=1)
