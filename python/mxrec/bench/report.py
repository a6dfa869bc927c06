"""The Markdown report of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mxrec.bench.bars import BARS
from mxrec.bench.results import Results, SideResult, Spread, ratios
from mxrec.bench.sides import GROUPS, SIDE_TITLES, TITLES
from mxrec.bench.timing import WORST_BATCH

_MEETS = {True: "yes", False: "no"}
_PROBED = ("mxrec", "hash+gather", "known rows")


def markdown(results: Results, report: Path, images: dict[str, Path]) -> str:
    """The report.

    Args:
        results: of the run.
        report: where it will be written; images are linked from there.
        images: caption -> PNG.
    """
    parts = ["# Benchmark report", _introduction(results)]
    parts += ["## Bars", _bars(results)]
    for caption, path in images.items():
        link = os.path.relpath(path, report.parent)
        parts.append(f"![{caption}]({link})\n\n*{caption}*")
    for group, sides in results.groups.items():
        if any(side.figures for side in sides.values()):
            parts += [f"## {TITLES[group][0].upper()}{TITLES[group][1:]}", _group(group, sides)]
    if results.probe:
        parts += ["## What memory allows", _probe(results.probe)]
    if results.growth:
        parts += ["## Growth", _growth(results.growth)]
    if results.maps:
        parts += ["## The engine and other maps", _maps(results.maps)]
    if results.skipped or results.failed:
        parts += ["## Left out", _list(results)]
    parts += ["## Machine and versions", _environment(results)]
    return "\n\n".join(parts) + "\n"


def bar_rows(results: Results) -> list[tuple[str, ...]]:
    """Work, compared to, bar, measured, meets it: one row for each bar."""
    rows: list[tuple[str, ...]] = []
    for bar in BARS:
        spread = bar.measured(results)
        measured = str(spread) if spread else "not measured"
        meets = _MEETS[bar.met(spread)] if spread else "-"
        rows.append((bar.work, bar.against or "-", bar.wanted(), measured, meets))
    return rows


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    marks = ["---" if column < left else "---:" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _introduction(results: Results) -> str:
    config = results.config
    text = (
        f"Medians of {results.rounds} alternating rounds, with the lowest and the highest; a ratio "
        "is the median of the rounds' ratios. Ratios compare well between machines, absolute "
        f"figures do not. Tables: {config['rows']:,} rows of {config['dim']} floats, "
        f"{config['batch']:,} keys a call. Training steps: {config['step_batch']:,} x "
        f"{config['slots']} ids of {config['step_rows']:,}, dim {config['step_dim']}."
    )
    if results.kind != "full":
        text += (
            f"\n\nThis is a {results.kind} run: its sizes are smaller than those that the bars are "
            "about."
        )
    return text


def _bars(results: Results) -> str:
    rows = [[*row[:4], f"**{row[4]}**" if row[4] == "no" else row[4]] for row in bar_rows(results)]
    met = "met" if results.kind == "full" else "met at these sizes"
    return _table(("work", "compared to", "bar", "measured", met), rows, left=2)


def _show(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _group(group: str, sides: dict[str, SideResult]) -> str:
    names = [side for side in GROUPS[group] if side in sides and sides[side].figures]
    others = [name for name in names if name != "mxrec"]
    header = ["case", "unit", *(SIDE_TITLES[name] for name in names)]
    header += [f"mxrec : {SIDE_TITLES[name]}" for name in others]
    figures = {name: sides[name].figures for name in names}
    keys = dict.fromkeys(
        (case, unit) for name in names for case, units in figures[name].items() for unit in units
    )
    rows = []
    for case, unit in keys:
        measured = {name: figures[name].get(case, {}).get(unit, []) for name in names}
        row = [case, unit]
        row += [_show(median(measured[name])) if measured[name] else "-" for name in names]
        ours = measured.get("mxrec", [])
        for name in others:
            # Times better: for a latency, theirs by ours.
            pair = (measured[name], ours) if unit == WORST_BATCH else (ours, measured[name])
            each = ratios(*pair)
            row.append(str(Spread.of(each)) if each else "-")
        rows.append(row)
    peaks = [_show(sides[name].peak_mib) for name in names]
    rows.append(["peak memory of the process", "MiB", *peaks, *["-"] * len(others)])
    return _table(header, rows, left=2)


def _probe(probe: dict[str, Any]) -> str:
    rows = []
    for law, figures in probe["laws"].items():
        ours = figures["mxrec"]
        row = [law, *(_show(median(figures[name])) for name in _PROBED)]
        rows.append([*row, str(Spread.of(ratios(ours, figures["hash+gather"])))])
    header = ["law", *(f"{name}, {probe['unit']}" for name in _PROBED), "mxrec : hash+gather"]
    return (
        f"{probe['rows']:,} rows of {probe['dim']} floats, {probe['batch']:,} keys a call, without "
        "Python; mxrec has no optimizer here. *hash+gather* has an index and rows, but neither "
        "growth, locks nor metadata; *known rows* needs no index either.\n\n" + _table(header, rows)
    )


def _growth(growth: dict[str, Any]) -> str:
    header = (
        "implementation", "rows", "Mkeys/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "bytes/row",
        "beyond values", "by stats()",
    )  # fmt: skip
    rows = []
    for name, grown in growth["adapters"].items():
        per_row = grown["resident bytes"] / grown["rows"]
        payload = grown["payload bytes"] / grown["rows"]
        row = [name, f"{grown['rows']:,}"]
        row += [_show(grown[key]) for key in header[2:7]]
        row += [f"{per_row:.1f}", f"{per_row - payload:.1f}"]
        stats = grown.get("stats bytes")
        row.append(f"{stats / grown['rows']:.1f}" if stats else "-")
        rows.append(row)
    return (
        f"From nothing, {growth['batch']:,} new keys a call, dim {growth['dim']} with an Adagrad "
        "accumulator. Bytes are resident memory of the process; *beyond values* is what is left "
        "without embeddings and accumulators.\n\n" + _table(header, rows)
    )


def _maps(maps: list[dict[str, Any]]) -> str:
    adapters = list(dict.fromkeys(row["adapter"] for row in maps))
    cells = {
        (row["rows"], row["dim"], row["operation"], row["law"] or "-", row["adapter"]): row
        for row in maps
    }
    works = list(dict.fromkeys(key[:4] for key in cells))
    growing = [
        name for name in adapters if any((*w, name) in cells for w in works if "growth" in w)
    ]
    throughput, latency, memory = [], [], []
    for work in works:
        found = [cells.get((*work, adapter)) for adapter in adapters]
        head = [work[2], f"{work[0]:,}", str(work[1]), work[3]]
        throughput.append([*head, *(_million(row) for row in found)])
        if work[2] == "growth":
            grown = [cells.get((*work, adapter)) for adapter in growing]
            latency.append([*head[1:3], *(_percentiles(row) for row in grown)])
            memory.append([*head[1:3], *(_bytes(row) for row in grown)])
    text = "Million keys per second. Duplicates: benchmarks/adapters/adapter.h.\n\n" + _table(
        ["operation", "rows", "dim", "law", *adapters], throughput
    )
    if latency:
        text += "\n\nGrowth: p50 / p99 / p99.9 / max of a call, ms.\n\n" + _table(
            ["rows", "dim", *growing], latency, left=0
        )
        text += "\n\nBytes per row, and those beyond embedding and accumulator.\n\n" + _table(
            ["rows", "dim", *growing], memory, left=0
        )
    return text


def _million(row: dict[str, Any] | None) -> str:
    return _show(row["keys/s"] / 1e6) if row else "-"


def _percentiles(row: dict[str, Any] | None) -> str:
    names = ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")
    return " / ".join(_show(row[name]) for name in names) if row else "-"


def _bytes(row: dict[str, Any] | None) -> str:
    return f"{row['bytes/row']:.0f}, {row['overhead/row']:.0f}" if row else "-"


def _list(results: Results) -> str:
    lines = [f"- {reason}" for reason in results.skipped]
    for failure in results.failed:
        first, *rest = failure.splitlines()
        lines.append(f"- failed: {first}")
        lines += ["", *(f"      {line}" for line in rest), ""] if rest else []
    return "\n".join(lines)


def _environment(results: Results) -> str:
    rows = [[name, text] for name, text in {**results.machine, **results.versions}.items()]
    return _table(("what", "which"), rows, left=2)
