"""What came from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class WarmStarted(NamedTuple):
    """One table or variable that a source was to warm-start.

    Attributes:
        name: of the table or variable.
        kind: "table" or "variable".
        path: prefix of the checkpoint.
        saved_name: its name there.
        rows: of a table, how many the source has; None: of a superseded delta, whose chain was not
            read. Of a variable, its first dimension (1: a scalar).
        slots: of a table, "kept" or "fresh"; of a variable "".
        outcome: "replaced", "merged", or "superseded": a later source replaces it.
    """

    name: str
    kind: str
    path: str
    saved_name: str
    rows: int | None
    slots: str
    outcome: str


_HEADINGS = ("", "name", "from", "name there", "rows", "slots", "outcome")


def _count(rows: int | None) -> str:
    return "-" if rows is None else f"{rows:,}"


def as_text(entries: Sequence[WarmStarted]) -> str:
    """The entries as a table, a line for each."""
    lines = [
        _HEADINGS,
        *(
            (e.kind, e.name, e.path, e.saved_name, _count(e.rows), e.slots, e.outcome)
            for e in entries
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading == "rows" else cell.ljust(width)
            for cell, width, heading in zip(line, widths, _HEADINGS, strict=True)
        ).rstrip()
        for line in lines
    )
