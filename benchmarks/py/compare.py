"""Measures mxrec beside TFRA and stock TensorFlow, in alternating rounds, and prints a table.

Each side is a process of its own with its own environment: loaded once, then told to measure one
round at a time, so that a slow minute of the machine hits all sides alike. Figures are medians over
the rounds; a ratio is the median of the rounds' ratios. What is measured: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from workload import Config

HERE = Path(__file__).resolve().parent
GROUPS = ("table", "step")
LOWER_IS_BETTER = "worst batch ms"
# Small enough for a test of the harness itself; says nothing about speed.
SMOKE = Config(rows=50_000, batch=4_096, lookup_batches=4, step_rows=5_000, step_batch=64, steps=3)


@dataclass
class Side:
    """A running worker and what it has measured: figures[case, unit] holds one value a round."""

    name: str
    process: subprocess.Popen[str]
    version: str = ""
    cases: list[str] = field(default_factory=list)
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    peak_mib: float = 0.0

    def receive(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self.name}: the worker ended with status {self.process.wait()}; its own words "
                "stand above. Leave a side out with --sides."
            )
        return json.loads(line)

    def wait_until_ready(self) -> None:
        hello = self.receive()
        self.version = f"{hello['ready']['version']}, Python {hello['ready']['python']}"
        self.cases = hello["cases"]

    def measure(self, case: str) -> None:
        assert self.process.stdin is not None
        print(json.dumps({"case": case}), file=self.process.stdin, flush=True)
        answer = self.receive()
        self.peak_mib = answer["peak_mib"]
        for unit, value in answer["figures"].items():
            self.figures.setdefault((case, unit), []).append(value)


@contextmanager
def running(name: str, python: str, group: str, config: Config) -> Iterator[Side]:
    """A worker process, ended with the block."""
    command = [python, str(HERE / "worker.py"), name, group, json.dumps(config.to_dict())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Side(name, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def compare(
    group: str, pythons: dict[str, str], config: Config, rounds: int, only: list[str]
) -> list[Side]:
    """Runs all rounds of one group of cases and returns the sides with their figures."""
    with ExitStack() as stack:
        sides = []
        for name, python in pythons.items():
            side = stack.enter_context(running(name, python, group, config))
            # One after the other: sides that fill their tables together would slow each other.
            side.wait_until_ready()
            print(f"{group}: {side.version} is ready", file=sys.stderr)
            sides.append(side)
        cases = list(dict.fromkeys(case for side in sides for case in side.cases))
        for number in range(rounds):
            for case in cases:
                if only and not any(part in case for part in only):
                    continue
                # Every other round backwards: nobody always goes first.
                for side in sides if number % 2 == 0 else reversed(sides):
                    if case in side.cases:
                        side.measure(case)
            print(f"{group}: round {number + 1} of {rounds} done", file=sys.stderr)
    return sides


def machine() -> str:
    """Processor, cores and memory, from /proc."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if "model name" in line), "unknown")
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return (
        f"{model}, {os.cpu_count()} cores, {kib / 2**20:.0f} GiB, "
        f"{platform.system()} {platform.release()}"
    )


def show(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def ratio(ours: list[float], theirs: list[float], unit: str) -> str:
    """Times better than theirs: median (lowest-highest) of the rounds' ratios."""
    pairs = zip(ours, theirs, strict=True)
    each = [t / o if unit == LOWER_IS_BETTER else o / t for o, t in pairs]
    return f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"


def markdown(groups: dict[str, list[Side]], names: list[str]) -> str:
    """The result: one line for each case and unit."""
    peers = [name for name in names if name != "mxrec"]
    lines = [
        "| case | unit | " + " | ".join([*names, *(f"mxrec : {p}" for p in peers)]) + " |",
        "|---|---|" + "---|" * (len(names) + len(peers)),
    ]
    for group, sides in groups.items():
        by_name = {side.name: side for side in sides}
        keys = dict.fromkeys(key for side in sides for key in side.figures)
        for case, unit in keys:
            measured = {n: by_name[n].figures.get((case, unit), []) for n in names}
            ours = measured.get("mxrec", [])
            cells = [show(statistics.median(measured[n])) if measured[n] else "-" for n in names]
            cells += [
                ratio(ours, measured[p], unit) if ours and measured[p] else "-" for p in peers
            ]
            lines.append(f"| {case} | {unit} | " + " | ".join(cells) + " |")
        cells = [f"{by_name[n].peak_mib:.0f}" for n in names] + ["-"] * len(peers)
        lines.append(f"| {group}: peak memory | MiB | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--peer-python", metavar="PATH", help="interpreter of an environment that has TFRA"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave TFRA out")
    parser.add_argument(
        "--sides", nargs="+", metavar="SIDE", choices=("mxrec", "tfra", "tf"),
        default=("mxrec", "tfra", "tf"), help="of mxrec, tfra, tf (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--groups", nargs="+", metavar="GROUP", choices=GROUPS, default=GROUPS,
        help="of table (lookups, inserts), step (training steps); default: both",
    )  # fmt: skip
    parser.add_argument(
        "--cases", nargs="+", metavar="PART", default=[],
        help="only cases whose name contains one of these",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--rows", type=int, help="rows of the lookup and insert tables")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does the harness work?")
    parser.add_argument("--json", metavar="FILE", help="also write every round's figures there")
    arguments = parser.parse_args()
    for name in ("rounds", "rows"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}, expected at least 1")
    sides = [s for s in arguments.sides if not (s == "tfra" and arguments.no_peer)]
    if "tfra" in sides and not arguments.peer_python:
        parser.error("the side tfra needs --peer-python PATH; or leave it out with --no-peer")
    arguments.sides = sides
    return arguments


def main() -> None:
    arguments = parse_arguments()
    config = SMOKE if arguments.smoke else Config()
    if arguments.rows is not None:
        config = replace(config, rows=arguments.rows)
    pythons = {
        name: arguments.peer_python if name == "tfra" else sys.executable
        for name in arguments.sides
    }
    groups = {
        group: compare(group, pythons, config, arguments.rounds, arguments.cases)
        for group in arguments.groups
    }
    first = next(iter(groups.values()))
    print(f"\nMachine: {machine()}")
    print("Sides: " + "; ".join(side.version for side in first))
    print(f"Medians of {arguments.rounds} alternating rounds; ratios: median (lowest-highest).")
    print(f"Sizes: {config.to_dict()}\n")
    print(markdown(groups, arguments.sides))
    if arguments.json:
        document = {
            "machine": machine(),
            "config": config.to_dict(),
            "sides": {side.name: side.version for side in first},
            "figures": {
                name: {
                    f"{case}, {unit}": values
                    for sides in groups.values()
                    for side in sides
                    if side.name == name
                    for (case, unit), values in side.figures.items()
                }
                for name in arguments.sides
            },
        }
        Path(arguments.json).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
