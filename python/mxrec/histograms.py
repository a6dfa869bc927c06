"""How often and how long ago the rows of a table were used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mxrec import _mxrec

__all__ = ["Histograms", "histograms_of"]

Histograms = dict[str, NDArray[np.int64]]

_BITS = 32  # of a frequency, and of seconds
_CHUNK_ROWS = 65_536


def histograms_of(engine: _mxrec.Table) -> Histograms:
    """Counts the rows of a table by frequency and by age.

    Args:
        engine: The table. It may be used meanwhile: rows are counted chunk by chunk.

    Returns:
        As ``Table.histograms``.
    """
    frequencies = np.zeros(_BITS + 1, np.int64)
    ages = np.zeros(_BITS + 1, np.int64)
    cursor = (0, 0)
    while True:
        cursor, keys, _, _, frequency, last_time = engine.scan(cursor, _CHUNK_ROWS)
        if len(keys) == 0:
            break
        # Read after the rows, so that none of them is newer.
        latest = engine.stats()["latest_time"]
        assert isinstance(latest, int)
        frequencies += binned(frequency)
        used = last_time[last_time > 0].astype(np.int64)
        ages += binned(np.maximum(latest - used, 0))
    return {
        "edges": np.concatenate([[0], 2 ** np.arange(_BITS + 1, dtype=np.int64)]),
        "frequencies": frequencies,
        "ages": ages,
    }


def binned(values: NDArray[np.uint32] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of 0 and of the values of 1, 2, ... bits."""
    _, bits = np.frexp(values.astype(np.float64))  # exact below 2^53
    return np.bincount(bits, minlength=_BITS + 1).astype(np.int64)
