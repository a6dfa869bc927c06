"""What ``mxrec checkpoint`` does with versions: compact, compare, archive."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mxrec.checkpoints import archives, files, naming, saving
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.checkpoints.loading import loaded_for_a_while
from mxrec.checkpoints.manifest import SavedTable


@contextlib.contextmanager
def loaded(chain: Sequence[Link], name: str) -> Iterator[Any]:
    """Loads one table of a version, a ``_mxrec.Table``; closes it at the end.

    Args:
        chain: of the version, as ``chains.resolve`` gives it.
        name: of the table.

    Raises:
        OSError: a file is damaged or cannot be read.
        MemoryError: the table does not fit into memory.
    """
    chains.check_tables(chain, [name])
    links = [link.table(name) for link in chain]
    with loaded_for_a_while(links, chain[-1].manifest.tiers.get(name)) as table:
        yield table


def is_needed(path: str) -> bool:
    """Whether a version that is there builds on the one at ``path``.

    Args:
        path: of a version's directory.
    """
    parent = os.path.dirname(path)
    others = (os.path.join(parent, entry) for entry in os.listdir(parent or os.curdir))
    return path in chains.needed_by(
        other
        for other in others
        if other != path and ".tmp-" not in os.path.basename(other) and manifests.is_there(other)
    )


def remove_replaced(path: str) -> None:
    """Removes what was replaced by the version at ``path``, unless deltas build on it.

    Args:
        path: of a version's directory.
    """
    for old in naming.siblings(path, ".old-"):
        if not is_needed(old):
            naming.discard(old)


def compact(path: str) -> Link:
    """Turns a delta into a full version of the same step, in its place.

    What was there is set aside and stays as long as other deltas build on it; the versions that the
    delta was built on are left to housekeeping. A kill at any moment leaves the delta or the full
    version; between the two renames of the directory the delta is under ``.old-…``, where readers
    find it. Nothing may save there meanwhile; a training process whose next delta would build on
    this version saves a full one instead.

    Args:
        path: of the version's directory. A full version is left as it is.

    Returns:
        The version.

    Raises:
        OSError: a file is damaged or cannot be read or written; the version is as before.
        MemoryError: a table does not fit into memory.
    """
    naming.put_back(os.path.dirname(path) or os.curdir)
    path = os.path.join(os.path.dirname(path), naming.place_of(os.path.basename(path)))
    chain = chains.resolve(path)
    newest = chain[-1]
    if newest.manifest.parent is None:
        return newest
    with saving.staged(path) as staging:
        files.make_directory(staging)
        tables = {}
        for name in newest.manifest.tables:
            target = os.path.join(staging, naming.table_directory(name))
            with loaded(chain, name) as table:
                files.about_to("table", target)
                tables[name] = SavedTable(str(table.save(target, newest.manifest.step)["uid"]))
        manifest = dataclasses.replace(newest.manifest, tables=tables, parent=None)
        manifests.write(staging, manifest)
        replaced = naming.replaced(path)
        files.rename(path, replaced)
        try:
            saving.publish(staging, path)
        except BaseException:
            files.rename(replaced, path)
            raise
    remove_replaced(path)
    return Link(path, manifest)


@dataclasses.dataclass(frozen=True)
class TableDifference:
    """How a table differs between two versions.

    Attributes:
        name: of the table.
        rows: in the first and in the second version.
        added: keys of the second that the first does not have.
        removed: keys of the first that the second does not have.
        changed: keys of both whose embeddings differ in any bit.
        largest: the largest absolute difference of a value of those.
    """

    name: str
    rows: tuple[int, int]
    added: int
    removed: int
    changed: int
    largest: float

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return not (self.added or self.removed or self.changed)


def difference(first: Sequence[Link], second: Sequence[Link], name: str) -> TableDifference:
    """Compares keys and embeddings of a table in two versions; both are loaded.

    Args:
        first: chain of a version.
        second: chain of the other one.
        name: of a table that both have.

    Raises:
        ValueError: the dims differ.
        OSError: a file is damaged or cannot be read.
        MemoryError: the tables do not fit into memory.
    """
    with loaded(first, name) as before, loaded(second, name) as after:
        if before.dim != after.dim:
            raise ValueError(
                f"table {name!r} has dim {before.dim} in {first[-1].path} and {after.dim} in "
                f"{second[-1].path}; only tables of one dim can be compared."
            )
        common, changed, largest = 0, 0, 0.0
        for keys, values, *_ in archives.scan(before):
            there = after.contains(keys)
            old, new = values[there], after.lookup(keys[there], False)
            common += len(new)
            # Bit by bit: a NaN equals itself, -0.0 is not 0.0.
            differs = (old.view(np.uint32) != new.view(np.uint32)).any(axis=1)
            changed += int(differs.sum())
            with np.errstate(invalid="ignore", over="ignore"):
                gaps = np.abs(old[differs] - new[differs])
            largest = max(largest, float(np.nanmax(gaps, initial=0.0)))
        rows = (len(before), len(after))
    return TableDifference(name, rows, rows[1] - common, rows[0] - common, changed, largest)
