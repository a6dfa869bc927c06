"""While a model is exported, its lookups are built to read frozen tables."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mxrec.tf.serving.freezer import Freezer

_current: contextvars.ContextVar[Freezer | None] = contextvars.ContextVar("freezer", default=None)


def current() -> Freezer | None:
    """Returns what freezes lookups that are built here; None: nothing does."""
    return _current.get()


@contextlib.contextmanager
def freezing(freezer: Freezer) -> Iterator[None]:
    """Makes lookups that the body builds read the tables as they are now."""
    token = _current.set(freezer)
    try:
        yield
    finally:
        _current.reset(token)
