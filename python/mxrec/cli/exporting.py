"""The command ``mxrec export``: the tables of a checkpoint as NumPy archives."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mxrec.checkpoints import naming
from mxrec.checkpoints.archives import write_archive
from mxrec.checkpoints.loading import loaded_for_a_while
from mxrec.cli.arguments_common import add_output, add_path, add_table, command
from mxrec.cli.console import make_console
from mxrec.cli.lines import DataError
from mxrec.cli.report import human_bytes
from mxrec.cli.saved_tables import find_saved_tables


def add_export(commands: Any) -> None:
    """Adds the command to a parser's commands."""
    parser = command(
        commands,
        "export",
        _run,
        summary="write the tables of a checkpoint as .npz files",
        description="Writes OUT/<table>.npz for each table of a checkpoint: keys, int64 [n], and "
        "values, float32 [n, dim]. One table is in memory at a time, and its rows are written in "
        "chunks. A file appears complete or not at all.",
        examples=(
            "mxrec export model/ --out embeddings         # of the newest checkpoint",
            "mxrec export model/model-200 --table user    # user.npz in the working directory",
            'python -c \'import numpy; print(numpy.load("user.npz")["values"].shape)\'',
        ),
    )
    add_path(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="OUT",
        help="directory to write to, made if it is not there (default: the working directory)",
    )
    add_table(parser)
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    add_output(parser, json_help="print one JSON object")


def _run(arguments: argparse.Namespace) -> int:
    found = find_saved_tables(arguments.path, arguments.table)
    out: Path = arguments.out
    targets = [out / f"{naming.table_directory(table.name)}.npz" for table in found.tables]
    there = [str(target) for target in targets if target.exists()]
    if there and not arguments.force:
        raise DataError(f"{', '.join(there)}: there already; choose another --out, or --force")
    out.mkdir(parents=True, exist_ok=True)
    console = make_console(arguments.plain, to_stderr=arguments.json)
    written: list[dict[str, Any]] = []
    done = 0
    with console.progress("writing", found.rows) as progress:
        for table, target in zip(found.tables, targets, strict=True):

            def advance(rows: int, before: int = done, name: str = table.name) -> None:
                progress.update(before + rows, name)

            with loaded_for_a_while(table.links, table.tiers) as engine:
                rows = write_archive(engine, str(target), advance)
            done += rows
            written.append(
                {
                    "table": table.name,
                    "file": str(target),
                    "rows": rows,
                    "dim": table.info["dim"],
                    "bytes": target.stat().st_size,
                }
            )
    if arguments.json:
        print(json.dumps({"path": str(found.path), "written": written}, indent=2))
        return 0
    for file in written:
        console.line(
            f"{file['file']}: {file['rows']:,} rows of {file['dim']}, {human_bytes(file['bytes'])}"
        )
    return 0
