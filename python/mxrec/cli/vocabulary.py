"""Rows of static tables: what a model without growing tables needs before training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mxrec.cli.examples import Examples


class StaticVocabulary:
    """Maps the keys of each column to [0, rows); keys unseen in training get the last id."""

    def __init__(self, train: Examples) -> None:
        """Collects the keys of each column.

        Args:
            train: all examples to train on.
        """
        columns = range(train.keys.shape[1])
        self._known: list[npt.NDArray[np.int64]] = [np.unique(train.keys[:, c]) for c in columns]

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each column's table, the one of unseen keys included."""
        return tuple(len(known) + 1 for known in self._known)

    def __call__(self, examples: Examples) -> Examples:
        """Returns the examples with ids in place of keys."""
        ids = np.empty_like(examples.keys)
        for column, known in enumerate(self._known):
            keys = examples.keys[:, column]
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            ids[:, column] = np.where(known[place] == keys, place, len(known))
        return replace(examples, keys=ids)
