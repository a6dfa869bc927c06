"""What the console writes to terminals of any width, and to where there is none."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from mxrec.cli import console as consoles
from mxrec.cli.console import make_console

HEADER = ("table", "rows", "dim", "optimizer", "keys from", "to")
ROWS = [
    ("item", "1,234,567", "16", "LazyAdam", "-7883064931438782001", "7186557726658540001"),
    ("a_user[bold]", "1", "8", "Adagrad", "-1", "9"),
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a rich console writes to a terminal of 64 columns."""
    rich = pytest.importorskip("rich.console")
    written = io.StringIO()

    class Terminal(rich.Console):  # type: ignore[misc,name-defined]
        def __init__(self, **options: object) -> None:
            options.pop("stderr")
            super().__init__(force_terminal=True, file=written, width=64, **options)

    monkeypatch.setattr(rich, "Console", Terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield written


def lines(written: io.StringIO) -> list[str]:
    """What is written, without the codes of colours and of the cursor."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    return text.replace("\r", "\n").splitlines()


def test_a_table_wider_than_the_terminal_is_not_cut(terminal: io.StringIO) -> None:
    make_console().table("Tables", HEADER, ROWS)
    found = lines(terminal)
    assert max(map(len, found)) <= 64 and "…" not in "".join(found)
    words = [line.split() for line in found]
    assert ["table", "rows", "dim", "optimizer"] in words
    for row in ROWS:
        assert list(row[:4]) in words
        assert [row[0], *row[4:]] in words


def test_a_cell_wider_than_the_terminal_is_folded(terminal: io.StringIO) -> None:
    name = "x" * 100
    make_console().table("Tables", ("table", "rows"), [(name, "17")])
    found = lines(terminal)
    assert max(map(len, found)) <= 64
    assert "".join(found).count("x") == len(name)


def test_a_pipe_has_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().table("Tables", HEADER, ROWS)
    wide = capsys.readouterr().out
    make_console(plain=True).table("Tables", HEADER, ROWS)
    assert wide == capsys.readouterr().out
    for row in ROWS:
        assert list(row) in [line.split() for line in wide.splitlines()]


def test_progress_on_a_terminal(terminal: io.StringIO) -> None:
    with make_console().progress("reading", 40) as progress:
        assert isinstance(progress, consoles._RichProgress)
        progress.update(10, "loss 0.5")
        progress.update(40, "loss 0.25")
    last = [line for line in lines(terminal) if "reading" in line][-1]
    assert re.search(r"reading .*━.* 40/40 .*loss 0\.25 .*0:00:\d\d", last), last
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_progress_ends_with_an_error(terminal: io.StringIO) -> None:
    with pytest.raises(KeyError), make_console().progress("reading", 4) as progress:
        progress.update(1, "")
        raise KeyError
    assert terminal.getvalue().count("\x1b[?25h") == 1
    make_console().line("after")
    assert lines(terminal)[-1] == "after"
