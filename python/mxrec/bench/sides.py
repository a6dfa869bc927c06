"""Runs the sides of one group of cases: a process for each, measured in alternating rounds."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mxrec.bench.results import Results, SideResult
from mxrec.bench.workload import Config
from mxrec.cli.console import Console

LAUNCH = Path(__file__).with_name("launch.py")

# Which sides measure which group, and what the group is called.
GROUPS = {
    "table": ("mxrec", "tf", "tfra"),
    "session": ("mxrec", "tf", "tfra"),
    "step": ("mxrec", "tf", "tfra"),
}
TITLES = {
    "table": "lookups and inserts",
    "session": "lookups in a Session",
    "step": "training steps",
}
SIDE_TITLES = {
    "mxrec": "mxrec",
    "tf": "TensorFlow, static Variable",
    "tfra": "TFRA",
}
_END_SECONDS = 60
_LAST_WORDS = 20  # lines of a worker that ended


class WorkerEnded(RuntimeError):
    """A worker process ended without an answer."""


@dataclass
class Worker:
    """A side's process, and what it can measure."""

    side: str
    process: subprocess.Popen[str]
    errors: IO[str]
    result: SideResult = field(default_factory=SideResult)
    cases: list[str] = field(default_factory=list)

    def receive(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            words = "".join(self.errors.readlines()[-_LAST_WORDS:])
            raise WorkerEnded(f"{self.side}: the worker ended with status {status}\n{words}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def measure(self, case: str) -> str | None:
        """Measures one round; gives the traceback of a failure."""
        assert self.process.stdin is not None
        print(json.dumps({"case": case}), file=self.process.stdin, flush=True)
        answer = self.receive()
        if "error" in answer:
            self.cases.remove(case)
            return str(answer["error"])
        figures = self.result.figures.setdefault(case, {})
        for unit, value in answer["figures"].items():
            figures.setdefault(unit, []).append(value)
        if answer["latencies_ms"]:
            self.result.latencies_ms[case] = answer["latencies_ms"]
        self.result.peak_mib = answer["peak_mib"]
        return None


@contextmanager
def _running(side: str, python: str, group: str, config: Config) -> Iterator[Worker]:
    command = [python, "-P", str(LAUNCH), side, group, json.dumps(config.to_dict())]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield Worker(side, process, errors)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def measure_group(
    group: str,
    pythons: dict[str, str],
    config: Config,
    only: Sequence[str],
    results: Results,
    console: Console,
) -> None:
    """Runs all rounds of one group and puts the figures into ``results``.

    Args:
        group: one of GROUPS.
        pythons: interpreter of each side that takes part.
        config: the sizes.
        only: parts of case names; a case that contains none of them is left out. Empty: all.
        results: receives figures, versions, what was skipped and what failed.
        console: shows progress.
    """
    with ExitStack() as stack:
        workers: list[Worker] = []
        console.heading(f"mxrec bench: {TITLES[group]}")
        for side in GROUPS[group]:
            if side not in pythons:
                continue
            console.line(f"{SIDE_TITLES[side]}: filling its tables")
            worker = stack.enter_context(_running(side, pythons[side], group, config))
            # One after the other: sides that fill their tables together would slow each other.
            try:
                hello = worker.receive()
            except WorkerEnded as error:
                results.failed.append(f"{TITLES[group]}: {error}")
                continue
            if "unavailable" in hello:
                reason = f"{TITLES[group]}, {SIDE_TITLES[side]}: {hello['unavailable']}"
                results.skipped.append(reason)
                console.line(f"skipped: {reason}")
                continue
            worker.result.version = hello["version"]
            worker.cases = [
                case for case in hello["cases"] if not only or any(part in case for part in only)
            ]
            workers.append(worker)
        _alternate(group, workers, results, console)
    results.groups[group] = {worker.side: worker.result for worker in workers}
    for worker in workers:
        results.versions[SIDE_TITLES[worker.side]] = worker.result.version


def _alternate(group: str, workers: list[Worker], results: Results, console: Console) -> None:
    cases = list(dict.fromkeys(case for worker in workers for case in worker.cases))
    total = results.rounds * sum(len(worker.cases) for worker in workers)
    done = 0
    with console.progress(TITLES[group], max(total, 1)) as progress:
        for number in range(results.rounds):
            for case in cases:
                # Every other round backwards: nobody always goes first.
                for worker in workers if number % 2 == 0 else list(reversed(workers)):
                    if case not in worker.cases:
                        continue
                    progress.update(done, f"{SIDE_TITLES[worker.side]}: {case}")
                    try:
                        error = worker.measure(case)
                    except WorkerEnded as ended:
                        error = str(ended)
                        worker.cases.clear()
                    if error is not None:
                        results.failed.append(f"{SIDE_TITLES[worker.side]}, {case}: {error}")
                    done += 1
        progress.update(total, "")
