"""Names in a directory of versions.

``v000012-step-3400`` is the version that was saved twelfth there, at step 3400; the number decides
what is newest. A TensorFlow checkpoint ``model-200`` has its version directory beside it, in
``sparse-model-200``. ``NAME.tmp-<host>-<pid>…`` is unfinished or about to be deleted and never
read; ``NAME.old-<host>-<pid>…`` is what was there before the directory NAME.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import socket
from typing import NamedTuple

from mxrec.checkpoints import files

MANIFEST_NAME = "checkpoint-manifest.json"
SPARSE_PREFIX = "sparse-"

_NUMBERED = re.compile(r"v(\d{6,18})-step-(0|[1-9]\d{0,18})")
_UNFINISHED = re.compile(r".+\.tmp-(?P<host>.+)-(?P<pid>\d+)\.\d+")
_OF_TENSORFLOW = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})")
_MAX_TABLE_DIRECTORY = 200

_counter = itertools.count()
_ours: set[str] = set()  # unfinished directories that this process is working on


class Numbered(NamedTuple):
    """What the name of a numbered version says.

    Attributes:
        serial: versions of the directory are numbered in the order in which they were saved.
        step: its step.
    """

    serial: int
    step: int


def numbered_name(serial: int, step: int) -> str:
    """The name of a version in a directory of numbered versions."""
    return f"v{serial:06d}-step-{step}"


def parse_numbered(name: str) -> Numbered | None:
    """What a name says; None: it is not that of a numbered version."""
    match = _NUMBERED.fullmatch(name)
    return Numbered(int(match[1]), int(match[2])) if match else None


def prefix_of_file(name: str) -> str | None:
    """The prefix of the TensorFlow checkpoint that a file is part of by its name, or None."""
    match = _OF_TENSORFLOW.fullmatch(name)
    return None if match is None else match[1]


def is_passing(name: str) -> bool:
    """Whether a name is that of an unfinished or replaced version, not of one in its place."""
    return ".tmp-" in name or ".old-" in name


def is_component(name: str) -> bool:
    """Whether a name is one component of a path and stays in its directory."""
    return (
        bool(name) and len(name) <= 255 and name not in (".", "..") and not set(name) & {"/", "\0"}
    )


def table_directory(name: str) -> str:
    """The directory of a table in a version directory.

    Letters, digits, ``_`` and ``.`` stand for themselves, any other byte of the name in UTF-8 is
    ``%XX``; a name that would be longer than 200 bytes is cut and ends in a hash.

    Args:
        name: the table's name.
    """
    kept = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."
    raw = name.encode("utf-8", "surrogatepass")
    if set(raw) <= {ord(".")}:
        kept = b""
    encoded = "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in raw)
    if len(encoded) > _MAX_TABLE_DIRECTORY:
        encoded = encoded[:150] + "%~" + hashlib.sha256(raw).hexdigest()[:32]
    return encoded


def unfinished(path: str) -> str:
    """A new name for the unfinished version that is to become ``path``.

    ``forget_unfinished`` must follow, when the directory is gone or has its name.
    """
    made = f"{path}.tmp-{_owner()}"
    _ours.add(os.path.abspath(made))
    return made


def forget_unfinished(path: str) -> None:
    """Says that this process does not work on an unfinished version any more."""
    _ours.discard(os.path.abspath(path))


def replaced(path: str) -> str:
    """A new name for the version that is at ``path`` and about to be replaced."""
    return f"{path}.old-{_owner()}"


def place_of(name: str) -> str:
    """The name that a version had before it was set aside; of others their own."""
    return name.split(".old-")[0]


def put_back(directory: str) -> None:
    """Gives versions their names back that a process set aside, and died before it replaced them.

    Args:
        directory: of versions, where nobody saves.
    """
    for entry in sorted(os.listdir(directory), reverse=True):
        place = os.path.join(directory, place_of(entry))
        if place_of(entry) != entry and not os.path.lexists(place):
            files.rename(os.path.join(directory, entry), place)


def siblings(path: str, suffix: str) -> list[str]:
    """Directories beside ``path`` whose name begins with its own and ``suffix``, sorted."""
    parent, name = os.path.split(path)
    if not os.path.isdir(parent or os.curdir):
        return []
    found = sorted(e for e in os.listdir(parent or os.curdir) if e.startswith(name + suffix))
    return [os.path.join(parent, entry) for entry in found]


def remove_unfinished(path: str) -> None:
    """Removes what saves to ``path`` have left, of other machines too: nobody else saves there.

    Args:
        path: of a version.
    """
    for leftover in siblings(path, ".tmp-"):
        if os.path.abspath(leftover) not in _ours:
            files.remove_tree(leftover)


def remove_leftovers(directory: str) -> None:
    """Removes what processes of this machine that are gone have left unfinished.

    Args:
        directory: of versions.
    """
    if not os.path.isdir(directory or os.curdir):
        return
    for entry in sorted(os.listdir(directory or os.curdir)):
        match = _UNFINISHED.fullmatch(entry)
        path = os.path.join(directory, entry)
        if match is None or os.path.abspath(path) in _ours or match["host"] != socket.gethostname():
            continue
        pid = int(match["pid"])
        if pid == os.getpid() or not _is_alive(pid):
            files.remove_tree(path)


def discard(path: str) -> None:
    """Removes a version: it is unfinished at once, then it goes.

    Args:
        path: a version directory; none there is no error.
    """
    if not os.path.lexists(path):
        return
    passing = unfinished(path)
    try:
        files.rename(path, passing)
        files.remove_tree(passing)
    finally:
        forget_unfinished(passing)


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}.{next(_counter)}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
