"""The command ``mxrec inspect``: what the tables of a checkpoint are and hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mxrec.checkpoints import archives
from mxrec.checkpoints.loading import loaded_for_a_while
from mxrec.cli.arguments_common import add_output, add_path, add_table, command
from mxrec.cli.console import Console, make_console
from mxrec.cli.report import human_bytes
from mxrec.cli.saved_tables import SavedTable, find_saved_tables
from mxrec.cli.tier_report import of_tiers, tier_lines
from mxrec.histograms import binned

_HEADER = ("table", "rows", "dim", "dtype", "optimizer", "disk", "keys from", "to")


def add_inspect(commands: Any) -> None:
    """Adds the command to a parser's commands."""
    parser = command(
        commands,
        "inspect",
        _run,
        summary="what the tables of a checkpoint are and hold",
        description="Shows the tables of a checkpoint: rows, dim, stored type, optimizer, bytes, "
        "the range of the keys, how often they were used, what admission and eviction know, and "
        "how the tiers worked and which size to raise. One table is in memory at a time. Of a "
        "directory of checkpoints the newest is shown.",
        examples=(
            "mxrec inspect model/                       # the newest checkpoint there",
            "mxrec inspect model/model-200 --table user --table item",
            "mxrec inspect user-table --manifest-only   # without reading rows",
            "mxrec inspect model/ --json | jq '.tables[] | {name, rows}'",
        ),
    )
    add_path(parser)
    add_table(parser)
    parser.add_argument(
        "--manifest-only",
        action="store_true",
        help="read no rows: no key range, no frequencies, no checksums of data",
    )
    add_output(parser, json_help="print one JSON object")


def _run(arguments: argparse.Namespace) -> int:
    found = find_saved_tables(arguments.path, arguments.table)
    console = make_console(arguments.plain, to_stderr=arguments.json)
    reports = [describe_manifest(table) for table in found.tables]
    if not arguments.manifest_only:
        done = 0
        with console.progress("reading", found.rows) as progress:
            for table, report in zip(found.tables, reports, strict=True):

                def advance(rows: int, before: int = done, name: str = table.name) -> None:
                    progress.update(before + rows, name)

                report |= describe_rows(table, advance)
                done += report["rows"]
    if arguments.json:
        steps = {int(table.info["step"]) for table in found.tables}
        head = {
            "path": str(found.path),
            "latest_of": found.latest_of,
            "step": max(steps),
            "rows": found.rows,
            "bytes_on_disk": sum(table.bytes for table in found.tables),
        }
        print(json.dumps({**head, "tables": reports}, indent=2))
        return 0
    if found.latest_of > 1:
        console.line(f"{found.path}, the newest of {found.latest_of} checkpoints")
    _show(reports, console)
    return 0


def describe_manifest(table: SavedTable) -> dict[str, Any]:
    """What is known of a saved table without reading its rows.

    Returns:
        A dict that ``json`` can write: ``name``, ``path``, ``kind`` ("full", or "delta", whose
        ``rows`` are those that have changed), ``step``, ``rows``, ``dim``,
        ``value_dtype``, ``stochastic_rounding``, ``memory_rows``, ``seed``, ``optimizer`` and
        ``initializer`` (kind and hyperparameters), ``slots``, ``optimizer_step``,
        ``bytes_on_disk``, ``format_version``, and where the table has them ``admission``,
        ``eviction``, ``admission_state`` and ``counts`` (keys that have a count and no row, or
        blocks of the sketch); of a table of a version that had an SSD tier, ``tiers`` (what
        ``mxrec.tier_figures`` needs of its ``stats()``) and ``tier_advice``.
    """
    info, manifest = table.info, table.manifest
    report = {name: info[name] for name in ("step", "rows", "dim", "value_dtype", "memory_rows")}
    report |= {name: info[name] for name in ("stochastic_rounding", "seed", "optimizer_step")}
    optional = ("admission", "eviction", "admission_state", "counts")
    return {
        "name": table.name,
        "path": str(table.path),
        "kind": "full" if len(table.links) == 1 else "delta",
        **report,
        "optimizer": manifest["optimizer"],
        "initializer": manifest["initializer"],
        "slots": manifest["slots"],
        "bytes_on_disk": table.bytes,
        "format_version": manifest["version"],
        **{name: manifest[name] for name in optional if name in manifest},
        **({} if table.tiers is None else of_tiers(table.tiers)),
    }


def describe_rows(table: SavedTable, progress: Callable[[int], None]) -> dict[str, Any]:
    """What the rows of a saved table tell. The table is loaded, which checks all checksums.

    Args:
        table: on disk.
        progress: called with the rows read so far.

    Returns:
        A dict that ``json`` can write: ``rows``, ``key_min`` and ``key_max`` (None in an empty
        table), ``negative_keys``, ``frequencies`` (bins ``[low, high, rows]`` with low <=
        frequency < high, empty ones left out), ``last_time_min`` and ``last_time_max`` (seconds;
        None where training used no row) and ``stats``, as ``Table.stats`` of the loaded table, in
        which all sizes in memory are.
    """
    lows, highs, negative, done = [], [], 0, 0
    bins = binned(np.zeros(0, np.uint32))
    times: list[int] = []
    with loaded_for_a_while(table.links, table.tiers) as engine:
        for keys, _, _, frequency, last_time in archives.scan(engine):
            lows.append(int(keys.min()))
            highs.append(int(keys.max()))
            negative += int(np.count_nonzero(keys < 0))
            bins += binned(frequency)
            used = last_time[last_time > 0]
            times += [int(used.min()), int(used.max())] if len(used) else []
            done += len(keys)
            progress(done)
        stats = engine.stats()
    return {
        "rows": done,
        "key_min": min(lows, default=None),
        "key_max": max(highs, default=None),
        "negative_keys": negative,
        "frequencies": [
            [1 << bit >> 1, 1 << bit, int(rows)] for bit, rows in enumerate(bins) if rows
        ],
        "last_time_min": min(times, default=None),
        "last_time_max": max(times, default=None),
        "stats": stats,
    }


def _show(reports: list[dict[str, Any]], console: Console) -> None:
    console.table("Tables", _HEADER, [_line(report) for report in reports])
    for report in reports:
        console.heading(report["name"])
        for line in _details(report):
            console.line(line)


def _line(report: Mapping[str, Any]) -> tuple[str, ...]:
    keys = [report.get("key_min"), report.get("key_max")]
    return (
        report["name"],
        f"{report['rows']:,}",
        str(report["dim"]),
        report["value_dtype"],
        report["optimizer"]["kind"],
        human_bytes(report["bytes_on_disk"]),
        *("-" if key is None else str(key) for key in keys),
    )


def _details(report: Mapping[str, Any]) -> list[str]:
    capacity = report["memory_rows"]
    lines = [
        f"step {report['step']}, optimizer step {report['optimizer_step']}, format version "
        f"{report['format_version']}, "
        + ("grows without limit" if capacity is None else f"capacity {capacity:,} rows"),
        f"slots: {', '.join(report['slots']) or 'none'}; initializer "
        f"{report['initializer']['kind']}; seed {report['seed']}",
    ]
    if "admission" in report and report["admission"]["threshold"] >= 0:
        lines.append(_admission(report))
    if "eviction" in report:
        rules = {name: value for name, value in report["eviction"].items() if value not in (-1, 0)}
        if rules:
            lines.append("eviction: " + ", ".join(f"{name} {rules[name]}" for name in rules))
    if "tiers" in report:
        lines += tier_lines(report["tiers"], report["tier_advice"])
    if "stats" in report:
        stats = report["stats"]
        lines.append(
            f"in memory: {human_bytes(stats['bytes'])}, of which rows "
            f"{human_bytes(stats['bytes_rows'])}, index {human_bytes(stats['bytes_index'])}, "
            f"metadata {human_bytes(stats['bytes_metadata'])}"
        )
    if report.get("frequencies"):
        lines.append("rows by how often training has used their keys:")
        lines += _histogram(report["frequencies"])
    return lines


def _admission(report: Mapping[str, Any]) -> str:
    rule, state = report["admission"], report["admission_state"]
    in_force = "none" if state["threshold"] >= 2**62 else state["threshold"]
    what = "blocks of the sketch in use" if rule["mode"] == "sketch" else "keys counted, no row yet"
    return (
        f"admission: {rule['mode']}, configured threshold {rule['threshold']}, in force {in_force}"
        f"{', frozen' if state['frozen'] else ''}; {report['counts']:,} {what}; latest time "
        f"{state['latest_time']} ({state['time_source']})"
    )


def _histogram(bins: list[list[int]]) -> list[str]:
    most = max(rows for *_, rows in bins)
    lines = []
    for low, high, rows in bins:
        label = f"{low}" if high - low <= 1 else f"{low}-{high - 1}"
        lines.append(f"  {label:>21}  {rows:>13,}  {'#' * max(1, 40 * rows // most)}")
    return lines
