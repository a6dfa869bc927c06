"""Checkpoints on file systems that TensorFlow knows and the engine does not (``gs://``, …).

Tables are written to a local temporary directory and copied, the manifest last, because such file
systems have no rename of directories: a version directory without a manifest is incomplete. They
are read by copying the chain of a version to a temporary directory.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import files, foreign, naming, saving
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.checkpoints.manifest import Manifest
from mxrec.errors import DataLossError

_PIECE = 16 << 20


def is_remote(path: str) -> bool:
    """Whether a path names a file system, as in ``gs://bucket/model``."""
    return "://" in path


def absolute(path: str) -> str:
    """The absolute path of a local file; a remote one as it is."""
    return path if is_remote(path) else os.path.abspath(path)


def exists(path: str) -> bool:
    """Whether there is a remote file or directory."""
    return bool(tf.io.gfile.exists(path))


def read(path: str, at_most: int = -1) -> bytes:
    """Reads a remote file. FileNotFoundError if there is none.

    Args:
        path: of the file.
        at_most: bytes to read; -1: all.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return bytes(file.read(at_most))
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist") from error


def read_manifest(directory: str) -> Manifest:
    """Reads the manifest of a local or remote version, as ``manifest.read`` does."""
    if not is_remote(directory):
        return manifests.read(directory)
    path = os.path.join(directory, naming.MANIFEST_NAME)
    return manifests.decode(read(path, manifests.MAX_BYTES + 1), path)


def problem_of(directory: str) -> str | None:
    """``foreign.problem_of`` for a local or remote directory."""
    if not is_remote(directory):
        return foreign.problem_of(directory)
    if not tf.io.gfile.isdir(directory):
        return None
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(directory))
    tables = [os.path.join(directory, name, foreign.TABLE_MANIFEST) for name in names]
    if not names or naming.MANIFEST_NAME in names or any(map(exists, tables)):
        return None
    return foreign.described(directory, names)


def remove(directory: str) -> None:
    """Removes a remote version: its manifest first, so that it is incomplete from then on."""
    manifest = os.path.join(directory, naming.MANIFEST_NAME)
    files.about_to("remove", directory)
    if exists(manifest):
        tf.io.gfile.remove(manifest)
    if exists(directory):
        tf.io.gfile.rmtree(directory)


def upload(source: str, directory: str) -> None:
    """Copies a version that is complete here; its manifest goes last.

    A version that is there is removed first: unlike on a local file system, there is a time at
    which neither is complete.

    Args:
        source: local directory of the version.
        directory: remote directory.
    """
    remove(directory)
    for table in sorted(os.listdir(source)):
        if table != naming.MANIFEST_NAME:
            here, there = os.path.join(source, table), os.path.join(directory, table)
            tf.io.gfile.makedirs(there)
            for name in sorted(os.listdir(here)):
                copy(os.path.join(here, name), os.path.join(there, name))
    tf.io.gfile.makedirs(directory)
    manifest = naming.MANIFEST_NAME
    copy(os.path.join(source, manifest), os.path.join(directory, manifest), at_once=True)


def copy(source: str, target: str, at_once: bool = False) -> None:
    """Copies a file from or to a remote file system, piece by piece.

    Args:
        source: a file.
        target: its copy; one that is there is replaced by a rename.
        at_once: also where nothing is there, the copy gets its name by a rename.
    """
    files.about_to("copy", target)
    renames = at_once or exists(target)
    written = f"{target}.tmp-{os.getpid()}" if renames else target
    with tf.io.gfile.GFile(source, "rb") as here, tf.io.gfile.GFile(written, "wb") as there:
        while piece := here.read(_PIECE):
            there.write(piece)
    if renames:
        tf.io.gfile.rename(written, target, overwrite=True)


def find_parent(directory: str, engines: Mapping[str, Any]) -> Link | None:
    """``saving.find_parent`` for a remote directory.

    Args:
        directory: of versions.
        engines: ``_mxrec.Table`` by name.
    """
    path = saving.place_of(engines)
    if path is None or os.path.dirname(path) != directory:
        return None
    try:
        links = list(_walk(path))
    except (OSError, ValueError, tf.errors.OpError):
        return None  # then the next save is a full one, which needs none of this
    return links[0] if links[0].manifest.uids == saving.lineages(engines) else None


def _walk(path: str) -> Iterator[Link]:
    """A version and those that it builds on, by name; whether they fit is for others to check."""
    seen = set()
    while path not in seen:
        seen.add(path)
        link = Link(path, read_manifest(path))
        yield link
        if link.manifest.parent is None:
            return
        path = os.path.join(os.path.dirname(path), link.manifest.parent.name)
    raise DataLossError(f"{path} builds on itself.")


@contextlib.contextmanager
def fetched(directory: str, names: Sequence[str]) -> Iterator[str]:
    """Gives a local directory with what ``directory`` holds.

    Args:
        directory: of a version. A local one is given as it is; of a remote one and those that it
            builds on, copies that last as long as the body.
        names: of the tables that matter.

    Raises:
        DataLossError: a link is damaged or missing; also from the body, with remote names.
    """
    if not is_remote(directory):
        yield directory
        return
    home = os.path.dirname(directory)
    with tempfile.TemporaryDirectory(prefix="mxrec-fetched-") as here:
        try:
            try:
                for link in _walk(directory):
                    _fetch(link, names, os.path.join(here, os.path.basename(link.path)))
            except FileNotFoundError as error:
                raise DataLossError(f"{directory} cannot be restored: {error}.") from error
            yield os.path.join(here, os.path.basename(directory))
        except DataLossError as error:
            steps = ", ".join(str(link.manifest.step) for link in versions_in(home))
            what = str(error).replace(here, home).rstrip(".")
            raise DataLossError(
                f"{what}. {home} has versions of the steps {steps}; restore another one."
            ) from error


def _fetch(link: Link, names: Sequence[str], target: str) -> None:
    os.mkdir(target)
    for name in names:
        there = link.table(name)
        if name in link.manifest.tables and tf.io.gfile.isdir(there):
            here = os.path.join(target, naming.table_directory(name))
            os.mkdir(here)
            for file in tf.io.gfile.listdir(there):
                if naming.is_component(file):
                    copy(os.path.join(there, file), os.path.join(here, file))
    copy(os.path.join(link.path, naming.MANIFEST_NAME), os.path.join(target, naming.MANIFEST_NAME))


def roots_of(directories: Iterable[str]) -> dict[str, str | None]:
    """The full version that each version goes back to, by name; None: a link cannot be read.

    Every manifest is read once.

    Args:
        directories: of versions, local or remote.
    """
    reader = chains.Reader(trusts=True)
    far: dict[str, str | None] = {}  # of remote ones
    found: dict[str, str | None] = {}
    for directory in directories:
        if is_remote(directory):
            found[directory] = _remote_root(directory, far)
        else:
            root = reader.root(directory)
            home, name = os.path.split(root or "")
            found[directory] = root and os.path.join(home, naming.place_of(name))
    return found


def _remote_root(directory: str, known: dict[str, str | None]) -> str | None:
    passed = []
    root = None
    try:
        for link in _walk(directory):
            if link.path in known:
                root = known[link.path]
                break
            passed.append(link.path)
            root = link.path
    except (OSError, ValueError, tf.errors.OpError):
        root = None
    known.update(dict.fromkeys(passed, root))
    return root


def versions_in(directory: str) -> list[Link]:
    """The versions in a directory of checkpoints whose manifests can be read.

    Args:
        directory: local or remote.
    """
    found = []
    for entry in tf.io.gfile.listdir(directory or os.curdir):
        name = entry.rstrip("/")
        if name.startswith(naming.SPARSE_PREFIX) and not naming.is_passing(name):
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError, ValueError, tf.errors.OpError):
                found.append(Link(path, read_manifest(path)))
    return sorted(found, key=lambda link: (link.manifest.step, link.path))
