"""Which part of a graph a rewriting was at when it failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_ATTRIBUTE = "_mxrec_failed_at"


@contextmanager
def failing_at(what: str) -> Iterator[None]:
    """Has errors of the block know what they are about; the innermost block counts.

    Args:
        what: an op or a lookup, for people.
    """
    try:
        yield
    except Exception as error:
        if not hasattr(error, _ATTRIBUTE):
            setattr(error, _ATTRIBUTE, what)
        raise


def failed_at(error: BaseException, lookups: Iterable[str]) -> str:
    """Returns what an error is about, for people.

    Args:
        error: caught outside ``failing_at``.
        lookups: names of all lookups of the rewriting, for an error that is about no part.
    """
    known: Any = getattr(error, _ATTRIBUTE, None)
    return str(known) if known else f"what all lookups share ({names_of(lookups)})"


def names_of(lookups: Iterable[str]) -> str:
    """Returns names of lookups in a row, for people."""
    return ", ".join(dict.fromkeys(repr(name) for name in lookups)) or "there are none"
