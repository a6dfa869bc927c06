"""How the tiers of a table work, and which size to raise."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["TierFigures", "tier_advice", "tier_figures"]

# What of Table.stats() the figures and the advice need.
RECORDED = ("hits", "misses", "updates", "tiers")

# Advice begins where training may well be waiting for the disk, and aims below that.
_MISSES = 0.10
_WANTED_MISSES = 0.03
_FULL = 0.90
_HEADROOM = 1.5
_WAITING = 0.05  # seconds a step


class TierFigures(NamedTuple):
    """What the tiers of a table did in some time.

    Attributes:
        updates: Steps of the table's optimizer.
        hits: Keys of lookups that had a row, repetitions in a batch included.
        memory_hit_rate: Of ``hits``, the share that memory served; a row that a training batch has
            come from SSD counts once, however often its key is there. None: there were none.
        waited: Of ``hits``, the share whose row was read from SSD while the batch waited for it.
        staged: Of ``hits``, the share whose row had been read ahead.
        bytes_read: By batches and ahead of them.
        bytes_written: By rows that left memory, and by compaction.
        read_requests: To the disks.
    """

    updates: int
    hits: int
    memory_hit_rate: float | None
    waited: float
    staged: float
    bytes_read: int
    bytes_written: int
    read_requests: int

    @property
    def bytes_read_per_update(self) -> float | None:
        """None: there were no updates."""
        return self.bytes_read / self.updates if self.updates else None

    @property
    def bytes_written_per_update(self) -> float | None:
        """None: there were no updates."""
        return self.bytes_written / self.updates if self.updates else None


def tier_figures(
    stats: Mapping[str, Any], since: Mapping[str, Any] | None = None
) -> TierFigures | None:
    """Says what the tiers of a table have done.

    Args:
        stats: ``Table.stats()``.
        since: The same of an earlier time, of the same table: what happened in between. None: since
            the table was made.

    Returns:
        The figures; None: the table has no SSD tier.

    Raises:
        TypeError: ``stats`` or ``since`` is not what ``Table.stats()`` returns.
    """
    for name, given in (("stats", stats), ("since", since or stats)):
        if not isinstance(given, Mapping) or "tiers" not in given:
            raise TypeError(f"{name} must be what Table.stats() returns, got {given!r:.80}")
    tiers = stats["tiers"]
    if tiers is None:
        return None
    before = since or {}
    tiers_before = before.get("tiers") or {"memory": {}, "ssd": {}}

    def grown(name: str, tier: str | None = None) -> int:
        if tier is None:
            return int(stats[name] - before.get(name, 0))
        return int(tiers[tier][name] - tiers_before[tier].get(name, 0))

    hits = grown("hits")
    staged = grown("promoted_staged", "memory")
    waited = grown("promoted", "memory") - staged + grown("read_in_place", "ssd")

    def share(rows: int) -> float:
        # Rows come into memory for other calls than lookups, too.
        return min(1.0, rows / hits) if hits else 0.0

    return TierFigures(
        updates=grown("updates"),
        hits=hits,
        memory_hit_rate=1.0 - share(waited + staged) if hits else None,
        waited=share(waited),
        staged=share(staged),
        bytes_read=grown("bytes_read", "ssd"),
        bytes_written=grown("bytes_written", "ssd"),
        read_requests=grown("read_requests", "ssd"),
    )


def tier_advice(stats: Mapping[str, Any], since: Mapping[str, Any] | None = None) -> list[str]:
    """Says which size of a table with an SSD tier to raise, and what is wrong with its disks.

    ``memory_rows`` is to be raised where memory serves less than 90 % of the keys that have a row.
    How far is an estimate: the share served grows as a power of the share of the rows that are in
    memory, as it does for keys by Zipf's law, and the power is what the table shows now; the aim
    is 97 %. ``ssd_rows`` is to be raised where 90 % of the capacity is in use.

    Args:
        stats: ``Table.stats()``.
        since: The same of an earlier time, of the same table; then the advice is about the time in
            between. None: since the table was made.

    Returns:
        Sentences, the most urgent first; none where the sizes are right, or the table has no SSD
        tier.
    """
    figures = tier_figures(stats, since)
    if figures is None:
        return []
    memory, ssd = stats["tiers"]["memory"], stats["tiers"]["ssd"]
    advice = []
    if ssd["errors"] or ssd["background_error"]:
        what = ssd["background_error"] or f"{ssd['errors']:,} rows could not be read"
        advice.append(f"look after the disks of the SSD tier: {what}")
    rows, capacity = memory["rows"] + ssd["rows"], memory["capacity"] + ssd["capacity"]
    if rows >= _FULL * capacity:
        wanted = _round(_HEADROOM * capacity) - memory["capacity"]
        advice.append(
            f"raise ssd_rows (ssd_vocabulary_size) to about {wanted:,}: {rows:,} of {capacity:,} "
            "rows are in use, and new keys of a full table are refused"
        )
    rate = figures.memory_hit_rate
    if rate is not None and ssd["rows"] and 1.0 - rate > _MISSES:
        # A batch may just have brought in more than stays.
        in_memory = max(1, min(memory["rows"], memory["capacity"]))
        wanted = _memory_rows_for(1.0 - _WANTED_MISSES, rate, in_memory, rows)
        advice.append(
            f"raise memory_rows (host_vocabulary_size) to about {_round(wanted):,}: "
            f"{_percent(1.0 - rate)} of the keys looked up had their row on SSD"
            + (f", {_percent(figures.staged)} read ahead" if figures.staged else "")
        )
    waits = ssd["wait_seconds"]
    if figures.updates and since is None and waits / figures.updates > _WAITING:
        advice.append(
            f"use a faster disk, or raise memory_rows: steps waited {waits / figures.updates:.2f} "
            "s on average for space in the SSD tier"
        )
    return advice


def _memory_rows_for(wanted: float, rate: float, in_memory: int, rows: int) -> float:
    """How many of ``rows`` serve a share ``wanted`` of the keys if ``in_memory`` serve ``rate``.

    The shares served by none and by all of them are 0 and 1; in between, (part of the rows)^power.
    """
    if rate <= 0.0:
        return wanted * rows
    power = math.log(rate) / math.log(in_memory / rows)
    return float(rows * wanted ** (1.0 / power))


def _round(rows: float) -> int:
    """To two digits, upwards: more would feign precision."""
    unit: int = 10 ** max(0, len(str(int(rows))) - 2)
    return math.ceil(rows / unit) * unit


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
