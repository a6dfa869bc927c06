"""What versions a directory holds, which of them restore, and why others do not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mxrec import _mxrec
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import dense, foreign, naming, regular
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.errors import DataLossError

_STATE_FILE = "checkpoint"  # TensorFlow's, beside its checkpoints
_STATE_PATH = re.compile(r'^model_checkpoint_path: "((?:[^"\\]|\\.)*)"', re.MULTILINE)


class Version(NamedTuple):
    """One version of a directory.

    Attributes:
        step: its step; -1: not known.
        kind: "full" or "delta"; "" where that is not known.
        parent: step of the version that it builds on; None: none.
        bytes: of all its files, without those of its parents.
        path: its directory.
        problem: why it cannot be restored, or is not the one of its step; None: there is nothing.
    """

    step: int
    kind: str
    parent: int | None
    bytes: int
    path: str
    problem: str | None = None

    @property
    def name(self) -> str:
        """Name of its directory."""
        return os.path.basename(self.path)


def entries(directory: str) -> list[str]:
    """Paths of all complete versions, in the order in which they were saved.

    Numbered versions (``mxrec.save``) are ordered by their number, those of TensorFlow checkpoints
    by the time of their save; the one that TensorFlow's ``checkpoint`` file names is the last.

    Args:
        directory: of versions.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    # A process that died between two renames has set a version aside and put nothing in its place.
    places: dict[str, str] = {}
    for name in sorted(os.listdir(directory)):
        if ".tmp-" not in name:
            places.setdefault(naming.place_of(name), os.path.join(directory, name))
    numbered, others = [], []
    for name, path in places.items():
        number = naming.parse_numbered(name)
        if number is not None and os.path.isdir(path):
            numbered.append((number.serial, path))
        elif name.startswith(naming.SPARSE_PREFIX) and manifests.is_there(path):
            others.append((_saved(path), path))
    newest = _newest_of_tensorflow(directory)
    others.sort(key=lambda item: (item[1] == newest, item))
    return [path for _, path in [*others, *sorted(numbered)]]


def _saved(path: str) -> float:
    """When a version was saved, seconds since 1970."""
    try:
        saved = manifests.read(path).saved
    except (OSError, ValueError):
        saved = 0.0
    return saved or os.lstat(os.path.join(path, naming.MANIFEST_NAME)).st_mtime


def _newest_of_tensorflow(directory: str) -> str | None:
    try:
        data = regular.read(os.path.join(directory, _STATE_FILE), 1 << 20, links=True)
        match = _STATE_PATH.search(data.decode("utf-8"))
    # What TensorFlow has not written says nothing of its checkpoints.
    except (FileNotFoundError, DataLossError, UnicodeDecodeError):
        return None
    if match is None:
        return None
    base = os.path.basename(match[1])
    return os.path.join(directory, naming.SPARSE_PREFIX + re.sub(r"-\?{5}-of-\d{5}$", "", base))


def of_step(directory: str, step: int | None) -> str:
    """The directory of the version that a step, or None for the newest, stands for.

    Args:
        directory: of versions.
        step: of a version; of several with this step the newest counts.

    Raises:
        FileNotFoundError: there is none; the message names the steps that there are.
    """
    paths = entries(directory) if os.path.isdir(directory) else []
    if not paths:
        raise FileNotFoundError(foreign.why_no_version(directory))
    if step is None:
        return paths[-1]
    for path in reversed(paths):
        if step_of(path) == step:
            return path
    steps = sorted({found for path in paths if (found := step_of(path)) is not None})
    raise FileNotFoundError(
        f"{directory} has no version of step {step}; it has {', '.join(map(str, steps))}."
    )


def step_of(path: str) -> int | None:
    """The step of a version; None: its manifest is damaged."""
    named = naming.parse_numbered(naming.place_of(os.path.basename(path)))
    if named is not None:
        return named.step
    try:
        return manifests.read(path).step
    except (OSError, ValueError):
        return None


def versions(directory: str, all: bool = False) -> list[Version]:
    """The versions of a directory, the oldest first.

    Args:
        directory: of versions.
        all: also those that cannot be restored, and why; every byte of the tables is then read,
            and of a TensorFlow checkpoint its ``.index`` and the sizes of its data files. False:
            only complete ones whose chain is there, by their manifests and the sizes of the tables'
            files.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(foreign.why_no_version(directory))
    check = Check(every_byte=all)
    found: list[Version] = []
    latest: dict[int, int] = {}
    complete = entries(directory)
    for path in complete:
        version = check.version(path)
        if version.problem is None:
            latest[version.step] = len(found)
        found.append(version)
    for index, version in enumerate(found):
        last = latest.get(version.step, index)
        if version.problem is None and last != index:
            why = f"superseded: {found[last].path} is of the same step"
            found[index] = version._replace(problem=why)
    if all:
        return found + [_passing(entry) for entry in _passing_entries(directory, complete)]
    return [version for version in found if version.problem is None]


def _passing_entries(directory: str, complete: Sequence[str]) -> Iterator[str]:
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        base = re.split(r"\.(?:tmp|old)-", entry.name)[0]
        sparse = base.startswith(naming.SPARSE_PREFIX)
        passing = naming.is_passing(entry.name) or (sparse and not manifests.is_there(entry.path))
        known = sparse or naming.parse_numbered(base)
        if entry.is_dir() and passing and known and entry.path not in complete:
            yield entry.path


def _passing(path: str) -> Version:
    problem = None if naming.is_passing(os.path.basename(path)) else foreign.problem_of(path)
    if problem is not None:
        return Version(-1, "", None, size_of(path), path, problem)
    try:
        manifest = manifests.read(path)
        step, kind = manifest.step, str(manifest.kind)
    except (OSError, ValueError):
        named = naming.parse_numbered(os.path.basename(path).split(".")[0])
        step, kind = (-1 if named is None else named.step), ""
    why = (
        "replaced by another version of its name; kept while a delta builds on it"
        if ".old-" in os.path.basename(path)
        else "incomplete: its save has not ended"
    )
    return Version(step, kind, None, size_of(path), path, why)


class Check:
    """Checks versions, each link once.

    Args:
        every_byte: read all data, and look at the dense half; False: manifests, and the sizes of
            all files of tables.
    """

    def __init__(self, every_byte: bool) -> None:
        self._every_byte = every_byte
        self._reader = chains.Reader()
        self._found: dict[str, str | None] = {}
        # Of chains: what is wrong, and with which link, if that is known.
        self._chains: dict[str, tuple[str, Link | None] | None] = {}

    def version(self, path: str) -> Version:
        """Checks a version and those that it builds on."""
        size = size_of(path)
        try:
            link = self._reader.link(path)
        except (OSError, ValueError) as error:
            named = naming.parse_numbered(os.path.basename(path))
            return Version(-1 if named is None else named.step, "", None, size, path, str(error))
        manifest = link.manifest
        parent = None if manifest.parent is None else manifest.parent.step
        version = Version(manifest.step, manifest.kind, parent, size, path)
        found = self._chain(link)
        if found is not None:
            problem, damaged = found
            if damaged is not None and damaged.path != path:
                problem = f"it builds on {damaged}, which is damaged: {problem}"
            return version._replace(problem=problem)
        if self._every_byte:
            # Of what it builds on only the tables matter.
            version = version._replace(problem=_problem_of_dense(link))
        return version

    def _chain(self, link: Link) -> tuple[str, Link | None] | None:
        """What is wrong with the chain of a version: of several damaged links the oldest counts."""
        passed: list[Link] = []
        found: tuple[str, Link | None] | None = None
        try:
            for each in self._reader.ancestors(link):
                if each.path in self._chains:
                    found = self._chains[each.path]
                    break
                passed.append(each)
        except (OSError, ValueError) as error:
            found = str(error), None
        for each in reversed(passed):
            if found is None and (problem := self.link(each)) is not None:
                found = problem, each
            self._chains[each.path] = found
        return found

    def link(self, link: Link) -> str | None:
        """Checks one version alone; returns what is wrong."""
        if link.path not in self._found:
            self._found[link.path] = self._problem(link)
        return self._found[link.path]

    def _problem(self, link: Link) -> str | None:
        try:
            for name in sorted(link.manifest.tables):
                info = chains.read_table_info(link, name)
                self._check_table(link.table(name), info)
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def _check_table(self, path: str, info: dict[str, Any]) -> None:
        if self._every_byte:
            _mxrec.verify_checkpoint(path)
        elif (found := size_of(path)) < info["bytes"]:
            raise DataLossError(
                f"{path}: damaged: its files have {found} bytes, those of its manifest "
                f"{info['bytes']}."
            )


def _problem_of_dense(link: Link) -> str | None:
    try:
        dense.check(link.path, link.manifest)
    except OSError as error:
        aside = _set_aside(link.path)
        return f"{error} A restore takes {aside}, which it was to replace." if aside else str(error)
    return None


def _set_aside(path: str) -> str | None:
    """What a process that died set aside with its dense half, before it replaced that of a path."""
    for old in naming.siblings(path, ".old-"):
        try:
            dense.check(old, manifests.read(old))
        except (OSError, ValueError):
            continue
        return old
    return None


def size_of(path: str) -> int:
    """Bytes of all files below a directory."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # removed meanwhile
                continue
    return total


def newest_that_restores(directory: str, besides: str) -> str:
    """Says which version to restore instead of a damaged one; reads every byte of candidates.

    Args:
        directory: of versions.
        besides: path of the one that does not restore.
    """
    check = Check(every_byte=True)
    for path in reversed(entries(directory)):
        if os.path.abspath(path) != os.path.abspath(besides):
            version = check.version(path)
            if version.problem is None:
                return f"The newest version that restores is step {version.step} in {path}."
    return f"No version in {directory} restores."


def explained(error: Exception, directory: str, path: str) -> DataLossError:
    """The error of a version that does not restore, with the newest one that does.

    Args:
        error: what was found.
        directory: of versions.
        path: of the version.
    """
    return DataLossError(
        f"{path} cannot be restored: {str(error).rstrip('.')}. "
        f"{newest_that_restores(directory, path)}"
    )
