"""Which data each table holds, so that what is there already is not read again."""

from __future__ import annotations

import time
from typing import Any, NamedTuple


class _State(NamedTuple):
    engine: Any  # keeps it alive, so that a later table cannot be taken for it
    uid: str
    version: int
    optimizer: str  # kind; a table with another one needs other slots of the same version
    lost: int  # rows that its disks had failed to give


# The data that each table was last saved to or restored from, by the table's name: a table that is
# in the wanted state already is not read again. The engine's version counter changes with every
# change of the rows.
_states: dict[str, _State] = {}


def note(name: str, engine: Any, uid: str, version: int) -> None:
    """Notes that a table holds exactly the data of a uid.

    Args:
        name: of the table.
        engine: the ``_mxrec.Table``.
        uid: of the data.
        version: ``engine.version`` when it did.
    """
    _states[name] = _State(engine, uid, version, engine.optimizer.kind, lost_rows(engine))


def lost_rows(engine: Any) -> int:
    """How many rows of a table's SSD tier could not be read so far, each time counted.

    Args:
        engine: the ``_mxrec.Table``.
    """
    return int(engine.stats()["tiers"]["ssd"]["errors"]) if engine.ssd_rows > 0 else 0


def is_current(name: str, engine: Any, uid: str, tracks: bool) -> bool:
    """Whether a table holds exactly the data of a uid.

    Args:
        name: of the table.
        engine: the ``_mxrec.Table``.
        uid: of the data.
        tracks: also that it counts its changes from there.
    """
    state = _states.get(name)
    return (
        state is not None
        and state.engine == engine
        and state.uid == uid
        and state.version == engine.version
        and state.optimizer == engine.optimizer.kind
        # Whoever restores may do so because rows cannot be read any more.
        and state.lost == lost_rows(engine)
        # Deltas are to follow: then the table must count its changes from there.
        and (not tracks or engine.lineage == uid)
    )


def forget(name: str) -> None:
    """Says that it is not known any more what a table holds.

    Args:
        name: of the table.
    """
    _states.pop(name, None)


# By table name: its engine, and what its latest save and restore took.
_seconds: dict[str, tuple[Any, dict[str, float]]] = {}


def seconds_of(name: str, engine: Any) -> dict[str, float]:
    """What the latest "save" and "restore" of a table took in this process, where there were any.

    Args:
        name: of the table.
        engine: the ``_mxrec.Table``.
    """
    known, seconds = _seconds.get(name, (None, {}))
    return {} if known is None or known != engine else dict(seconds)


def note_seconds(name: str, engine: Any, what: str, started: float) -> None:
    """Notes what a "save" or "restore" took that began at ``time.monotonic() == started``."""
    known, seconds = _seconds.get(name, (None, {}))
    if known is None or known != engine:
        seconds = {}
        _seconds[name] = engine, seconds
    seconds[what] = time.monotonic() - started
