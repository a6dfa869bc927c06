"""The chain of a version: the full version that it goes back to, the deltas since, itself."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mxrec import _mxrec
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints import naming, regular
from mxrec.checkpoints.manifest import Manifest
from mxrec.errors import DataLossError

_KNOWN_LINKS = 8192


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
    return Reader().chain(path)


class Reader:
    """Follows chains; of what several versions build on it reads everything once.

    What changes on disk while it is used may not be seen.

    Args:
        trusts: take manifests that this process has read before, if their files are those of then
            by inode, size and times.
    """

    def __init__(self, trusts: bool = False) -> None:
        self._trusts = trusts
        self._links: dict[str, Link] = {}
        self._parents: dict[str, Link | DataLossError] = {}
        self._roots: dict[str, str | None] = {}
        self._aside: dict[str, dict[str, list[str]]] = {}  # by directory, by name of the place

    def link(self, path: str) -> Link:
        """Reads the manifest of a version, as ``read_link`` does."""
        if path not in self._links:
            self._links[path] = _read(path, self._trusts)
        return self._links[path]

    def chain(self, path: str) -> list[Link]:
        """The chain of a version, as ``resolve`` gives it."""
        return list(self.ancestors(self.link(path)))[::-1]

    def ancestors(self, link: Link) -> Iterator[Link]:
        """A version and what it builds on, one after the other, to the full one.

        Args:
            link: the version.

        Raises:
            DataLossError: as ``parent``, or links go round in a circle.
            ValueError: as ``parent``.
        """
        seen: set[str] = set()
        following: Link | None = link
        while following is not None:
            if following.path in seen:
                raise DataLossError(
                    f"{link} builds on {following}, which builds on it: no way to start."
                )
            seen.add(following.path)
            yield following
            link, following = following, self.parent(following)

    def parent(self, child: Link) -> Link | None:
        """What a version builds on; None: it is a full one.

        Args:
            child: the version.

        Raises:
            DataLossError: it is missing, damaged, or another one.
            ValueError: it is of a later format.
        """
        if child.manifest.parent is None:
            return None
        if child.path not in self._parents:
            try:
                self._parents[child.path] = self._find_parent(child)
            except DataLossError as error:
                self._parents[child.path] = error
        found = self._parents[child.path]
        if isinstance(found, DataLossError):
            raise found
        return found

    def root(self, path: str) -> str | None:
        """The full version that one goes back to, where it lies; None: a link cannot be read.

        Args:
            path: of the version's directory.
        """
        passed: list[str] = []
        root = None
        try:
            for link in self.ancestors(self.link(path)):
                if link.path in self._roots:
                    root = self._roots[link.path]
                    break
                passed.append(link.path)
            else:
                root = passed[-1]
        except (OSError, ValueError):
            pass  # of no version that has been passed is it known
        self._roots.update(dict.fromkeys(passed, root))
        return root

    def aside(self, path: str) -> list[str]:
        """What was set aside when other versions took the place ``path``, sorted."""
        home, name = os.path.split(path)
        if home not in self._aside:
            places: dict[str, list[str]] = {}
            entries = os.listdir(home or os.curdir) if os.path.isdir(home or os.curdir) else []
            for entry in sorted(entries):
                if (place := naming.place_of(entry)) != entry:
                    places.setdefault(place, []).append(os.path.join(home, entry))
            self._aside[home] = places
        return self._aside[home].get(name, [])

    def _find_parent(self, child: Link) -> Link:
        assert child.manifest.parent is not None
        path = os.path.join(os.path.dirname(child.path), child.manifest.parent.name)
        other = None
        for candidate in self.candidates(path):
            try:
                link = self.link(candidate)
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
                f"{child} builds on step {child.manifest.parent.step} in {path}, but what is there "
                f"is another version, of step {other.manifest.step}: versions were renamed, or "
                "copied from elsewhere, or saved again. Copy directories of versions as a whole."
            )
        raise DataLossError(
            f"{child} builds on step {child.manifest.parent.step} in {path}, which is missing."
        )

    def candidates(self, path: str) -> Iterator[str]:
        """Where a version may lie that was saved to ``path``."""
        yield path
        yield from self.aside(path)  # the directory is read only if that one does not fit


# Manifests that this process has read, with what their files were then.
_known: collections.OrderedDict[str, tuple[tuple[int, ...], Link]] = collections.OrderedDict()
_known_lock = threading.Lock()


def _read(path: str, trusts: bool) -> Link:
    """``read_link``; with ``trusts``, what was read before and nobody has changed is not read."""
    place = os.path.abspath(path)
    state = _state_of(place)
    with _known_lock:
        held = _known.get(place) if trusts else None
        if held is not None and held[0] == state:
            _known.move_to_end(place)
            return Link(path, held[1].manifest)
    link = read_link(path)
    # Taken before and after: what was read is what was there in between.
    if state is not None and _state_of(place) == state:
        with _known_lock:
            _known[place] = state, link
            _known.move_to_end(place)
            while len(_known) > _KNOWN_LINKS:
                _known.popitem(last=False)
    return link


def _state_of(path: str) -> tuple[int, ...] | None:
    """Tells one manifest of a version from another without reading it; None: there is none."""
    try:
        found = os.lstat(os.path.join(path, naming.MANIFEST_NAME))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
        DataLossError: the table is missing, damaged, or of another save; or what is there is a
            symbolic link, or no regular file.
    """
    path = link.table(name)
    wanted = link.manifest.tables[name]
    _check_files(path)
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


def _check_files(table: str) -> None:
    """Checks that a table's directory is one, and that there are only regular files in it."""
    if os.path.islink(table) or (os.path.lexists(table) and not os.path.isdir(table)):
        regular.check(table)
        raise DataLossError(f"{table} is a file, not the directory of a table.")
    if os.path.isdir(table):
        for name in sorted(os.listdir(table)):
            regular.check(os.path.join(table, name))


def needed_by(paths: Iterable[str]) -> set[str]:
    """The versions that given ones build on, themselves included.

    A link that cannot be read ends its chain: what is behind it cannot be known.

    Args:
        paths: directories of versions.
    """
    reader = Reader()
    needed: set[str] = set()
    for path in paths:
        try:
            for link in reader.ancestors(reader.link(path)):
                if link.path in needed:
                    break
                needed.add(link.path)
        except (OSError, ValueError):
            continue
    return needed
