"""What mxrec holds itself to, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mxrec.bench.results import Results, Spread, ratios
from mxrec.bench.timing import HOT_GAIN, HOT_OFF, STEPS, THROUGHPUT, TRAINING_SHARE, WORST_BATCH
from mxrec.bench.workload import TRAINING_LAWS

Values = Callable[[Results], Sequence[float]]


@dataclass(frozen=True)
class Bar:
    """A bound on a figure.

    Attributes:
        work: what is measured.
        against: what it is compared to; empty: the figure itself is bounded.
        bound: the least, or the most, that passes.
        values: one value a round.
        at_most: the bound is the most.
        unit: of the bound.
    """

    work: str
    against: str
    bound: float
    values: Values
    at_most: bool = False
    unit: str = "x"

    def wanted(self) -> str:
        """The bound in words."""
        sign = "≤" if self.at_most else "≥"
        return f"{sign} {self.bound:g}{self.unit if self.unit == 'x' else ' ' + self.unit}"

    def measured(self, results: Results) -> Spread | None:
        """The figure; None: not measured."""
        values = self.values(results)
        return Spread.of(values) if values else None

    def met(self, spread: Spread) -> bool:
        """Whether the median passes."""
        return spread.median <= self.bound if self.at_most else spread.median >= self.bound


def _figure(case: str, unit: str) -> Values:
    return lambda results: results.values("mxrec", case, unit)


def _ratio(
    side: str, case: str, other: str, unit: str = THROUGHPUT, other_unit: str | None = None
) -> Values:
    def values(results: Results) -> list[float]:
        theirs = results.values(other, case, other_unit or unit)
        return ratios(results.values(side, case, unit), theirs)

    return values


def _probe(results: Results) -> list[float]:
    figures = results.probe.get("laws", {}).get("uniform", {})
    return ratios(figures.get("mxrec", []), figures.get("hash+gather", []))


def _overhead_per_row(results: Results) -> list[float]:
    grown = results.growth.get("adapters", {}).get("mxrec")
    if not grown:
        return []
    return [(grown["resident bytes"] - grown["payload bytes"]) / grown["rows"]]


def _stats_deviation(results: Results) -> list[float]:
    grown = results.growth.get("adapters", {}).get("mxrec")
    if not grown:
        return []
    return [abs(grown["stats bytes"] / grown["resident bytes"] - 1.0) * 100.0]


def _title(law: str) -> str:
    return law.replace("zipf", "Zipf")


TFRA = "TFRA"
STOCK = "TensorFlow, static Variable"

BARS: tuple[Bar, ...] = (
    Bar("lookup, Zipf 1.05", TFRA, 10, _ratio("mxrec", "lookup zipf 1.05", "tfra")),
    Bar("lookup, Zipf 1.05", STOCK, 2, _ratio("mxrec", "lookup zipf 1.05", "tf")),
    Bar("lookup, uniform", TFRA, 8, _ratio("mxrec", "lookup uniform", "tfra")),
    Bar("lookup, uniform", STOCK, 1.1, _ratio("mxrec", "lookup uniform", "tf")),
    Bar("Session, Zipf 1.05", TFRA, 8, _ratio("mxrec", "session lookup zipf 1.05", "tfra")),
    Bar("Session, Zipf 1.05", STOCK, 1.5, _ratio("mxrec", "session lookup zipf 1.05", "tf")),
    Bar("Session, uniform", TFRA, 6, _ratio("mxrec", "session lookup uniform", "tfra")),
    Bar("insert", TFRA, 10, _ratio("mxrec", "insert", "tfra")),
    Bar(
        "insert, worst batch",
        "",
        25,
        _figure("insert", WORST_BATCH),
        at_most=True,
        unit="ms",
    ),
    Bar(
        "insert by lookup, worst batch",
        "",
        100,
        _figure("insert by lookup", WORST_BATCH),
        at_most=True,
        unit="ms",
    ),
    *(
        Bar(
            f"training lookup, {_title(law)}",
            "the same with train=False",
            0.75,
            _figure(f"training lookup {law}", TRAINING_SHARE),
        )
        for law in TRAINING_LAWS
    ),
    Bar("50M x 16, uniform, C++", "hash + gather", 0.8, _probe),
    Bar("training step, Adagrad", STOCK, 2, _ratio("mxrec", "step adagrad", "tf", STEPS)),
    Bar("training step, LazyAdam", "TFRA's Adam", 10, _ratio("mxrec", "step adam", "tfra", STEPS)),
    *(
        Bar(
            f"hot keys on, {_title(law)}",
            "hot keys off",
            bound,
            _figure(f"lookup {law}", HOT_GAIN),
        )
        for law, bound in (("zipf 1.05", 1.05), ("zipf 1.2", 1.2), ("uniform", 0.98))
    ),
    *(
        Bar(
            f"hot keys off, {_title(law)}",
            TFRA,
            8,
            _ratio("mxrec", f"lookup {law}", "tfra", HOT_OFF, THROUGHPUT),
        )
        for law in ("zipf 1.05", "zipf 1.2")
    ),
    Bar("index and metadata, by RSS", "", 36, _overhead_per_row, at_most=True, unit="bytes/row"),
    Bar("stats() beside RSS", "", 5, _stats_deviation, at_most=True, unit="% apart"),
)
