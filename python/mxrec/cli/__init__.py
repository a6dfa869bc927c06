"""The ``mxrec`` command: ``mxrec demo``, ``train``, ``evaluate`` and ``bench``.

``mxrec --help`` needs nothing beyond NumPy. The first three commands need TensorFlow up to 2.15
(for Estimator); plots need matplotlib, and a live progress bar needs rich. What is missing is named
with the line that installs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mxrec.cli.arguments import make_parser

__all__ = ["main"]

_SMALL_FILE = 200_000
_MOST_EPOCHS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 done, 1 the restored evaluation differs or a benchmark failed, 2 bad
        arguments or data, 3 something must be installed, 130 interrupted.
    """
    from mxrec.cli.lines import DataError
    from mxrec.cli.requirements import MissingRequirement
    from mxrec.cli.workflow import RestoreMismatch

    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        # argparse has printed help or the error already.
        return int(stop.code or 0)
    if arguments.version:
        from mxrec import __version__

        print(f"mxrec {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _bench(arguments) if arguments.command == "bench" else _run(arguments)
    except RestoreMismatch as error:
        return _fail(error, 1)
    except (DataError, OSError) as error:
        return _fail(error, 2)
    except MissingRequirement as error:
        return _fail(error, 3)
    except KeyboardInterrupt:
        print("mxrec: interrupted", file=sys.stderr)
        return 130


def _fail(error: BaseException, code: int) -> int:
    print(f"mxrec: error: {error}", file=sys.stderr)
    return code


def _bench(arguments: argparse.Namespace) -> int:
    from mxrec.bench.command import run_bench
    from mxrec.cli.console import make_console
    from mxrec.cli.requirements import require_plotting

    if not arguments.no_plot:
        require_plotting()
    return run_bench(arguments, make_console(arguments.plain))


def _run(arguments: argparse.Namespace) -> int:
    from mxrec.cli.console import make_console
    from mxrec.cli.requirements import require_estimator, require_plotting
    from mxrec.cli.sources import FileSource, SyntheticSource
    from mxrec.cli.workflow import TrainOptions, evaluate_run, quiet_tensorflow, run_training

    if arguments.command == "demo" and arguments.write_tsv is not None:
        SyntheticSource(arguments.impressions, arguments.seed, arguments.holdout).write_tsv(
            arguments.write_tsv
        )
        print(f"Wrote {arguments.impressions:,} impressions to {arguments.write_tsv}")
        return 0
    quiet_tensorflow()
    require_estimator()
    if arguments.command == "evaluate":
        evaluate_run(arguments.out, make_console(plain=True), as_json=arguments.json)
        return 0
    if not arguments.no_plot:
        require_plotting()
    source: SyntheticSource | FileSource
    if arguments.command == "demo":
        source = SyntheticSource(arguments.impressions, arguments.seed, arguments.holdout)
        epochs, batch_size = 1, arguments.batch_size
    else:
        source = FileSource(
            arguments.data, arguments.label, arguments.holdout, arguments.timestamp_column
        )
        rows = source.train_rows
        # Time goes on once: in a second pass its early keys would be old as soon as they come.
        once = source.has_timestamps and arguments.evict_after is not None
        passes = 1 if once else min(_MOST_EPOCHS, max(1, -(-_SMALL_FILE // rows)))
        epochs = arguments.epochs or passes
        batch_size = arguments.batch_size or min(4096, max(128, rows // 200))
    options = TrainOptions(
        out=arguments.out,
        batch_size=batch_size,
        epochs=epochs,
        dim=arguments.dim,
        optimizer=arguments.optimizer,
        sparse_learning_rate=arguments.sparse_learning_rate,
        dense_learning_rate=arguments.dense_learning_rate,
        seed=arguments.seed,
        admission=arguments.admission,
        evict_after=arguments.evict_after,
        plot=not arguments.no_plot,
        rewrite=not arguments.no_rewrite,
    )
    run_training(source, options, make_console(arguments.plain))
    return 0
