"""Tables of figures for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mxrec import _mxrec


@dataclass(frozen=True)
class TableReport:
    """Figures of one embedding table.

    Attributes:
        name: of the table.
        rows: keys that have a row.
        bytes: held for rows, metadata and index.
        lookups: keys of all training batches, repetitions included.
        hits: those among them that had a row when their batch came.
    """

    name: str
    rows: int
    bytes: int
    lookups: int
    hits: int


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
        held = stats["bytes_rows"] + stats["bytes_metadata"] + stats["bytes_index"]
        lookups = stats["hits"] + stats["misses"]
        reports.append(TableReport(name, stats["rows"], held, lookups, stats["hits"]))
    return reports


HEADER = ("table", "rows", "bytes", "bytes/row", "hit rate")


def report_rows(reports: Sequence[TableReport]) -> list[tuple[str, ...]]:
    """The lines of the table of tables, with a total at the end."""
    total = TableReport(
        "all",
        rows=sum(report.rows for report in reports),
        bytes=sum(report.bytes for report in reports),
        lookups=sum(report.lookups for report in reports),
        hits=sum(report.hits for report in reports),
    )
    return [_line(report) for report in (*reports, total)]


def _line(report: TableReport) -> tuple[str, ...]:
    per_row = report.bytes / max(report.rows, 1)
    hit_rate = f"{report.hits / report.lookups:.2%}" if report.lookups else "-"
    return (report.name, f"{report.rows:,}", human_bytes(report.bytes), f"{per_row:,.0f}", hit_rate)


def human_bytes(count: int) -> str:
    """A number of bytes with a binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024.0:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024.0
    return f"{value:.1f} TiB"
