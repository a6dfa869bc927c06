"""Directories of SSD tiers."""

import os
from collections.abc import Sequence

Path = str | os.PathLike[str]


def check_types(parameter: str, paths: Sequence[Path] | None) -> None:
    """Checks that directories are given as a list or tuple, or not at all.

    Args:
        parameter: named in messages.
        paths: what was given for it; None: the working directory.

    Raises:
        TypeError: It is no list or tuple, or holds something else than paths.
        ValueError: It is empty, or a path is.
    """
    if paths is None:
        return
    if not isinstance(paths, (list, tuple)):
        raise TypeError(
            f"{parameter} must be a list or tuple of directories, got {paths!r} "
            f"({type(paths).__name__})."
        )
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"{parameter} must hold directories, got {path!r} ({type(path).__name__})."
            )
        if not os.fspath(path):
            raise ValueError(
                f"{parameter} holds an empty path; name a directory ('.' is the working directory)."
            )
    if not paths:
        raise ValueError(
            f"{parameter} is empty; name at least one directory, or leave it out for the working "
            "directory."
        )


def directories(parameter: str, paths: Sequence[Path] | None) -> list[str]:
    """Gives the directories as absolute paths: the process may change its working directory.

    Args:
        parameter: named in messages.
        paths: in the order in which they are filled; None: the working directory.

    Raises:
        TypeError: They are no list or tuple of paths.
        ValueError: The list is empty, or a path is.
        FileNotFoundError: There is no such directory.
        NotADirectoryError: It is something else.
        PermissionError: This process may not make files in it.
    """
    check_types(parameter, paths)
    found = [os.path.abspath(os.fsdecode(path)) for path in paths or (os.curdir,)]
    for path in found:
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{parameter}: there is no directory {path}; make it, or name another one."
            )
        if not os.path.isdir(path):
            raise NotADirectoryError(
                f"{parameter}: {path} is no directory; name a directory for the files of the SSD "
                "tier."
            )
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(
                f"{parameter}: this process may not make files in {path}; change its mode or "
                "owner, or name another directory."
            )
    return found
