"""What a run of the benchmarks has found, as plain data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """A median over rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass
class SideResult:
    """One side of one group of cases.

    Attributes:
        version: what ran.
        figures: case -> unit -> one value a round.
        latencies_ms: case -> of each batch, in the last round.
        peak_mib: the most memory that the process held.
    """

    version: str = ""
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    peak_mib: float = 0.0


@dataclass
class Results:
    """Everything that the report is made of.

    Attributes:
        kind: "full", "quick" or "smoke".
        machine: name -> text.
        versions: name -> text.
        config: sizes of the Python comparison.
        rounds: of the Python comparison.
        groups: group -> side -> figures.
        maps: rows of the C++ suite, as native.map_rows gives them.
        growth: the document of growth_benchmark; empty: did not run.
        probe: the document of probe_benchmark; empty: did not run.
        skipped: what was left out and why.
        failed: what went wrong.
    """

    kind: str
    machine: dict[str, str]
    versions: dict[str, str]
    config: dict[str, int | float]
    rounds: int
    groups: dict[str, dict[str, SideResult]] = field(default_factory=dict)
    maps: list[dict[str, Any]] = field(default_factory=list)
    growth: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def values(self, side: str, case: str, unit: str) -> list[float]:
        """One value a round; empty: not measured."""
        for sides in self.groups.values():
            if side in sides and case in sides[side].figures:
                return sides[side].figures[case].get(unit, [])
        return []

    def latencies_ms(self, side: str, case: str) -> list[float]:
        """Milliseconds of each batch of the last round; empty: not measured."""
        for sides in self.groups.values():
            if side in sides and case in sides[side].latencies_ms:
                return sides[side].latencies_ms[case]
        return []

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divides ours by theirs, round by round; a round that one of them lacks is left out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=False) if other > 0.0]
