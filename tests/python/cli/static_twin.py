"""Trains the demo's model on mxrec tables or on static variables, on the same examples."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mxrec.cli import training
from mxrec.cli.config import ModelConfig
from mxrec.cli.console import PlainConsole
from mxrec.cli.examples import Examples


class StaticVocabulary:
    """Maps the keys of each column to [0, rows); keys unseen in training get the last id."""

    def __init__(self, train: Examples) -> None:
        columns = range(train.keys.shape[1])
        self._known: list[npt.NDArray[np.int64]] = [np.unique(train.keys[:, c]) for c in columns]

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(len(known) + 1 for known in self._known)

    def __call__(self, examples: Examples) -> Examples:
        ids = np.empty_like(examples.keys)
        for column, known in enumerate(self._known):
            keys = examples.keys[:, column]
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            ids[:, column] = np.where(known[place] == keys, place, len(known))
        return replace(examples, keys=ids)


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
        estimator = training.make_estimator(config, directory)
        total = len(train) * epochs
        training.train(
            estimator,
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
        return training.evaluate(estimator, held, rewrite=has_tables)
