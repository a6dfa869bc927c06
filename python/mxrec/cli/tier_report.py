"""What ``mxrec inspect``, ``train`` and ``demo`` say of the tiers of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mxrec import _mxrec
from mxrec.cli.report import human_bytes
from mxrec.tiers import RECORDED, tier_advice, tier_figures

TIER_HEADER = ("table", "in memory", "of", "on SSD", "of", "on disk", "memory served")


def of_tiers(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that is about tiers.

    Args:
        recorded: what was saved with a version.
    """
    return {"tiers": dict(recorded), "tier_advice": tier_advice(recorded)}


def tier_lines(recorded: Mapping[str, Any], advice: Sequence[str]) -> list[str]:
    """Occupancy, hit rate, transfers, and which size to raise, in lines of text.

    Args:
        recorded: what was saved with a version.
        advice: as ``mxrec.tier_advice`` gives it.
    """
    memory, ssd = recorded["tiers"]["memory"], recorded["tiers"]["ssd"]
    figures = tier_figures(recorded)
    assert figures is not None  # only of tables with an SSD tier is anything recorded
    lines = [
        f"memory tier: {memory['rows']:,} of {memory['capacity']:,} rows; SSD tier: "
        f"{ssd['rows']:,} of {ssd['capacity']:,} rows, {human_bytes(ssd['bytes_on_disk'])} on disk",
    ]
    if figures.memory_hit_rate is not None:
        lines.append(
            f"of the keys looked up {figures.memory_hit_rate:.1%} had their row in memory, "
            f"{figures.staged:.1%} on SSD and read ahead, {figures.waited:.1%} on SSD and "
            "waited for"
        )
    if figures.updates:
        lines.append(
            f"per step, of {figures.updates:,}: "
            f"{human_bytes(round(figures.bytes_read / figures.updates))} read by "
            f"{figures.read_requests / figures.updates:,.1f} requests, "
            f"{human_bytes(round(figures.bytes_written / figures.updates))} written"
        )
    if not ssd["uses_io_uring"]:
        lines.append(f"without io_uring: {ssd['why_no_io_uring']}")
    return lines + [f"advice: {sentence}" for sentence in advice or ["leave the sizes as they are"]]


def tiers_of(names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Reads what ``tier_figures`` needs of the named tables that have an SSD tier, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        table = _mxrec.find_table(name)
        stats = table.stats() if table is not None else {"tiers": None}
        if stats["tiers"] is not None:
            found[name] = {key: stats[key] for key in RECORDED}
    return found


def tier_row(name: str, recorded: Mapping[str, Any]) -> tuple[str, ...]:
    """A line below ``TIER_HEADER``."""
    memory, ssd = recorded["tiers"]["memory"], recorded["tiers"]["ssd"]
    figures = tier_figures(recorded)
    rate = figures.memory_hit_rate if figures is not None else None
    return (
        name,
        *(f"{tier[what]:,}" for tier in (memory, ssd) for what in ("rows", "capacity")),
        human_bytes(ssd["bytes_on_disk"]),
        "-" if rate is None else f"{rate:.1%}",
    )
