"""The chain of a version: the full version that it goes back to, the deltas since, itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from mxrec import _mxrec
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import naming
from mxrec.checkpoints.manifest import Manifest
from mxrec.errors import DataLossError


class Link(NamedTuple):
    """One version of a chain.

    Attributes:
        path: of its directory.
        manifest: of that directory.
    """

    path: str
    manifest: Manifest

    def table(self, name: str) -> str:
        """The directory of a table."""
        return os.path.join(self.path, naming.table_directory(name))

    def __str__(self) -> str:
        return f"{self.path} ({self.manifest.kind}, step {self.manifest.step})"


def read_link(path: str) -> Link:
    """Reads the manifest of a version.

    Args:
        path: of its directory.

    Raises:
        FileNotFoundError: there is no version.
        DataLossError: the manifest is damaged, or the directory has the name of another version.
        ValueError: it is of a later format.
    """
    named = naming.parse_numbered(os.path.basename(path))
    try:
        link = Link(path, manifests.read(path))
    except FileNotFoundError as error:
        if named is None or not os.path.isdir(path):
            raise
        raise DataLossError(f"{path} has lost its {naming.MANIFEST_NAME}.") from error
    if named is not None and named.step != link.manifest.step:
        raise DataLossError(
            f"{path} holds step {link.manifest.step}: the directory was renamed. Give it its name "
            "back, or remove it."
        )
    return link


def resolve(path: str) -> list[Link]:
    """The chain of a version, the full one first.

    Manifests are read, tables are not.

    Args:
        path: of the version's directory.

    Raises:
        FileNotFoundError: there is no version at ``path``.
        DataLossError: a link is missing, damaged, or is not the one that its successor builds on.
        ValueError: a link is of a later format.
    """
    chain = [read_link(path)]
    while (parent := chain[-1].manifest.parent) is not None:
        child = chain[-1]
        found = _parent_of(child, os.path.join(os.path.dirname(child.path), parent.name))
        if any(found.path == link.path for link in chain):
            raise DataLossError(f"{child} builds on {found}, which builds on it: no way to start.")
        chain.append(found)
    return chain[::-1]


def _parent_of(child: Link, path: str) -> Link:
    assert child.manifest.parent is not None
    other = None
    for candidate in (path, *naming.siblings(path, ".old-")):
        try:
            link = read_link(candidate)
        except FileNotFoundError:
            continue
        except DataLossError as error:
            raise DataLossError(
                f"{child} builds on {candidate}, which is damaged: {error}"
            ) from error
        if _fits(child.manifest, link.manifest):
            return link
        other = other or link
    if other is not None:
        raise DataLossError(
            f"{child} builds on step {child.manifest.parent.step} in {path}, but what is there is "
            f"another version, of step {other.manifest.step}: versions were renamed, or copied "
            "from elsewhere, or saved again. Copy directories of versions as a whole."
        )
    raise DataLossError(
        f"{child} builds on step {child.manifest.parent.step} in {path}, which is missing."
    )


def _fits(child: Manifest, parent: Manifest) -> bool:
    assert child.parent is not None
    return child.parent.step == parent.step and all(
        name in parent.tables and parent.tables[name].uid == table.parent
        for name, table in child.tables.items()
    )


def check_tables(chain: Iterable[Link], names: Iterable[str] | None = None) -> None:
    """Checks that each table's directory holds what the manifests say; the rows are not read.

    Args:
        chain: versions.
        names: the tables that matter; None: all.

    Raises:
        DataLossError: a directory is missing or holds other data, or its manifest is damaged.
    """
    for link in chain:
        for name in sorted(link.manifest.tables if names is None else names):
            read_table_info(link, name)


def read_table_info(link: Link, name: str) -> dict[str, Any]:
    """What the engine says of a table of a version.

    Args:
        link: the version.
        name: one of its tables.

    Raises:
        DataLossError: the table is missing, damaged, or of another save; or a symbolic link leads
            out of the version's directory.
    """
    path = link.table(name)
    wanted = link.manifest.tables[name]
    _refuse_links(link, path)
    try:
        info: dict[str, Any] = _mxrec.read_checkpoint_info(path)
    except FileNotFoundError as error:
        raise DataLossError(f"{link} lacks its table {name!r}: {error}") from error
    found = str(info["uid"]), str(info["parent"])
    if found != (wanted.uid, wanted.parent):
        raise DataLossError(
            f"{path} holds the rows of save {found[0]}, but {naming.MANIFEST_NAME} names "
            f"{wanted.uid}: the directory was put together from several versions. Copy versions "
            "as a whole."
        )
    return info


def _refuse_links(link: Link, table: str) -> None:
    """Raises DataLossError where the manifest, the table's directory or a file in it is a link."""
    paths = [os.path.join(link.path, naming.MANIFEST_NAME), table]
    if os.path.isdir(table) and not os.path.islink(table):
        paths += sorted(os.path.join(table, name) for name in os.listdir(table))
    for path in paths:
        if os.path.islink(path):
            raise DataLossError(
                f"{path} is a symbolic link, to {os.readlink(path)}: a version has all its files "
                "in its own directory. Put what it leads to in its place; the directory as a whole "
                "may be a link."
            )


def needed_by(paths: Iterable[str]) -> set[str]:
    """The versions that given ones build on, themselves included.

    A link that cannot be read ends its chain: what is behind it cannot be known.

    Args:
        paths: directories of versions.
    """
    needed: set[str] = set()
    for path in paths:
        while path not in needed:
            try:
                link = read_link(path)
            except (OSError, ValueError):
                break
            needed.add(path)
            if link.manifest.parent is None:
                break
            try:
                path = _parent_of(
                    link, os.path.join(os.path.dirname(path), link.manifest.parent.name)
                ).path
            except (OSError, ValueError):
                break
    return needed
