"""What to say where versions are looked for and something else is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import naming

TABLE_MANIFEST = "manifest"  # of a table's directory
_SHOWN = 5
_LEVELS = 2  # of sub-directories in which versions and tables are looked for
_ENTRIES = 1000  # of each of them that are looked at
_PLACES = 100  # sub-directories that are looked at
_FIX = (
    "Checkpoints of other programs, those of the original mxRec among them, cannot be read. "
    "Restore one that mxrec saved; or export keys and embeddings where they were made, and give "
    "them to an mxrec.Table with assign() and save that."
)


def described(path: str, names: Sequence[str]) -> str:
    """The error of a directory that has no manifest and that mxrec has not written.

    Args:
        path: of the directory.
        names: of what is in it.
    """
    return (
        f"{path} was not written by mxrec: it has no {naming.MANIFEST_NAME}, as each version of "
        f"mxrec has; what is there is {_listed(names)}. {_FIX}"
    )


def problem_of(path: str) -> str | None:
    """The same of a local directory that stands where a version should.

    Args:
        path: of the directory.

    Returns:
        None: there is nothing, a version, or a table of mxrec (whose version is incomplete).
    """
    if not os.path.isdir(path) or manifests.is_there(path):
        return None
    names = sorted(os.listdir(path))
    tables = [os.path.join(path, name, TABLE_MANIFEST) for name in names]
    if not names or any(map(os.path.isfile, tables)):
        return None
    return described(path, names)


def why_no_version(directory: str) -> str:
    """Why there is no complete version in a local directory, and what to do.

    Args:
        directory: in which no version was found.
    """
    if not os.path.isdir(directory):
        what = "is a file" if os.path.exists(directory) else "is not there"
        return f"{directory} {what}; name the directory in which versions were saved."
    if manifests.is_there(directory):
        parent = os.path.dirname(os.path.abspath(directory))
        return f"{directory} is a version itself; name the directory that it is in, {parent}."
    if os.path.isfile(os.path.join(directory, TABLE_MANIFEST)):
        return (
            f"{directory} is what Table.save wrote of one table, no directory of versions; read it "
            "with mxrec.Table.load."
        )
    names = sorted(os.listdir(directory))
    if not names:
        return f"{directory} is empty: there is no version. Save one, or name another directory."
    for place in (directory, *(os.path.join(directory, name) for name in names)):
        name = os.path.basename(os.path.abspath(place))
        sparse = name.startswith(naming.SPARSE_PREFIX) and not naming.is_passing(name)
        if sparse and (problem := problem_of(place)) is not None:
            return problem
    if (below := what_is_below(directory)) is not None:
        return f"{directory} has no version itself, but {below}"
    if not any(_may_be_ours(name) for name in names):
        return (
            f"{directory} was not written by mxrec: looked for versions, v000001-step-N or "
            f"{naming.SPARSE_PREFIX}NAME with a {naming.MANIFEST_NAME}; what is there is "
            f"{_listed(names)}. {_FIX}"
        )
    return f"{directory} has no complete version. Save one first, or name another directory."


def why_no_table(directory: str) -> str:
    """What a local directory is that has no saved table, and what to do.

    Args:
        directory: that has no file ``manifest``.
    """
    if not os.path.isdir(directory):
        what = "is a file" if os.path.exists(directory) else "is not there"
        return f"{directory} {what}; name the directory that Table.save was given."
    names = sorted(os.listdir(directory))
    if naming.MANIFEST_NAME in names or any(_may_be_ours(name) for name in names):
        return (
            f"{directory} holds versions of tables, as mxrec.save and Savers write them: make the "
            "tables and read them with mxrec.restore, or name the directory of one table in a full "
            "version."
        )
    if (below := what_is_below(directory)) is not None:
        return f"{directory} is no table itself, but {below}"
    return f"What is there is {_listed(names)}. {_FIX}" if names else f"{directory} is empty."


def what_is_below(directory: str) -> str | None:
    """Where mxrec's versions lie in the sub-directories, or else its tables; None: neither does.

    Args:
        directory: of which two levels are looked at.
    """
    versions, tables = [], []
    for place in itertools.islice(_below(directory, _LEVELS), _PLACES):
        if os.path.isfile(os.path.join(place, TABLE_MANIFEST)):
            tables.append(place)
        elif any(map(manifests.is_there, _folders(place))):
            versions.append(place)
    which = "that directory" if len(versions or tables) == 1 else "one of these directories"
    if versions:
        return (
            f"versions that mxrec saved lie in {_listed(sorted(versions))}; name {which} to "
            "mxrec.restore or mxrec checkpoint."
        )
    if tables:
        return (
            f"tables that Table.save wrote lie in {_listed(sorted(tables))}; name {which} to "
            "mxrec.Table.load or mxrec inspect."
        )
    return None


def _below(directory: str, levels: int) -> Iterator[str]:
    """Sub-directories, the nearer ones first; not versions, complete or not, and what is there."""
    places = [directory]
    for _ in range(levels):
        found = (folder for place in places for folder in _folders(place))
        places = [
            folder
            for folder in itertools.islice(found, _ENTRIES)
            if not _may_be_ours(os.path.basename(folder))
        ]
        yield from places


def _folders(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [e.path for e in itertools.islice(entries, _ENTRIES) if e.is_dir()]
    except OSError:  # what cannot be read cannot be named as the fix; the caller has its own error
        return []


def _may_be_ours(name: str) -> bool:
    place = name.split(".tmp-")[0].split(".old-")[0]
    return place.startswith(naming.SPARSE_PREFIX) or naming.parse_numbered(place) is not None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
