"""Which tables a path on the command line means."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxrec import _mxrec
from mxrec.checkpoints import catalog, chain, foreign, naming
from mxrec.checkpoints import manifest as manifests
from mxrec.cli.config import checkpoints_in
from mxrec.cli.lines import DataError

_TABLE_MANIFEST = foreign.TABLE_MANIFEST
_DIGEST_LINE = 27  # bytes of the last line of a table's manifest: its checksum


@dataclass(frozen=True)
class SavedTable:
    """A table on disk.

    Attributes:
        name: under which it was saved.
        path: its directory.
        info: what the engine reads from its manifest: options, rows, step.
        manifest: the manifest itself, as docs/format-checkpoint.md describes it.
        bytes: of all its files.
        links: the directories to load it from: of the full version, of the deltas since, its own.
        tiers: what its tiers had done when it was saved, for ``mxrec.tier_figures``; None: it had
            no SSD tier, or was saved by itself.
    """

    name: str
    path: Path
    info: dict[str, Any]
    manifest: dict[str, Any]
    bytes: int
    links: tuple[str, ...]
    tiers: dict[str, Any] | None = None


@dataclass(frozen=True)
class SavedTables:
    """The tables of one checkpoint.

    Attributes:
        path: their directory.
        tables: by name.
        latest_of: how many checkpoints there were to choose from; 1 where the path named one.
    """

    path: Path
    tables: tuple[SavedTable, ...]
    latest_of: int = 1

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(int(table.info["rows"]) for table in self.tables)


def find_saved_tables(path: Path, names: Sequence[str] | None = None) -> SavedTables:
    """Finds the tables that a path means.

    Args:
        path: what ``Table.save`` has written; a version that ``mxrec.save`` has; ``sparse-…``, the
            tables of a TensorFlow checkpoint; the prefix of a checkpoint, ``DIR/model-200``; a
            directory of any of these, of which the newest is taken; or that of a finished run of
            ``mxrec train`` or ``demo``.
        names: only these tables; None: all.

    Raises:
        DataError: there are no such tables.
        DataLossError: a manifest is damaged.
        OSError: the operating system refused to read.
    """
    root, latest_of = _find(path)
    if (root / _TABLE_MANIFEST).is_file():
        tables: tuple[SavedTable, ...] = (_read(root, (str(root),)),)
    else:
        version = chain.resolve(str(root))
        names_there = sorted(version[-1].manifest.tables)
        chain.check_tables(version, names_there)
        tables = tuple(
            _read(
                Path(version[-1].table(name)),
                tuple(link.table(name) for link in version),
                version[-1].manifest.tiers.get(name),
            )
            for name in names_there
        )
    if not tables:
        raise DataError(f"{root}: a checkpoint without embedding tables")
    return SavedTables(root, _selected(root, tables, names), latest_of)


def _find(path: Path) -> tuple[Path, int]:
    if (path / _TABLE_MANIFEST).is_file() or manifests.is_there(os.fspath(path)):
        return path, 1
    beside = path.parent / f"{naming.SPARSE_PREFIX}{path.name}"
    if path.name and manifests.is_there(os.fspath(beside)):
        return beside, 1
    found = catalog.entries(os.fspath(path)) if path.is_dir() else []
    if found:
        return Path(found[-1]), len(found)
    if (of_run := checkpoints_in(path)) != path:
        return _find(of_run)
    for place in (beside, path):
        if place.name.startswith(naming.SPARSE_PREFIX):
            problem = foreign.problem_of(os.fspath(place))
            if problem is not None:
                raise DataError(problem)
    below = foreign.what_is_below(os.fspath(path)) if path.is_dir() else None
    if below is not None:
        raise DataError(f"{path} has no saved tables itself, but {below}")
    if path.is_file() and (prefix := naming.prefix_of_file(path.name)) is not None:
        raise DataError(
            f"{path} is one file of a TensorFlow checkpoint; give its path prefix, "
            f"{path.with_name(prefix)}."
        )
    what = "is a file" if path.exists() else "is not there"
    if path.is_dir():
        what = "has no saved tables"
    raise DataError(
        f"{path}: {what}. Give what Table.save has written, the prefix of a TensorFlow checkpoint "
        "such as DIR/model-200, its sparse-model-200, or a directory of such checkpoints."
    )


def _read(folder: Path, links: tuple[str, ...], tiers: dict[str, Any] | None = None) -> SavedTable:
    info = _mxrec.read_checkpoint_info(str(folder))  # checks the manifest
    text = (folder / _TABLE_MANIFEST).read_bytes()[:-_DIGEST_LINE]
    size = catalog.size_of(str(folder))
    return SavedTable(str(info["name"]), folder, info, json.loads(text), size, links, tiers)


def _selected(
    root: Path, tables: tuple[SavedTable, ...], names: Sequence[str] | None
) -> tuple[SavedTable, ...]:
    if names is None:
        return tables
    there = {table.name: table for table in tables}
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"--table: {root} has no table {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, there))}"
        )
    return tuple(there[name] for name in dict.fromkeys(names))
