"""Timing loops that all sides share."""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from mxrec.bench.workload import Config

T = TypeVar("T")

THROUGHPUT = "Mkeys/s"
WORST_BATCH = "worst batch ms"
STEPS = "steps/s"
HOT_OFF = "Mkeys/s, hot keys off"
HOT_GAIN = "hot keys on : off"
TRAINING_SHARE = "train=True : train=False"


@dataclass
class Measurement:
    """What one round of one case gave.

    Attributes:
        figures: value by unit.
        latencies_ms: of each batch, where batches are timed one by one.
    """

    figures: dict[str, float]
    latencies_ms: list[float] = field(default_factory=list)


Cases = dict[str, Callable[[], Measurement]]


def throughput(
    config: Config, call: Callable[[T], object], batches: Sequence[T], size: int
) -> Measurement:
    """Million keys per second of ``call`` over prepared batches of ``size`` keys.

    A quarter of the batches warms up. Then all are called, and again until ``config.seconds`` have
    passed.
    """
    for batch in batches[: max(1, len(batches) // 4)]:
        call(batch)
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < config.seconds:
        for batch in batches:
            call(batch)
        calls += len(batches)
    return Measurement({THROUGHPUT: size * calls / (time.perf_counter() - start) / 1e6})


def compared(
    config: Config,
    call: Callable[[T], object],
    other: Callable[[T], object],
    batches: Sequence[T],
    size: int,
) -> tuple[float, float, float]:
    """Million keys per second of ``call`` and of ``other``, and the ratio of the two.

    Passes over all batches alternate between the two, the first one of each warms up. The ratio is
    the median over the passes, so that what slows the machine for a moment does not count.
    """
    times: tuple[list[float], list[float]] = ([], [])

    def one_pass(which: int) -> float:
        start = time.perf_counter()
        for batch in batches:
            (call, other)[which](batch)
        return time.perf_counter() - start

    one_pass(0)
    one_pass(1)
    begin = time.perf_counter()
    while len(times[0]) < 2 or time.perf_counter() - begin < 2 * config.seconds:
        for which in (0, 1) if len(times[0]) % 2 == 0 else (1, 0):
            times[which].append(one_pass(which))
    rates = [size * len(batches) * len(each) / sum(each) / 1e6 for each in times]
    ratio = statistics.median(theirs / ours for ours, theirs in zip(*times, strict=True))
    return rates[0], rates[1], ratio


_TOUCH = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, len(memory), mmap.PAGESIZE):
    memory[at] = 1
"""


def touch_memory(size: int) -> None:
    """Takes ``size`` bytes from the system, at most half of what is free, and gives them back.

    A virtual machine gets its memory when it touches it for the first time, in milliseconds for
    each huge page, and may give it up again while it is free. Whichever side grows first would pay
    for the host. Another process does it, because this one's peak memory is reported.
    """
    size = min(size, os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE // 2)
    if size > 0:
        subprocess.run([sys.executable, "-c", _TOUCH, str(size)], check=True)


def growth(
    config: Config, call: Callable[[T], object], batches: Iterable[tuple[T, int]]
) -> Measurement:
    """Million keys per second over all batches, each (batch, keys in it), and the slowest batch.

    Eight times the bytes of the values are touched before.
    """
    touch_memory(8 * config.rows * config.dim * np.dtype(np.float32).itemsize)
    latencies, keys = [], 0
    for batch, count in batches:
        start = time.perf_counter()
        call(batch)
        latencies.append((time.perf_counter() - start) * 1e3)
        keys += count
    figures = {THROUGHPUT: keys / sum(latencies) / 1e3, WORST_BATCH: max(latencies)}
    return Measurement(figures, latencies)


def steps(call: Callable[[T], object], feeds: Sequence[T], warmup: int) -> Measurement:
    """Steps per second over ``feeds`` behind the first ``warmup`` ones."""
    for feed in feeds[:warmup]:
        call(feed)
    start = time.perf_counter()
    for feed in feeds[warmup:]:
        call(feed)
    return Measurement({STEPS: (len(feeds) - warmup) / (time.perf_counter() - start)})
