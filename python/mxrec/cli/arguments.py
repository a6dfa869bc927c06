"""The command line's grammar."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mxrec.cli import train_commands
from mxrec.cli.arguments_common import add_output, command, epilog
from mxrec.cli.bench_arguments import add_bench
from mxrec.cli.checkpoint_arguments import add_checkpoint
from mxrec.cli.doctor import add_doctor
from mxrec.cli.exporting import add_export
from mxrec.cli.inspecting import add_inspect
from mxrec.cli.numbers import integer, real

_DEMO_BATCH = 4096
MOST_ROWS = 10**9  # of a tier, as in create_table
_EXAMPLES = (
    "mxrec demo                                # train, evaluate, save, restore a click model",
    "mxrec train --data clicks.csv --label clicked",
    "mxrec inspect train-output/model          # the tables that this has saved",
    "mxrec doctor                              # what this machine has and lacks",
)


def make_parser() -> argparse.ArgumentParser:
    """Builds the parser of ``mxrec``."""
    parser = argparse.ArgumentParser(
        prog="mxrec",
        description="Train click models on embedding tables that grow with their keys.",
        epilog=epilog(_EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    _add_demo(commands)
    _add_train(commands)
    _add_evaluate(commands)
    add_inspect(commands)
    add_export(commands)
    add_checkpoint(commands)
    add_bench(commands)
    add_doctor(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = command(
        commands,
        "demo",
        train_commands.run_demo,
        summary="train on generated impressions, evaluate, save, restore, compare",
        description="Trains a DLRM-like model on generated impressions in Criteo's format, "
        "evaluates it on later ones, saves it, restores it in a new process and shows that the "
        "evaluation is identical.",
        examples=(
            "mxrec demo                                     # two minutes on two cores",
            "mxrec demo --impressions 100_000 --no-plot",
            "mxrec demo --admission 5 --evict-after 3600    # what rare and old keys are worth",
            "mxrec demo --write-tsv impressions.tsv         # the data only",
        ),
    )
    demo.add_argument(
        "--impressions",
        type=integer("--impressions", 100, 2**40),
        default=2_000_000,
        help="impressions to generate (default: 2000000)",
    )
    demo.add_argument(
        "--write-tsv", type=Path, metavar="FILE", help="only write the impressions to FILE and stop"
    )
    _add_training(demo, out="demo-output", batch=_DEMO_BATCH)


def _add_train(commands: Any) -> None:
    train = command(
        commands,
        "train",
        train_commands.run_train,
        summary="the same on a file of yours",
        description="Trains the same model on a Criteo TSV, or on a CSV with a header line and a "
        "binary label column. Plain and gzip files are read alike. The end of the file is held out "
        "for evaluation.",
        examples=(
            "mxrec train --data day_0.gz                                  # Criteo TSV",
            "mxrec train --data clicks.csv --label clicked --out run1",
            "mxrec train --data clicks.csv --label clicked --json > result.json",
            "mxrec train --data day_0.gz --memory-rows 500_000 --ssd-rows 20_000_000",
            "mxrec evaluate --out run1                                    # once more",
        ),
    )
    train.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="Criteo TSV, or CSV with --label"
    )
    train.add_argument(
        "--label",
        metavar="NAME",
        help="label column of a CSV: 0 and 1, or two distinct values of which the "
        "lexicographically greater one is 1",
    )
    train.add_argument(
        "--timestamp-column",
        metavar="NAME",
        help="column of a CSV with the time of each row in whole seconds, by which --evict-after "
        "counts; it is no feature (default: the wall clock counts)",
    )
    train.add_argument(
        "--epochs",
        type=integer("--epochs", 1, 10_000),
        help="passes over the training rows (default: 1; more for fewer than 200,000 rows, at "
        "most 4, unless --evict-after counts by a --timestamp-column)",
    )
    _add_training(train, out="train-output", batch=None)


def _add_evaluate(commands: Any) -> None:
    evaluate = command(
        commands,
        "evaluate",
        train_commands.run_evaluate,
        summary="evaluate a finished run again on its held-out data",
        description="Restores the model of a finished run and evaluates it on the held-out data "
        "of that run.",
        examples=("mxrec evaluate --out demo-output", "mxrec evaluate --out demo-output --json"),
    )
    evaluate.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="directory of the run"
    )
    evaluate.add_argument(
        "--ssd-paths",
        nargs="+",
        metavar="DIR",
        help="for the rows on SSD, of a run that has --ssd-rows (default: those of the run)",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")


def _add_training(parser: argparse.ArgumentParser, *, out: str, batch: int | None) -> None:
    shown = batch if batch is not None else "4096; less for fewer than 800,000 rows, at least 128"
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help=f"results (default: ./{out})"
    )
    parser.add_argument(
        "--batch-size",
        type=integer("--batch-size", 1, 2**20),
        default=batch,
        help=f"rows per step (default: {shown})",
    )
    parser.add_argument(
        "--holdout",
        type=real("--holdout", 0.0, 1.0),
        default=0.1,
        help="share of the rows, at the end, to evaluate on (default: 0.1)",
    )
    parser.add_argument(
        "--dim",
        type=integer("--dim", 1, 1024),
        default=16,
        help="width of the embeddings (default: 16)",
    )
    parser.add_argument(
        "--optimizer",
        choices=("lazy_adam", "adagrad"),
        default="lazy_adam",
        help="of the embedding tables (default: lazy_adam)",
    )
    parser.add_argument(
        "--sparse-learning-rate",
        type=real("--sparse-learning-rate", 0.0, 10.0),
        default=0.002,
        help="of the embedding tables (default: 0.002)",
    )
    parser.add_argument(
        "--dense-learning-rate",
        type=real("--dense-learning-rate", 0.0, 10.0),
        default=0.001,
        help="of Adam for the dense layers (default: 0.001)",
    )
    parser.add_argument(
        "--seed",
        type=integer("--seed", 0, 2**31 - 1),
        default=0,
        help="of data, initial values and shuffling (default: 0)",
    )
    parser.add_argument(
        "--admission",
        type=integer("--admission", 1, 2**31 - 1),
        metavar="COUNT",
        help="a key gets a row when it was seen so often in training; trains without and with it",
    )
    parser.add_argument(
        "--evict-after",
        type=integer("--evict-after", 0, 2**31 - 1),
        metavar="SECONDS",
        help="a key goes so long after its last use in training; trains without and with it",
    )
    _add_tiers(parser)
    parser.add_argument(
        "--no-rewrite",
        action="store_true",
        help="handle keys in the training step, not ahead of it in the input pipeline",
    )
    parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    add_output(parser, json_help="print the contents of result.json; all else goes to stderr")


def _add_tiers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory-rows",
        type=integer("--memory-rows", 2, MOST_ROWS),
        metavar="ROWS",
        help="rows of each table that memory holds (default: as many as come)",
    )
    parser.add_argument(
        "--ssd-rows",
        type=integer("--ssd-rows", 0, MOST_ROWS),
        default=0,
        metavar="ROWS",
        help="rows of each table beyond --memory-rows, in files (default: 0)",
    )
    parser.add_argument(
        "--ssd-paths",
        nargs="+",
        metavar="DIR",
        help="directories for these files, filled in this order (default: the working directory)",
    )
