"""What is written about tables for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.histograms import Histograms
from mxrec.tf import table_checkpoint
from mxrec.tf.table import SparseTable
from mxrec.tiers import tier_figures

_COUNTERS = (
    "seen",
    "inserts",
    "admitted",
    "refused",
    "evicted_by_age",
    "evicted_by_rows",
    "evicted_by_l2",
    "erased",
    "rows",
    "bytes",
    "load",
    "growth_events",
    "growth_micros",
    "longest_growth_micros",
)
_FAMILIES = ("bytes_", "rows_")
# Name: the counter of what succeeded, and those of all tries. Since the summary before.
_RATES = {"hit_rate": ("hits", ("hits", "misses")), "hot_rate": ("hot_hits", ("hits", "misses"))}


class TableSummaries:
    """Makes the summaries of tables; remembers counters, for rates between two summaries.

    Args:
        histograms: also of the rows' frequencies and ages; each reads all rows.
    """

    def __init__(self, histograms: bool) -> None:
        self._histograms = histograms
        self._before: dict[str, tuple[Any, dict[str, Any]]] = {}

    def of(self, tables: Iterable[SparseTable]) -> Any:
        """Returns a ``tf.compat.v1.Summary`` about tables as they are now."""
        values = [value for table in tables for value in self._values(table)]
        return tf.compat.v1.Summary(value=values)

    def _values(self, table: SparseTable) -> Iterator[Any]:
        scope = f"mxrec/{table.table_name}"
        for name, number in self._numbers(table):
            yield tf.compat.v1.Summary.Value(tag=f"{scope}/{name}", simple_value=number)
        if self._histograms:
            histograms = table.histograms()
            for name in ("frequencies", "ages"):
                yield tf.compat.v1.Summary.Value(
                    tag=f"{scope}/{name}", histo=_proto(histograms, name)
                )

    def _numbers(self, table: SparseTable) -> Iterator[tuple[str, float]]:
        stats = table.stats()
        for name, value in stats.items():
            if name in _COUNTERS or name.startswith(_FAMILIES):
                yield name, float(value)
        yield from _of_tiers(stats)
        engine, before = self._before.get(table.table_name, (None, {}))
        if engine is None or engine != table.engine:
            before = {}
        for name, (part, whole) in _RATES.items():
            tries = sum(stats[each] - before.get(each, 0) for each in whole)
            if tries > 0:
                yield name, (stats[part] - before.get(part, 0)) / tries
        figures = tier_figures(stats, before)
        if figures is not None and figures.memory_hit_rate is not None:
            yield "memory_hit_rate", figures.memory_hit_rate
            yield "ssd_wait_rate", figures.waited
        self._before[table.table_name] = table.engine, stats
        for name, seconds in table_checkpoint.seconds_of(table).items():
            yield f"{name}_seconds", seconds


def _of_tiers(stats: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for tier, counts in (stats["tiers"] or {}).items():
        for name, value in counts.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield f"{tier}_{name}", float(value)


def _proto(histograms: Histograms, name: str) -> Any:
    counts, edges = histograms[name], histograms["edges"]
    used = np.flatnonzero(counts)
    if len(used) == 0:
        return tf.compat.v1.HistogramProto()
    # Buckets end at their limits, which TensorBoard draws from one to the next.
    first, last = int(used[0]), int(used[-1])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    return tf.compat.v1.HistogramProto(
        min=float(edges[first]),
        max=float(edges[last + 1] - 1),
        num=float(counts.sum()),
        sum=float((counts * middles).sum()),
        sum_squares=float((counts * middles**2).sum()),
        bucket_limit=[float(edge) for edge in edges[first : last + 2]],
        bucket=[0.0, *(float(count) for count in counts[first : last + 1])],
    )
