"""The file operations that change a directory of versions, one function each.

Every change that a save makes on disk, apart from the bytes that the engine writes into a new
table directory, goes through this module, so that a test can stop a save before any of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

Watcher = Callable[[str, str], None]

_watcher: Watcher | None = None


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Has ``watcher`` called with (operation, path) before each operation in the body.

    What it raises comes out of the operation, which is then not done.

    Args:
        watcher: called from any thread that saves.
    """
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


def about_to(operation: str, path: str) -> None:
    """Tells the watcher, if there is one, of an operation that is done elsewhere.

    Args:
        operation: what, in one word.
        path: where.
    """
    if _watcher is not None:
        _watcher(operation, path)


def make_directory(path: str) -> None:
    """Makes a directory whose parent exists. FileExistsError if something is there."""
    about_to("mkdir", path)
    os.mkdir(path)


def make_directories(path: str) -> None:
    """Makes a directory and those above it, where they are not there."""
    if not os.path.isdir(path):
        about_to("mkdir", path)
        os.makedirs(path, exist_ok=True)


def write_file(path: str, data: bytes) -> None:
    """Writes a file and syncs it; its directory is for the caller to sync."""
    about_to("write", path)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        about_to("sync", path)
        os.fsync(file.fileno())


def sync_file(path: str) -> None:
    """Syncs a file that another has written."""
    about_to("sync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Syncs a directory: the names in it, not the files."""
    about_to("sync", path)
    descriptor = os.open(path or os.curdir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: str, target: str) -> None:
    """Renames a file or directory; a file or an empty directory at the target is replaced."""
    about_to("rename", target)
    os.rename(source, target)


def link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where the file system has no links."""
    about_to("link", target)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copy2(source, target)


def remove_file(path: str) -> None:
    """Removes a file; none there is no error."""
    about_to("remove", path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def remove_tree(path: str) -> None:
    """Removes a directory and what is in it; none there is no error."""
    if os.path.lexists(path):
        about_to("remove", path)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
