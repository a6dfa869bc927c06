"""Runs the C++ suite (benchmarks/ of the source tree) and reads its results."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mxrec.bench.results import Results
from mxrec.cli.console import Console

PROGRAMS = {
    "maps": "table_benchmark",
    "growth": "growth_benchmark",
    "probe": "probe_benchmark",
}
TITLES = {
    "maps": "the engine and other maps",
    "growth": "growth",
    "probe": "what memory allows",
}
_DOES_NOT_FIT = 3
_PROGRESS = re.compile(r"progress: (?P<done>\d+)/(?P<total>\d+) (?P<what>.*)\n?")

# Command lines by kind of run; table_benchmark runs once for each of its lists.
_BOTH = "--laws=zipf1.05,uniform"
_FLAGS: dict[str, dict[str, list[list[str]]]] = {
    "full": {
        "maps": [
            ["--rows=1e5,1e6,5e6", "--dims=32", _BOTH],
            ["--rows=5e6", "--dims=32", "--operations=find", "--laws=zipf0.8,zipf1.2"],
            ["--rows=1e6", "--dims=8,16,64,128", "--operations=find,update", "--laws=zipf1.05"],
            ["--rows=5e7", "--dims=16", "--operations=find,update", _BOTH],
        ],
        "growth": [["--rows=5e7", "--dim=16", "--adapters=mxrec,absl::flat_hash_map"]],
        "probe": [["--rows=5e7", "--dim=16", _BOTH]],
    },
    "quick": {
        "maps": [["--rows=1e5", "--dims=32", _BOTH, "--benchmark_min_time=0.2"]],
        "growth": [["--rows=5e6", "--dim=16", "--adapters=mxrec,absl::flat_hash_map"]],
        "probe": [["--rows=5e6", "--dim=16", _BOTH, "--rounds=3"]],
    },
    "smoke": {
        "maps": [["--rows=5e3", "--dims=8", "--batch=1024", _BOTH, "--benchmark_min_time=0.001"]],
        "growth": [["--rows=1e5", "--dim=8", "--batch=4096"]],
        "probe": [["--rows=1e5", "--dim=8", "--batch=4096", "--batches=4", "--rounds=2"]],
    },
}


def run(group: str, folder: Path, extra: Sequence[str], results: Results, console: Console) -> None:
    """Runs one program of the suite and puts what it found into ``results``.

    Args:
        group: one of PROGRAMS.
        folder: where the programs are.
        extra: flags in place of those of the kind of run, for the group ``maps``; empty: none.
        results: receives figures, what was skipped and what failed.
        console: shows progress.
    """
    program = folder / PROGRAMS[group]
    if not program.is_file():
        results.skipped.append(f"{TITLES[group]}: there is no {program}")
        return
    console.heading(f"mxrec bench: {TITLES[group]}")
    lists = _FLAGS[results.kind][group]
    if group == "maps":
        for flags in [list(extra)] if extra else lists:
            _run_maps(program, flags, results, console)
        return
    for flags in lists:
        status, out, errors = _run_with_progress(group, [str(program), *flags], console)
        _note(group, status, errors, results)
        if status == 0:
            document = json.loads(out)
            if "adapters" in document:  # mxrec first, the others by name
                found = document["adapters"]
                document["adapters"] = {
                    name: found[name] for name in sorted(found, key=lambda n: (n != "mxrec", n))
                }
            setattr(results, group, document)


def _run_with_progress(group: str, command: list[str], console: Console) -> tuple[int, str, str]:
    """Runs a program that reports "progress: DONE/TOTAL WHAT" on stderr.

    Returns:
        Its status, its stdout, and the other lines of its stderr.
    """
    console.line(f"{Path(command[0]).name} {' '.join(command[1:])}")
    others = []
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
        console.progress(TITLES[group], 100) as progress,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            match = _PROGRESS.fullmatch(line)
            if match is None:
                others.append(line)
            else:
                percent = 100 * int(match["done"]) // int(match["total"])
                progress.update(percent, match["what"])
        status = process.wait()
        out.seek(0)
        return status, out.read(), "".join(others)


def _run_maps(program: Path, flags: list[str], results: Results, console: Console) -> None:
    console.line(f"{program.name} {' '.join(flags)}")
    listed = subprocess.run(
        [program, *flags, "--benchmark_list_tests"], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        _note("maps", listed.returncode, listed.stderr, results)
        return
    total = len(listed.stdout.splitlines())
    with (
        tempfile.TemporaryDirectory() as folder,
        console.progress(TITLES["maps"], max(total, 1)) as progress,
        (Path(folder) / "stderr").open("w+") as errors,
    ):
        out = Path(folder) / "result.json"
        command = [str(program), *flags, f"--benchmark_out={out}", "--benchmark_out_format=json"]
        with subprocess.Popen(
            [*command, "--benchmark_color=false"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            done = 0
            for line in process.stdout:
                if "/rows:" in line:
                    done += 1
                    progress.update(done, line.split()[0])
        errors.seek(0)
        _note("maps", process.returncode, errors.read(), results)
        if process.returncode == 0 and out.exists() and out.stat().st_size:
            document = json.loads(out.read_text())
            results.versions["C++ suite"] = document["context"]["compiler"]
            results.maps += map_rows(document)


def _note(group: str, status: int, errors: str, results: Results) -> None:
    skipped = [line for line in errors.splitlines() if line.startswith("skipped: ")]
    results.skipped += [f"{TITLES[group]}: {line.removeprefix('skipped: ')}" for line in skipped]
    if status not in (0, _DOES_NOT_FIT):
        results.failed.append(f"{PROGRAMS[group]} ended with status {status}: {errors.strip()}")


def map_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Google Benchmark's document as rows: adapter, rows, dim, operation, law and counters."""
    rows = []
    pattern = re.compile(
        r"(?P<adapter>[^/]+)/rows:(?P<rows>\d+)/dim:(?P<dim>\d+)/(?P<operation>\w+)"
        r"(?:/(?P<law>uniform|zipf[\d.]+))?(?:/|$)"
    )
    counters = (
        "keys/s", "p50_ms", "p99_ms", "p99.9_ms", "max_ms", "bytes/row", "overhead/row",
    )  # fmt: skip
    for entry in document["benchmarks"]:
        match = pattern.match(entry["name"])
        if match is None or entry.get("error_occurred"):
            continue
        row: dict[str, Any] = dict(match.groupdict())
        row |= {"rows": int(row["rows"]), "dim": int(row["dim"])}
        row |= {name: entry[name] for name in counters if name in entry}
        rows.append(row)
    return rows
