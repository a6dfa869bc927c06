"""Saves a TensorFlow checkpoint with its tables: both halves of one instant, in steps.

1. The instant of all tables is fixed, and the dense half written to a temporary directory: the only
   things that training has to wait for.
2. ``complete`` writes the tables to ``sparse-model-200.tmp-<host>-<pid>.<n>``, in any thread; what
   is there under the name is set aside; the tables are renamed; the dense files are, ``.index``
   last; TensorFlow's ``checkpoint`` file comes last of all.

A kill at any moment leaves the checkpoint complete or out of sight: ``checkpoint`` never names one
without both halves. If a step fails, what was there before is put back.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mxrec._fields import path_text
from mxrec.checkpoints import files, naming, saving, tools
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.checkpoints.manifest import Dense, Manifest
from mxrec.tf import remote, table_checkpoint
from mxrec.tf.log import logger
from mxrec.tf.table_checkpoint import DENSE_COPY, SavedTable

# Makes a checkpoint known: called with a directory on its file system for what it has to write
# first, and with what it calls where the checkpoint has to stay although it will raise.
Record = Callable[[str, Callable[[], None]], None]


class CheckpointSave:
    """A checkpoint of which the instant is fixed; ``complete`` or ``abandon`` must follow.

    Attributes:
        prefix: path prefix of the dense files.
        result: what the dense save has given, with the final name.
    """

    def __init__(
        self,
        prefix: str,
        tables: Sequence[SavedTable],
        step: int,
        *,
        delta: bool = False,
        tracks: bool = False,
        recent_threshold: int = 0,
    ) -> None:
        """Fixes the instant, after the save that is under way in this process has ended.

        Args:
            prefix: path prefix of the dense files.
            tables: what to save.
            step: the global step, >= 0.
            delta: save what has changed since the checkpoint in this directory that the tables
                count their changes from. A full checkpoint where there is none.
            tracks: count changes from this instant, so that a delta can follow.
            recent_threshold: keys that were seen less often since are left out of a delta.
        """
        self.prefix = path_text("the path of a checkpoint", prefix)
        self.result: Any = None
        self._directory = table_checkpoint.sparse_directory(prefix)
        self._home = os.path.dirname(self._directory)
        self._engines = table_checkpoint.engines_of(tables)
        self._dense: Dense | None = None
        self._moved: list[str] = []
        self._stays = False
        self._cleanup = contextlib.ExitStack()
        self._version = saving.VersionSave(
            self._engines,
            step,
            parent=self._find_parent if delta else None,
            tracks=tracks,
            recent_threshold=recent_threshold,
        )
        try:
            self._staging = self._cleanup.enter_context(self._staged())
        except BaseException:
            self.abandon()
            raise

    @property
    def kind(self) -> str:
        """``full`` or ``delta``."""
        return self._version.kind

    def _find_parent(self) -> Link | None:
        if remote.is_remote(self._home):
            found = remote.find_parent(self._home, self._engines)
            return None if found is None or found.path == self._directory else found
        chain = saving.find_chain(self._home, self._engines)
        # A version cannot build on what it replaces.
        replaced = {os.path.basename(link.path) for link in chain}
        return chain[-1] if chain and os.path.basename(self._directory) not in replaced else None

    @contextlib.contextmanager
    def _staged(self) -> Iterator[str]:
        if remote.is_remote(self._home):
            with tempfile.TemporaryDirectory(prefix="mxrec-save-") as made:
                yield made
            return
        files.make_directories(self._home or os.curdir)
        naming.remove_leftovers(self._home)
        naming.remove_unfinished(self._directory)
        with saving.staged(self._directory) as made:
            files.make_directory(made)
            yield made

    def save_dense(
        self, save: Callable[[str], Any], step: int | None, step_name: str | None
    ) -> None:
        """Has the dense half written, at the instant of the tables.

        Args:
            save: writes files with a path prefix, as ``Saver.save`` does, and gives what that does.
            step: value of the global step variable, if there is one.
            step_name: its name.
        """
        folder = os.path.join(self._staging, DENSE_COPY)
        files.make_directory(folder)
        temporary = os.path.join(folder, os.path.basename(self.prefix))
        files.about_to("dense", temporary)
        self.result = save(temporary)
        if isinstance(self.result, str):
            self.result = os.path.join(
                os.path.dirname(self.prefix), os.path.relpath(self.result, folder)
            )
        self._dense = Dense(step, step_name, table_checkpoint.index_checksum(temporary))

    def complete(self, record: Record | None = None) -> None:
        """Writes the tables and puts both halves in their place. Ends the save.

        Args:
            record: makes the checkpoint known: writes TensorFlow's ``checkpoint`` file.

        Raises:
            OSError: the operating system refused to write; all is as it was before. Only where
                ``checkpoint`` names the new checkpoint and could not be put back, that stays.
            MemoryError: disk space or memory ran out; likewise.
        """
        with self.completing():
            if record is not None:
                record(self._staging, self._keep)

    def _keep(self) -> None:
        self._stays = True

    @contextlib.contextmanager
    def completing(self) -> Iterator[None]:
        """As ``complete``: the body runs when both halves are in their place.

        If it raises, all is as it was before.
        """
        try:
            written = os.path.join(self._staging, "tables")
            manifest = self._version.write(written, self._dense)
            publish = self._publish_remotely if remote.is_remote(self._home) else self._publish
            with publish(written):
                yield
            saving.remember(self._directory, manifest)
            self._version.finish(saved=True)
            table_checkpoint.set_last_prefix(self.prefix)
            self._tidy_up()
        except BaseException as error:
            try:
                self._cleanup.close()
            except OSError as left:
                error.add_note(f"{self._staging} could not be removed: {left}")
            raise
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the save without a checkpoint, unless it has ended."""
        try:
            self._cleanup.close()
        finally:
            self._version.finish(saved=False)

    # --- Local file systems

    @contextlib.contextmanager
    def _publish(self, written: str) -> Iterator[None]:
        replaced = naming.replaced(self._directory)
        try:
            if os.path.lexists(self._directory):
                files.rename(self._directory, replaced)
                self._copy_dense(replaced)
            saving.publish(written, self._directory)
            self._move_dense(os.path.join(self._staging, DENSE_COPY))
            yield
        except BaseException:
            if not self._stays:
                self._undo(replaced)
            raise

    def _copy_dense(self, replaced: str) -> None:
        """Keeps the dense files beside the tables that they belong to."""
        home = self._home or os.curdir
        copies = os.path.join(replaced, DENSE_COPY)
        if os.path.lexists(copies):  # it had been set aside before, and was put back
            files.remove_tree(copies)
        base = os.path.basename(self.prefix)
        names = [name for name in _files_in(home) if _is_part(name, base)]
        if names:
            files.make_directory(copies)
        for name in names:
            files.link(os.path.join(home, name), os.path.join(copies, name))

    def _move_dense(self, folder: str) -> None:
        home = self._home or os.curdir
        names = _files_in(folder)
        for name in names:
            files.sync_file(os.path.join(folder, name))
        for name in names:
            files.rename(os.path.join(folder, name), os.path.join(home, name))
            self._moved.append(os.path.join(home, name))
        if names:
            files.sync_directory(home)

    def _undo(self, replaced: str) -> None:
        ours = self._version.manifest
        if os.path.lexists(replaced):
            naming.discard(self._directory)
            self._move_dense(os.path.join(replaced, DENSE_COPY))
            files.rename(replaced, self._directory)
        elif manifests.is_there(self._directory) and _is(self._directory, ours):
            for path in reversed(self._moved):
                files.remove_file(path)
            naming.discard(self._directory)

    def _tidy_up(self) -> None:
        # The checkpoint is complete; the next save under this name tries again.
        try:
            if not remote.is_remote(self._home):
                tools.remove_replaced(self._directory)
        except OSError as error:
            logger.warning("%s: what it replaced could not be removed: %s", self.prefix, error)
        try:
            self._cleanup.close()
        except OSError as error:
            logger.warning("%s: %s could not be removed: %s", self.prefix, self._staging, error)

    # --- Others

    @contextlib.contextmanager
    def _publish_remotely(self, written: str) -> Iterator[None]:
        folder = os.path.join(self._staging, DENSE_COPY)
        try:
            remote.upload(written, self._directory)
            for name in _files_in(folder):
                target = os.path.join(self._home, name)
                remote.copy(os.path.join(folder, name), target, at_once=name.endswith(".index"))
            yield
        except BaseException:
            remote.remove(self._directory)
            raise


@contextlib.contextmanager
def saving_beside(prefix: str, tables: Sequence[SavedTable], step: int) -> Iterator[None]:
    """Saves tables as part of the checkpoint ``prefix``, then runs the body, which saves the rest.

    The tables are in place, under their final name, when the body starts. If it raises, they are
    removed again, and those of an earlier checkpoint of the same name are back.

    Args:
        prefix: path prefix of the checkpoint's dense files.
        tables: what to save; none: only the body runs.
        step: the step, >= 0.

    Raises:
        OSError: the tables could not be written; nothing is left of them.
    """
    if not tables:
        yield
        return
    with CheckpointSave(prefix, tables, step).completing():
        yield


def _files_in(folder: str) -> list[str]:
    """Names of the files in a directory, if it is there; that of an ``.index`` is the last."""
    if not os.path.isdir(folder):
        return []
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    return sorted(names, key=lambda name: (name.endswith(".index"), name))


def _is_part(name: str, base: str) -> bool:
    """Whether a file is needed to restore the dense checkpoint ``base``."""
    rest = name.removeprefix(base)
    if len(rest) == len(name):
        return False
    of_v1 = re.fullmatch(r"(-\d{5}-of-\d{5})?", rest)
    return bool(of_v1) or rest == ".index" or rest.startswith(".data-")


def _is(directory: str, manifest: Manifest | None) -> bool:
    try:
        return manifest is not None and manifests.read(directory).uids == manifest.uids
    except (OSError, ValueError):
        return False
