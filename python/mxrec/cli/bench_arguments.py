"""The grammar of ``mxrec bench``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mxrec.cli.arguments_common import command
from mxrec.cli.numbers import integer

_GROUPS = ("table", "session", "step", "probe", "growth", "maps")
_PEERS = ("tf", "tfra")


def add_bench(commands: Any) -> None:
    """Adds the command to a parser's commands."""
    bench = command(
        commands,
        "bench",
        _run,
        summary="measure mxrec beside TFRA, stock TensorFlow and other maps",
        description="Measures mxrec beside other tables in alternating rounds and writes a "
        "Markdown report with plots. What is not installed is left out, with a line that says so.",
        examples=(
            "mxrec bench --quick",
            "mxrec bench --groups table --peers tf --rounds 3",
            "mxrec bench --smoke --no-plot               # does it work here?",
        ),
    )
    size = bench.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller sizes: minutes, not an hour")
    size.add_argument(
        "--smoke", action="store_true", help="tiny sizes: does the harness work on this machine?"
    )
    bench.add_argument(
        "--report",
        type=Path,
        default=Path("bench-output/report.md"),
        metavar="FILE",
        help="the Markdown report (default: ./bench-output/report.md)",
    )
    bench.add_argument(
        "--images", type=Path, metavar="DIR", help="of the plots (default: images beside FILE)"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="every round's figures")
    bench.add_argument("--no-plot", action="store_true", help="write no PNG")
    bench.add_argument(
        "--peer-python",
        type=Path,
        metavar="PATH",
        help="interpreter of an environment that has TFRA",
    )
    bench.add_argument(
        "--peers",
        nargs="*",
        choices=_PEERS,
        default=_PEERS,
        metavar="PEER",
        help="of tf (stock TensorFlow) and tfra (default: both)",
    )
    bench.add_argument(
        "--native",
        type=Path,
        metavar="DIR",
        help="folder of the C++ suite's programs, build/bench/benchmarks of the source tree",
    )
    bench.add_argument(
        "--native-flags",
        default="",
        metavar="FLAGS",
        help="in place of table_benchmark's lists, such as '--rows=5e7 --dims=8,64'",
    )
    bench.add_argument(
        "--groups",
        nargs="+",
        choices=_GROUPS,
        metavar="GROUP",
        help="of table (lookups, inserts), session (lookups in a Session), step (training steps), "
        "and of the C++ suite probe, growth, maps (default: all; with --cases the first three)",
    )
    bench.add_argument(
        "--cases",
        nargs="+",
        default=[],
        metavar="PART",
        help="only cases of table, session and step whose name contains one of these",
    )
    bench.add_argument(
        "--rounds",
        type=integer("--rounds", 1, 1000),
        metavar="N",
        help="default: 5; 3 with --quick, 2 with --smoke",
    )
    bench.add_argument(
        "--rows",
        type=integer("--rows", 1, 2**31 - 1),
        metavar="N",
        help="rows of the lookup and insert tables (default: 5000000)",
    )
    bench.add_argument("--commit", metavar="TEXT", help="of the source, for the report")
    bench.add_argument(
        "--plain", action="store_true", help="plain text even where rich is installed"
    )


def _run(arguments: argparse.Namespace) -> int:
    from mxrec.bench.command import run_bench
    from mxrec.cli.console import make_console
    from mxrec.cli.requirements import require_plotting

    if not arguments.no_plot:
        require_plotting()
    return run_bench(arguments, make_console(arguments.plain))
