"""The library's logger."""

from __future__ import annotations

import logging
from collections.abc import Hashable

logger = logging.getLogger("mxrec")

_warned: set[Hashable] = set()


def warn_once(key: Hashable, message: str, *args: object) -> None:
    """Logs a warning, at most once per process and key.

    Args:
        key: what the warning is about.
        message: format string of the message.
        *args: its arguments.
    """
    if key not in _warned:
        _warned.add(key)
        logger.warning(message, *args)


def forget_warnings() -> None:
    """Makes ``warn_once`` forget what it has said."""
    _warned.clear()
