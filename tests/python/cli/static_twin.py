"""Trains the demo's model on mxrec tables or on static variables, on the same examples."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mxrec.cli import training
from mxrec.cli.config import ModelConfig
from mxrec.cli.console import PlainConsole
from mxrec.cli.examples import Examples


def train_and_evaluate(
    config: ModelConfig,
    scaler: training.NumericScaler,
    train: Examples,
    holdout: Examples,
    *,
    epochs: int,
    batch_size: int,
    directory: Path,
) -> training.Evaluation:
    """Trains for some passes and evaluates on the held-out examples."""
    from mx_rec.util.initialize import init, terminate_config_initializer

    has_tables = config.static_rows is None
    with contextlib.ExitStack() as stack:
        if has_tables:
            init(use_dynamic=True, use_dynamic_expansion=True)
            stack.callback(terminate_config_initializer)
        total = len(train) * epochs
        training.train(
            config,
            directory,
            training.Input(
                lambda: [train] * epochs, config, scaler, batch_size, shuffle_seed=config.seed
            ),
            total=total,
            batch_size=batch_size,
            progress=PlainConsole().progress("train", total),
            table_rows=lambda: 0,
            rewrite=has_tables,
        )
        held = training.Input(lambda: [holdout], config, scaler, batch_size)
        return training.evaluate(config, directory, held, rewrite=has_tables)
