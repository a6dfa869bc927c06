"""What the commands of ``mxrec`` have in common on the command line."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_EXIT_CODES = (
    "exit codes: 0 done, 1 failure, 2 bad arguments or data, 3 something must be installed"
)


def epilog(examples: Sequence[str]) -> str:
    """The end of a help text: examples, then the exit codes."""
    lines = ["examples:", *(f"  {example}" for example in examples), "", _EXIT_CODES]
    return "\n".join(lines)


def command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """Adds a command that runs itself.

    Args:
        commands: what ``add_subparsers`` returned.
        name: of the command.
        run: takes the parsed arguments and returns the exit code. ``mxrec.cli.main`` turns the
            exceptions that it names into messages and exit codes.
        summary: one line of ``mxrec --help``.
        description: of the command's own help.
        examples: command lines, with comments behind ``#`` where they need one.

    Returns:
        The parser, to add arguments to.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 80),
        epilog=epilog(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def local_path(text: str) -> Path:
    """A parser of paths on this machine; one with a scheme (``gs://…``) is refused."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is on another file system; this command works on local directories. Copy the "
            "directory here as a whole first, and give the path of the copy."
        )
    return Path(text)


def add_path(parser: argparse.ArgumentParser) -> None:
    """Adds what ``saved_tables.find_saved_tables`` takes: the path of saved tables."""
    parser.add_argument(
        "path",
        type=local_path,
        metavar="DIR",
        help="what Table.save has written, a checkpoint's prefix, its sparse-… directory, a "
        "directory of checkpoints, or one that mxrec train or demo has written",
    )


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds ``--table``."""
    parser.add_argument(
        "--table", action="append", metavar="NAME", help="only this table; may be repeated"
    )


def add_output(parser: argparse.ArgumentParser, json_help: str) -> None:
    """Adds ``--json`` and ``--plain``."""
    parser.add_argument("--json", action="store_true", help=json_help)
    parser.add_argument(
        "--plain", action="store_true", help="plain text even where rich is installed"
    )
