"""What ``mxrec demo``, ``mxrec train`` and ``mxrec evaluate`` do with their arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mxrec.cli.console import Console, make_console
from mxrec.cli.requirements import require_plotting, require_tensorflow

if TYPE_CHECKING:
    from mxrec.cli.sources import Source

_SMALL_FILE = 200_000
_MOST_EPOCHS = 4


def run_demo(arguments: argparse.Namespace) -> int:
    """Trains on generated impressions, or writes them to a file."""
    from mxrec.cli.sources import SyntheticSource

    source = SyntheticSource(arguments.impressions, arguments.seed, arguments.holdout)
    if arguments.write_tsv is not None:
        source.write_tsv(arguments.write_tsv)
        print(f"Wrote {arguments.impressions:,} impressions to {arguments.write_tsv}")
        return 0
    console = _prepare(arguments)
    return _train(arguments, source, 1, arguments.batch_size, console)


def run_train(arguments: argparse.Namespace) -> int:
    """Trains on a file."""
    from mxrec.cli.sources import FileSource

    console = _prepare(arguments)
    source = FileSource(
        arguments.data, arguments.label, arguments.holdout, arguments.timestamp_column
    )
    rows = source.train_rows
    # Time goes on once: in a second pass its early keys would be old as soon as they come.
    once = source.has_timestamps and arguments.evict_after is not None
    passes = 1 if once else min(_MOST_EPOCHS, max(1, -(-_SMALL_FILE // rows)))
    batch_size = arguments.batch_size or min(4096, max(128, rows // 200))
    return _train(arguments, source, arguments.epochs or passes, batch_size, console)


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Evaluates a finished run again."""
    from mxrec.cli.workflow import evaluate_run, quiet_tensorflow

    quiet_tensorflow()
    require_tensorflow()
    evaluate_run(
        arguments.out, make_console(plain=True), arguments.ssd_paths, as_json=arguments.json
    )
    return 0


def _prepare(arguments: argparse.Namespace) -> Console:
    from mxrec.cli.workflow import quiet_tensorflow

    arguments.ssd_paths = _ssd_paths_of(arguments)
    quiet_tensorflow()
    require_tensorflow()
    if not arguments.no_plot:
        require_plotting()
    return make_console(arguments.plain, to_stderr=arguments.json)


def _ssd_paths_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The directories for rows on SSD, absolute; none without such rows.

    Raises:
        DataError: an option is missing that another one needs.
        OSError: a directory is not there, or this process may not make files in it.
    """
    from mxrec import _ssd_paths
    from mxrec.cli.lines import DataError

    if not arguments.ssd_rows:
        if arguments.ssd_paths:
            raise DataError(
                f"--ssd-paths {' '.join(arguments.ssd_paths)} needs --ssd-rows: how many rows of "
                "each table may lie there"
            )
        return ()
    if arguments.memory_rows is None:
        raise DataError(
            f"--ssd-rows {arguments.ssd_rows} needs --memory-rows: rows leave a memory that has a "
            "limit"
        )
    return tuple(_ssd_paths.directories("--ssd-paths", arguments.ssd_paths))


def _train(
    arguments: argparse.Namespace, source: Source, epochs: int, batch_size: int, console: Console
) -> int:
    from mxrec.cli.workflow import TrainOptions, result_of, run_training

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
        memory_rows=arguments.memory_rows,
        ssd_rows=arguments.ssd_rows,
        ssd_paths=arguments.ssd_paths,
        plot=not arguments.no_plot,
        rewrite=not arguments.no_rewrite,
    )
    run_training(source, options, console)
    if arguments.json:
        print(result_of(arguments.out), end="")
    return 0
