"""Reads only what is a regular file: a FIFO waits for ever, a device has no end.

Directories of versions may come from elsewhere; a link in a version may lead anywhere.
"""

from __future__ import annotations

import os
import stat

from mxrec.errors import DataLossError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def check(path: str) -> None:
    """Checks that a file of a version is one, in the version's own directory.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: there is nothing.
        DataLossError: it is something else, or a symbolic link; it is named.
    """
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise DataLossError(
            f"{path} is a symbolic link, to {os.readlink(path)}: a version has all its files in "
            "its own directory. Put what it leads to in its place; the directory as a whole may be "
            "a link."
        )
    _check_mode(path, mode)


def read(path: str, at_most: int = -1, *, links: bool = False) -> bytes:
    """Reads a file.

    Args:
        path: of the file.
        at_most: bytes to read; -1: all.
        links: it may be a symbolic link.

    Raises:
        FileNotFoundError: there is nothing.
        DataLossError: it is no regular file; it is named.
        OSError: it cannot be read.
    """
    if links:
        _check_mode(path, os.stat(path).st_mode)
    else:
        check(path)
    # Once more what has been opened: something else may have taken its place.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    with open(os.open(path, flags), "rb") as file:
        _check_mode(path, os.fstat(file.fileno()).st_mode)
        return file.read(at_most)


def _check_mode(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
        raise DataLossError(f"{path} is {kind}, no regular file: no save has written it.")
