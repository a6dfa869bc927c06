"""The calls of a table that are about admission and eviction."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from mxrec._engine_calls import EngineCalls
from mxrec._fields import integer
from mxrec.admission import MAX_THRESHOLD
from mxrec.histograms import Histograms, histograms_of

Keys = NDArray[np.int64] | NDArray[np.int32]


class AdmissionCalls(EngineCalls):
    """Part of ``mxrec.Table``."""

    _may_be_closed_to_all: bool = False

    def counts(self, keys: Keys) -> NDArray[np.int64]:
        """Tells how often keys were used in training.

        Each occurrence counts the coefficient of ``admission``. Counts go with their key when it is
        evicted or erased, and stop at 2**32 - 1. With ``admission`` keys that have no row yet have
        a count as well: an exact one, or an estimate that is seldom too large (``Admission``).

        Args:
            keys: int64 or int32 [n].

        Returns:
            int64 [n]; 0 for a key that was never seen.
        """
        return self._engine.counts(keys)

    def set_threshold(self, n: int) -> None:
        """Changes the threshold of admission from the next batch on.

        Counts stay as they are, and rows that are there stay.

        Args:
            n: The new threshold, in [1, 2**31 - 1], with mode "sketch" at most 15; 0 keeps the
                threshold and stops counting.

        Raises:
            ValueError: ``n`` is out of its range.
            RuntimeError: The table has no admission.
        """
        self._engine.set_threshold(integer("n", n, 0, MAX_THRESHOLD))

    def evict(self, now: int | None = None, budget: int | None = None) -> int:
        """Applies the rules of ``eviction``.

        What is too old at ``now`` is gone for every caller when this returns, whatever the budget:
        its row, what the optimizer remembers, its count; a later lookup starts afresh. Rows beyond
        ``max_rows`` and below ``min_l2`` go when the sweep comes to them. The sweep frees memory:
        up to ``budget`` rows of this call, the others when training lookups follow, each as many as
        it has keys.

        Args:
            now: Seconds in [0, 2**32); the table's latest timestamp if that is later. None: the
                latest timestamp or, where training gave none, the wall clock.
            budget: Rows that this call frees at most, at least 0; None: all.

        Returns:
            The rows that this call freed.

        Raises:
            ValueError: ``now`` or ``budget`` is out of its range.
            RuntimeError: The table has no rule of eviction.
        """
        return self._engine.evict(
            None if now is None else integer("now", now, 0, 2**32 - 1),
            None if budget is None else integer("budget", budget, 0, 2**62),
        )

    def _warn_if_closed_to_all(self, train: bool) -> None:
        # A threshold of 0 goes by counts that a restore brings.
        if not self._may_be_closed_to_all or not train:
            return
        self._may_be_closed_to_all = False
        if self._engine.stats()["admission_threshold"] is None:
            warnings.warn(
                f"table {self._engine.name!r} has admission threshold 0 and no restored counts: no "
                "key is admitted. Load a saved table, or give it a threshold above 0.",
                stacklevel=3,
            )

    def histograms(self) -> Histograms:
        """Counts the rows by their frequency and by their age.

        Every row is read, embedding and all: some seconds for 10 million rows. The table may be
        used and changed meanwhile; a row that is there throughout is counted once.

        Returns:
            ``edges``, int64 [34]: 0, 1, 2, 4, ..., 2**32; ``frequencies`` and ``ages``, int64 [33]:
            bin i counts the rows whose value is in [edges[i], edges[i + 1]). The frequency of a row
            is what ``counts`` gives; its age is the seconds from its last training use to the
            table's latest one. Rows that training never used have no age.
        """
        return histograms_of(self._open())
