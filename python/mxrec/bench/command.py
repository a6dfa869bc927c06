"""The command ``mxrec bench``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mxrec.bench import machine, native, plots
from mxrec.bench.report import bar_rows, markdown
from mxrec.bench.results import Results
from mxrec.bench.sides import GROUPS, measure_group
from mxrec.bench.workload import CASES, Config
from mxrec.cli.console import Console
from mxrec.cli.lines import DataError

# Sizes and rounds by kind of run. Quick: a first impression. Smoke: does the harness work?
_CONFIGS = {
    "full": Config(),
    "quick": Config(rows=500_000, lookup_batches=20, step_rows=200_000, steps=15),
    "smoke": Config(
        rows=20_000, dim=8, batch=2_048, lookup_batches=3, seconds=0.0,
        step_rows=2_000, step_dim=8, step_batch=32, slots=4, steps=2, warmup_steps=1,
    ),
}  # fmt: skip
_ROUNDS = {"full": 5, "quick": 3, "smoke": 2}


def run_bench(arguments: argparse.Namespace, console: Console) -> int:
    """Measures, writes report, plots and JSON, and shows the bars.

    Args:
        arguments: as ``mxrec.cli.bench_arguments`` parses them.
        console: for headings, progress and the table of bars.

    Returns:
        0; 1 when something failed that was to be measured.
    """
    from mxrec import __version__, _mxrec

    kind = "smoke" if arguments.smoke else "quick" if arguments.quick else "full"
    config = _CONFIGS[kind]
    if arguments.rows is not None:
        config = replace(config, rows=arguments.rows)
    results = Results(
        kind=kind,
        machine=machine.describe(),
        versions={
            "mxrec": __version__,
            "commit": arguments.commit or "unknown",
            "compiler and flags": _mxrec.compiler(),
            "kernels": _mxrec.kernel_target(),
            "threads": str(_mxrec.num_threads()),
        },
        config=config.to_dict(),
        rounds=arguments.rounds or _ROUNDS[kind],
    )
    groups = _groups(arguments, results)
    _check_cases(arguments.cases or (), groups)
    pythons = _pythons(arguments, results)
    for group in groups:
        if group in GROUPS:
            measure_group(group, pythons, config, arguments.cases, results, console)
        else:
            extra = shlex.split(arguments.native_flags)
            native.run(group, arguments.native, extra, results, console)
    _write(arguments, results, console)
    for failure in results.failed:
        print(f"mxrec: failed: {failure}", file=sys.stderr)
    return 1 if results.failed else 0


def _check_cases(wanted: Sequence[str], groups: Sequence[str]) -> None:
    """Before any side fills a table: each part of a name must be in one of a group's cases."""
    known = [case for group in groups for case in CASES.get(group, ())]
    wrong = [part for part in wanted if not any(part in case for case in known)]
    if wrong and known:
        raise DataError(
            f"--cases {' '.join(wrong)}: no case has such a name; there are: {', '.join(known)}. "
            "Nothing was measured or written."
        )


def _groups(arguments: argparse.Namespace, results: Results) -> list[str]:
    """The groups to run, in the order of the report."""
    default = GROUPS if arguments.cases else (*GROUPS, *native.PROGRAMS)
    groups = list(arguments.groups or default)
    if arguments.native is None:
        left_out = [group for group in groups if group in native.PROGRAMS]
        if left_out:
            results.skipped.append(
                f"C++ suite ({', '.join(left_out)}): no --native folder was given; ./run bench of "
                "the source tree builds it"
            )
        groups = [group for group in groups if group not in left_out]
    return groups


def _pythons(arguments: argparse.Namespace, results: Results) -> dict[str, str]:
    """The interpreter of each side that takes part."""
    sides = ["mxrec", *arguments.peers]
    if "tfra" in sides and arguments.peer_python is None:
        results.skipped.append("TFRA: no --peer-python was given (docs/benchmarks.md)")
        sides.remove("tfra")
    return {
        side: str(arguments.peer_python) if side == "tfra" else sys.executable for side in sides
    }


def _write(arguments: argparse.Namespace, results: Results, console: Console) -> None:
    report: Path = arguments.report
    report.parent.mkdir(parents=True, exist_ok=True)
    # First what a run of half an hour has found, then what can be drawn again.
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results.to_dict(), indent=1) + "\n")
    images = {}
    if not arguments.no_plot:
        try:
            images = plots.draw(results, arguments.images or report.parent / "images")
        except Exception as error:  # noqa: BLE001 - figures count for more than their drawing
            results.failed.append(f"plots: {type(error).__name__}: {error}")
    report.write_text(markdown(results, report, images), "utf-8")
    rows = [
        (" : ".join(part for part in row[:2] if part != "-"), *row[2:]) for row in bar_rows(results)
    ]
    console.heading("mxrec bench: bars")
    console.table("Median (lowest-highest)", ("work", "bar", "measured", "met"), rows)
    for reason in results.skipped:
        console.line(f"skipped: {reason}")
    console.line(f"Report: {report}")
    for path in images.values():
        console.line(f"Plot: {path}")
