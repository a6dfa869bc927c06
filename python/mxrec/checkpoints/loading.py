"""Makes tables of what is saved."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mxrec import _mxrec

# What a saved table says of itself that its constructor takes.
_SAVED_OPTIONS = (
    "name",
    "dim",
    "memory_rows",
    "seed",
    "optimizer",
    "initializer",
    "padding_keys",
    "value_dtype",
    "stochastic_rounding",
    "admission",
    "eviction",
)


def load(directories: str | Sequence[str], **options: Any) -> _mxrec.Table:
    """Loads a table; the saved options are those that are not given.

    Args:
        directories: of a saved table; or of the table in the full version, in the deltas since, its
            own.
        **options: of ``_mxrec.Table``.

    Raises:
        OSError: a file is damaged or cannot be read.
        MemoryError: the table does not fit into memory or into its tiers.
    """
    links = [directories] if isinstance(directories, str) else list(directories)
    saved = _mxrec.read_checkpoint_info(links[-1])
    table = _mxrec.Table(**{name: saved[name] for name in _SAVED_OPTIONS} | options)
    try:
        table.restore(links)
    except BaseException:
        table.close()
        raise
    return table


def empty_twin(engine: _mxrec.Table) -> _mxrec.Table:
    """A new table without rows that has the options of another one, all in memory.

    Args:
        engine: the other one.
    """
    return _mxrec.Table(
        **{name: getattr(engine, name) for name in _SAVED_OPTIONS if name != "memory_rows"}
    )


@contextlib.contextmanager
def loaded_for_a_while(
    directories: Sequence[str], recorded: Mapping[str, Any] | None
) -> Iterator[_mxrec.Table]:
    """Loads a table, and closes it at the end.

    Args:
        directories: as for ``load``.
        recorded: what its version says of its tiers: it gets as much memory as it had, and an SSD
            tier in the directory for temporary files. None: all rows are in memory.

    Raises:
        OSError: a file is damaged or cannot be read.
        MemoryError: the table does not fit into memory or into its tiers.
    """
    with contextlib.ExitStack() as stack:
        sizes: dict[str, Any] = {}
        if recorded is not None:
            tiers = recorded["tiers"]
            sizes = {f"{tier}_rows": tiers[tier]["capacity"] for tier in ("memory", "ssd")}
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="mxrec-"))
            sizes["ssd_paths"] = [place]
        table = load(directories, **sizes)
        stack.callback(table.close)
        yield table
