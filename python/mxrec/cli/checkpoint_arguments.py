"""Arguments of ``mxrec checkpoint``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mxrec.cli import checkpoint
from mxrec.cli.arguments_common import add_output, add_table, command, epilog, local_path
from mxrec.cli.numbers import integer

_WHERE = (
    "DIR is a directory of versions that mxrec.save has written, a directory of TensorFlow "
    "checkpoints, one version in either, the path prefix of a TensorFlow checkpoint, or what mxrec "
    "train or demo has written."
)
_MAX_STEP = 2**63 - 1


def add_checkpoint(commands: Any) -> None:
    """Adds ``checkpoint`` and its actions to a parser's commands."""
    parser = commands.add_parser(
        "checkpoint",
        help="list, verify, compare, compact and export versions of a model",
        description="Works on checkpoints with embedding tables, full ones and deltas.",
        epilog=epilog(
            (
                "mxrec checkpoint ls model_dir            # which steps there are",
                "mxrec checkpoint verify model_dir        # are they whole?",
                "mxrec checkpoint diff model_dir --from 200",
            )
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_list(actions)
    _step(
        _add(
            actions,
            "verify",
            checkpoint.verify,
            "read every byte of the tables and compare all checksums",
            "Checks every version of a directory, or one and those that it builds on. Of "
            "TensorFlow's files it checks that they are those that were saved, and not cut. Exits "
            "with 1 where something is damaged.",
            (
                "mxrec checkpoint verify model_dir",
                "mxrec checkpoint verify model_dir --step 3400",
            ),
        ),
        "only this version and what it builds on (default: all)",
    )
    _step(
        _add(
            actions,
            "compact",
            checkpoint.compact,
            "merge a delta and what it builds on into a full version",
            "Turns a delta into a full version of the same step, in its place. Nothing may save "
            "into the directory meanwhile.",
            ("mxrec checkpoint compact model_dir",),
        )
    )
    _add_diff(actions)
    _add_export(actions)


def _add_list(actions: Any) -> None:
    _add(
        actions,
        "ls",
        checkpoint.list_versions,
        "list the versions of a directory",
        "Lists step, kind, parent and size of every version.",
        (
            "mxrec checkpoint ls model_dir",
            "mxrec checkpoint ls model_dir --all --json | jq '.versions[] | {step, problem}'",
        ),
    ).add_argument(
        "--all",
        action="store_true",
        help="also incomplete, damaged and superseded ones, and why; reads every byte",
    )


def _add_diff(actions: Any) -> None:
    parser = _add(
        actions,
        "diff",
        checkpoint.diff,
        "compare the rows of two versions",
        "Counts the keys that were added, removed, or have other embeddings. Both versions are "
        "loaded, table by table. Exits with 1 where there are differences.",
        (
            "mxrec checkpoint diff model_dir --from 3000 --to 3400",
            "mxrec checkpoint diff model_dir --other copy_of_model_dir",
        ),
    )
    for name, what in (("from", "first"), ("to", "second")):
        parser.add_argument(
            f"--{name}",
            dest=f"{name}_step",
            type=integer(f"--{name}", 0, _MAX_STEP),
            metavar="STEP",
            help=f"the {what} version (default: the newest)",
        )
    parser.add_argument(
        "--other", type=local_path, metavar="DIR", help="where the second version is (default: DIR)"
    )


def _add_export(actions: Any) -> None:
    parser = _add(
        actions,
        "export",
        checkpoint.export,
        "write tables as NumPy archives",
        "Writes TABLE.npz for every table: keys, int64 [n], and values, float32 [n, dim].",
        ("mxrec checkpoint export model_dir --out archives --table user --table item",),
    )
    _step(parser)
    add_table(parser)
    parser.add_argument(
        "--out", type=local_path, metavar="OUT", help="where to write (default: beside the version)"
    )


def _add(
    actions: Any,
    name: str,
    run: checkpoint.Action,
    summary: str,
    description: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    parser = command(
        actions,
        name,
        lambda arguments: checkpoint.run_action(run, arguments),
        summary=summary,
        description=f"{description} {_WHERE}",
        examples=examples,
    )
    parser.add_argument("dir", type=local_path, metavar="DIR", help="what to look at")
    add_output(parser, json_help="print one JSON object")
    return parser


def _step(
    parser: argparse.ArgumentParser, text: str = "which version (default: the newest)"
) -> None:
    parser.add_argument("--step", type=integer("--step", 0, _MAX_STEP), metavar="STEP", help=text)
