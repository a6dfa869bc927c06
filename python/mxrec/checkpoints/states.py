"""Which data each table holds, so that what is there already is not read again."""

from __future__ import annotations

from typing import Any, NamedTuple


class _State(NamedTuple):
    engine: Any  # keeps it alive, so that a later table cannot be taken for it
    uid: str
    version: int
    optimizer: str  # kind; a table with another one needs other slots of the same version


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
    _states[name] = _State(engine, uid, version, engine.optimizer.kind)


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
        # Deltas are to follow: then the table must count its changes from there.
        and (not tracks or engine.lineage == uid)
    )


def forget(name: str) -> None:
    """Says that it is not known any more what a table holds.

    Args:
        name: of the table.
    """
    _states.pop(name, None)
