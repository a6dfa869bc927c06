"""The calls of a table that are about its tiers, and what it says of itself."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxrec import _mxrec
from mxrec._engine_calls import EngineCalls
from mxrec._fields import integer
from mxrec._ssd_paths import directories

Keys = NDArray[np.int64] | NDArray[np.int32]


def tier_options(
    memory_rows: int | None, ssd_rows: int, ssd_paths: Sequence[str | os.PathLike[str]] | None
) -> dict[str, Any]:
    """Gives checked sizes and paths, as the engine takes them.

    Raises:
        TypeError: One has the wrong type.
        ValueError: One is out of its range, or is given without what it needs.
        OSError: A directory is not there, or cannot be written.
    """
    memory = None if memory_rows is None else integer("memory_rows", memory_rows, 1, 2**62)
    ssd = integer("ssd_rows", ssd_rows, 0, _mxrec.MAX_SSD_ROWS)
    if ssd == 0 and ssd_paths is not None:
        raise ValueError(
            f"ssd_paths={ssd_paths!r} needs ssd_rows, got 0; set it to the rows beyond "
            "memory_rows, or leave ssd_paths out"
        )
    if ssd > 0 and memory is None:
        raise ValueError(
            f"ssd_rows={ssd} needs memory_rows, got None: rows leave a memory that has a limit. "
            "Set it to the rows that memory is to hold"
        )
    paths = directories("ssd_paths", ssd_paths) if ssd > 0 else []
    return {"memory_rows": memory, "ssd_rows": ssd, "ssd_paths": paths}


class TierCalls(EngineCalls):
    """Part of ``mxrec.Table``."""

    @property
    def memory_rows(self) -> int | None:
        """Rows that memory holds; None: without limit."""
        return self._engine.memory_rows

    @property
    def ssd_rows(self) -> int:
        """Rows that the SSD tier holds; 0: there is none."""
        return self._engine.ssd_rows

    @property
    def ssd_paths(self) -> tuple[str, ...]:
        """Directories of the SSD tier, absolute; empty where there is none."""
        return tuple(self._engine.ssd_paths)

    @property
    def capacity(self) -> int | None:
        """Rows in all tiers together; None: without limit."""
        return self._engine.capacity

    def prefetch(self, keys: Keys) -> None:
        """Begins to read rows that are on SSD, for a batch to come, and returns at once.

        The batch then does not wait for the disk, or less. Neither rows nor results depend on it;
        it does nothing without an SSD tier, and for keys whose row is in memory or that have none.
        What has been read ahead and is not needed yet is at most a quarter of ``memory_rows``,
        within [4096, 2**20] rows; of more than 16 calls whose keys wait to be read, the first are
        dropped. An error of the disk is left to the batch.

        Args:
            keys: int64 or int32 [n].
        """
        self._engine.prefetch(keys)

    def stats(self) -> dict[str, Any]:
        """Gives counts and sizes.

        Returns:
            ``rows``, ``capacity`` (None: without limit), ``bytes`` (held from the operating system:
            the sum of ``bytes_rows``, ``bytes_metadata``, ``bytes_index``, ``bytes_admission``,
            ``bytes_hot``, ``bytes_staged``, rows read ahead from SSD, and ``bytes_save_images``,
            rows kept as they were for a save under way),
            ``load`` (occupied fraction of the index), ``segments``, and since the creation of the
            table: ``seen`` (keys of lookups, repetitions included: the sum of
            ``hits``, which had a row when the call began, and ``misses``, which had none),
            ``inserts``, ``erased``, ``refused`` (distinct keys of a batch that got no row: the sum
            of ``refused_by_capacity``, a full table, and ``refused_by_admission``), ``admitted``
            (keys that got a row in a training lookup), ``evicted`` (rows: the sum of
            ``evicted_by_age``, ``evicted_by_rows`` and ``evicted_by_l2``),
            ``skipped_gradients``, ``growth_events`` (segments of the index that were split),
            ``growth_micros`` (microseconds that this took, in all threads),
            ``longest_growth_micros`` (that the longest split took), ``optimizer_step`` (which a
            restore sets) and ``updates`` (steps of the optimizer); also ``num_shards`` and
            ``value_dtype``; ``hot_rows`` (rows that have a copy among the hot ones now),
            ``bytes_hot`` (held for the copies and what finds them) and ``hot_hits`` (of ``hits``,
            those that a copy served).
            ``prepared_lookups`` (training lookups whose keys the input
            pipeline had prepared), ``prepared_waiting`` and ``prepared_dropped`` (batches prepared
            and not yet, or never, looked up). Of admission and eviction also
            ``admission_threshold`` (in force; None: there is none), ``admission_frozen``,
            ``counted_keys`` (with a count and no row; a sketch does not know),
            ``bytes_admission``, ``latest_time`` (of training, in seconds; 0: none) and
            ``evicting`` (a sweep is under way).

            ``tiers`` is None without an SSD tier, else a dict of two. ``memory``: ``rows``,
            ``capacity``, ``promoted`` (rows that came from SSD because a batch needed them),
            ``promoted_staged`` (those of them that had been read ahead), ``staged_rows`` and
            ``bytes_staged`` (read ahead and not yet needed). ``ssd``: ``rows``, ``capacity``,
            ``spilled`` (rows that came from memory), ``read_in_place`` (rows read by lookups with
            ``train=False``), ``bytes_index`` (what memory holds about them), ``read_requests``,
            ``bytes_read``, ``bytes_written`` (compaction's included), ``bytes_on_disk``, of which
            rows need ``bytes_live``, ``path_bytes`` (by path), ``compacted_rows``, ``wait_seconds``
            (of batches, for space), ``errors`` (rows that could not be read),
            ``background_error`` (None: there was none), ``uses_io_uring``, ``why_no_io_uring``
            (None where it is used) and ``direct_io`` (on all paths). ``mxrec.tier_advice`` says
            what follows from them.
        """
        return self._open().stats()
