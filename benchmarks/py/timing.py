"""Timing loops that all sides share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def throughput(call: Callable[[T], object], batches: Sequence[T], size: int) -> dict[str, float]:
    """Million keys per second of `call` over prepared batches; the first one warms up."""
    call(batches[0])
    start = time.perf_counter()
    for batch in batches:
        call(batch)
    return {"Mkeys/s": size * len(batches) / (time.perf_counter() - start) / 1e6}


def growth(call: Callable[[T], object], batches: Iterable[tuple[T, int]]) -> dict[str, float]:
    """Million keys per second over all batches, each (batch, keys in it), and the slowest batch."""
    latencies, keys = [], 0
    for batch, count in batches:
        start = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - start)
        keys += count
    return {"Mkeys/s": keys / sum(latencies) / 1e6, "worst batch ms": max(latencies) * 1e3}


def steps(call: Callable[[T], object], feeds: Sequence[T], warmup: int) -> dict[str, float]:
    """Steps per second over `feeds` behind the first `warmup` ones."""
    for feed in feeds[:warmup]:
        call(feed)
    start = time.perf_counter()
    for feed in feeds[warmup:]:
        call(feed)
    return {"steps/s": (len(feeds) - warmup) / (time.perf_counter() - start)}
