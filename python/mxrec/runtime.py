"""What a process has once: the gather mode, and what the engine says of itself."""

from typing import Any

from mxrec import _mxrec

GATHER_MODES = ("high_performance", "high_precision")
DEFAULT_GATHER_MODE = GATHER_MODES[0]


def set_gather_mode(mode: str) -> None:
    """Sets how lookups move rows, for all tables of this process. Values do not depend on it.

    Args:
        mode: ``"high_performance"``, the default: the vector kernels of this machine's instruction
            set, prefetching, and for outputs beyond the caches stores that go past them; or
            ``"high_precision"``: plain loops.

    Raises:
        TypeError: ``mode`` is no string.
        ValueError: ``mode`` is neither of the two.
    """
    allowed = f"mode must be one of {', '.join(map(repr, GATHER_MODES))}"
    if not isinstance(mode, str):
        raise TypeError(f"{allowed}, got {mode!r} ({type(mode).__name__})")
    if mode not in GATHER_MODES:
        raise ValueError(f"{allowed}, got {mode!r}")
    _mxrec.set_gather_mode(mode)


def gather_mode() -> str:
    """Gives the gather mode in use, ``"high_performance"`` or ``"high_precision"``."""
    return _mxrec.gather_mode()


def stats() -> dict[str, Any]:
    """Says how this process works: kernels, threads, and the tables that it has.

    Returns:
        ``version``; ``kernel_target``, the instruction set that was chosen for this machine
        (``"SSE4"``, ``"AVX2"``, ``"AVX3"`` (AVX-512), ``"NEON"``, ...); ``gather_mode``;
        ``gather_kernel``, what moves the rows of a lookup: the instruction set, or ``"plain"`` in
        ``high_precision``; ``streaming_bytes``, the size of a lookup's output from which on it is
        written past the caches (None in ``high_precision``: never); ``num_threads``;
        ``thread_binding`` (bool); ``tables``, the ``Table.stats()`` of each open table that the
        TensorFlow ops know (those of ``create_table``), by name.
    """
    mode = _mxrec.gather_mode()
    vector = mode == "high_performance"
    target = _mxrec.kernel_target()
    tables = ((name, _mxrec.find_table(name)) for name in _mxrec.registered_tables())
    return {
        "version": _mxrec.version(),
        "kernel_target": target,
        "gather_mode": mode,
        "gather_kernel": target if vector else "plain",
        "streaming_bytes": _mxrec.streaming_threshold_bytes() if vector else None,
        "num_threads": _mxrec.num_threads(),
        "thread_binding": _mxrec.thread_binding(),
        "tables": {
            name: table.stats() for name, table in tables if table is not None and not table.closed
        },
    }
