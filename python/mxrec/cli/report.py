"""Tables of figures for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from mxrec import _mxrec


@dataclass(frozen=True)
class TableReport:
    """Figures of one embedding table.

    Attributes:
        name: of the table.
        rows: keys that have a row.
        bytes: held for rows, metadata, index and the counts of admission.
        lookups: keys of all training batches, repetitions included.
        hits: those among them that had a row when their batch came.
        admitted: times that a key got a row.
        refused: keys that got none, once for each batch.
        evicted: rows that eviction removed.
    """

    name: str
    rows: int
    bytes: int
    lookups: int
    hits: int
    admitted: int
    refused: int
    evicted: int


def count_rows(names: Iterable[str]) -> int:
    """Rows of the named tables together; a table that does not exist yet has none."""
    tables = (_mxrec.find_table(name) for name in names)
    return sum(len(table) for table in tables if table is not None)


def table_reports(names: Iterable[str]) -> list[TableReport]:
    """Reads the figures of the named tables.

    Raises:
        LookupError: when a table does not exist.
    """
    reports = []
    for name in names:
        table = _mxrec.find_table(name)
        if table is None:
            raise LookupError(
                f"table {name!r} does not exist; it lives from create_table to terminate"
            )
        stats = table.stats()
        held = ("bytes_rows", "bytes_metadata", "bytes_index", "bytes_admission")
        reports.append(
            TableReport(
                name,
                rows=stats["rows"],
                bytes=sum(stats[kind] for kind in held),
                lookups=stats["hits"] + stats["misses"],
                hits=stats["hits"],
                admitted=stats["admitted"],
                refused=stats["refused"],
                evicted=stats["evicted"],
            )
        )
    return reports


def add_up(reports: Iterable[TableReport]) -> TableReport:
    """All tables as one, named ``all``."""
    reports = list(reports)
    figures = [field.name for field in fields(TableReport) if field.name != "name"]
    return TableReport(
        "all", **{name: sum(getattr(report, name) for report in reports) for name in figures}
    )


HEADER = ("table", "rows", "bytes", "bytes/row", "hit rate")


def report_rows(reports: Sequence[TableReport]) -> list[tuple[str, ...]]:
    """The lines of the table of tables, with a total at the end."""
    return [_line(report) for report in (*reports, add_up(reports))]


def _line(report: TableReport) -> tuple[str, ...]:
    per_row = report.bytes / max(report.rows, 1)
    hit_rate = f"{report.hits / report.lookups:.2%}" if report.lookups else "-"
    return (report.name, f"{report.rows:,}", human_bytes(report.bytes), f"{per_row:,.0f}", hit_rate)


COMPARISON_HEADER = ("", "rows", "bytes", "seen", "admitted", "refused", "evicted", "AUC")


def comparison_row(name: str, total: TableReport, auc: float) -> tuple[str, ...]:
    """A line of the table that compares models.

    Args:
        name: of the model.
        total: of all its tables.
        auc: on the held-out data.
    """
    counts = (total.lookups, total.admitted, total.refused, total.evicted)
    return (
        name,
        f"{total.rows:,}",
        human_bytes(total.bytes),
        *(f"{count:,}" for count in counts),
        f"{auc:.6f}",
    )


def human_bytes(count: int) -> str:
    """A number of bytes with a binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024.0:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024.0
    return f"{value:.1f} TiB"
