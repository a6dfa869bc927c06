"""Terminal output: rich where it is installed, plain text elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol

_PLAIN_INTERVAL = 5.0
_CELL_FRAME = 3  # characters that rich's box puts around each cell


class Progress(Protocol):
    """A bar that advances by rows and shows a few figures."""

    def update(self, done: int, figures: str) -> None:
        """Sets the rows done and the figures beside the bar."""

    def __enter__(self) -> Progress:
        """Starts the display."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the display."""


class Console(Protocol):
    """Headings, lines, tables and progress."""

    def heading(self, text: str) -> None:
        """Starts a section."""

    def line(self, text: str) -> None:
        """Writes one line."""

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Writes a table, no cell of it cut; the first column is aligned left, the others right."""

    def progress(self, label: str, total: int) -> Progress:
        """Makes a progress display for ``total`` rows."""


def make_console(plain: bool = False, to_stderr: bool = False) -> Console:
    """The best console available.

    Args:
        plain: ask for plain text even where rich is installed.
        to_stderr: leave stdout to others, such as the JSON of ``--json``.

    Returns:
        A rich console when the package is installed and not refused, else a plain one.
    """
    if plain or find_spec("rich") is None:
        return PlainConsole(to_stderr)
    return RichConsole(to_stderr)


class PlainConsole:
    """Lines; progress is one line every few seconds."""

    def __init__(self, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr

    def heading(self, text: str) -> None:
        """Starts a section."""
        self.line(f"\n== {text}")

    def line(self, text: str) -> None:
        """Writes one line."""
        print(text, flush=True, file=sys.stderr if self._to_stderr else sys.stdout)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Writes an aligned table."""
        for line in _aligned(title, header, rows):
            self.line(line)

    def progress(self, label: str, total: int) -> Progress:
        """Makes a progress display for ``total`` rows."""
        return _PlainProgress(label, total, self.line)


class _PlainProgress:
    def __init__(self, label: str, total: int, show: Callable[[str], None]) -> None:
        self._label = label
        self._total = total
        self._show_line = show
        self._last: tuple[int, str] = (0, "")
        self._shown_at = 0.0

    def update(self, done: int, figures: str) -> None:
        self._last = (done, figures)
        if time.monotonic() - self._shown_at >= _PLAIN_INTERVAL:
            self._show()

    def _show(self) -> None:
        done, figures = self._last
        self._shown_at = time.monotonic()
        share = done / self._total if self._total else 1.0
        self._show_line(f"{self._label} {share:4.0%}  {done:,}/{self._total:,}  {figures}")

    def __enter__(self) -> Progress:
        self._shown_at = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show()


class RichConsole:
    """Colours, boxes and a live bar."""

    def __init__(self, to_stderr: bool = False) -> None:
        from rich.console import Console as _Console

        class Rich(_Console):  # type: ignore[misc]
            def on_broken_pipe(self) -> None:
                raise  # the exception at hand, to main: rich would end the program

        self._console = Rich(highlight=False, stderr=to_stderr)

    def heading(self, text: str) -> None:
        """Starts a section."""
        self._console.print()
        self._console.rule(f"[bold]{_escape(text)}", align="left")

    def line(self, text: str) -> None:
        """Writes one line."""
        self._console.print(_escape(text), soft_wrap=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Writes a boxed table.

        What is wider than the terminal becomes several, one below the other, each with the first
        column. Where there is no terminal, lines have no width to keep to: the table is plain.
        """
        if not self._console.is_terminal:
            for line in _aligned(title, header, rows):
                self.line(line)
            return
        from rich import box
        from rich.table import Table

        for number, columns in enumerate(_parts(header, rows, self._console.width)):
            table = Table(
                title=None if number else _escape(title), box=box.SIMPLE_HEAD, title_justify="left"
            )
            for column in columns:
                justify = "right" if column else "left"
                table.add_column(header[column], justify=justify, overflow="fold")
            for row in rows:
                table.add_row(*(_escape(row[column]) for column in columns))
            self._console.print(table)

    def progress(self, label: str, total: int) -> Progress:
        """Makes a progress display for ``total`` rows; plain lines without a terminal."""
        if not self._console.is_terminal:
            return _PlainProgress(label, total, self.line)
        return _RichProgress(self._console, label, total)


class _RichProgress:
    def __init__(self, console: Any, label: str, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as _Progress

        self._bar = _Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(label, total=total, figures="")

    def update(self, done: int, figures: str) -> None:
        self._bar.update(self._task, completed=done, figures=figures)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def _aligned(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table in plain text."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    yield title
    for line in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _parts(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Columns of the boxed tables, each no wider than ``width``, that show a wide one."""
    from rich.cells import cell_len

    widths = [
        _CELL_FRAME + max(cell_len(line[column]) for line in (header, *rows))
        for column in range(len(header))
    ]
    part = [0]
    for column in range(1, len(header)):
        if len(part) > 1 and sum(widths[each] for each in (*part, column)) + 1 > width:
            yield part
            part = [0]
        part.append(column)
    yield part


def _escape(text: str) -> str:
    from rich.markup import escape

    escaped: str = escape(text)
    return escaped
