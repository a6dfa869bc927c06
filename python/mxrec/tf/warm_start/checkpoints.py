"""What a source holds: the saved tables and tensors of one checkpoint."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.training import warm_starting_util

from mxrec.checkpoints import catalog, naming
from mxrec.checkpoints import chain as chains
from mxrec.tf import export, remote, saver, table_checkpoint
from mxrec.tf.table_checkpoint import Halves

# Files of a checkpoint that are easily taken for its prefix.
_FILE_OF_PREFIX = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})")


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raises OSError that names the file where TensorFlow cannot read it."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(
            f"the dense files of {path!r} cannot be read ({error.message}); they are damaged, or "
            "the path is not the prefix of a checkpoint, as tf.train.latest_checkpoint returns it"
        ) from error


class Checkpoint:
    """One checkpoint; what it holds is read when it is first asked for.

    Attributes:
        prefix: of its dense files; what it is called in messages.
        dense: whether there are any.
    """

    def __init__(self, prefix: str, directory: str | None = None) -> None:
        """Names the checkpoint.

        Args:
            prefix: of its dense files.
            directory: with its tables; None: the one that belongs to the dense files.
        """
        self.prefix = prefix
        self.dense = table_checkpoint.dense_exists(prefix)
        self._directory = directory
        self._here: str | None = None  # the directory, or a local copy of it

    @functools.cached_property
    def halves(self) -> Halves:
        """Its tables, whether or not they are there, and the dense files that go with them.

        Raises:
            OSError: a manifest is damaged, or the dense half.
            ValueError: the tables are of another step than the dense half.
        """
        if self._directory is not None:
            return Halves(self._directory, self.prefix)
        with _readable(self.prefix):
            found = saver.halves_of_same_step(self.prefix)
        # Another prefix, where a process died while it replaced the checkpoint.
        self.prefix = found.dense
        return found

    @functools.cached_property
    def tables(self) -> dict[str, str]:
        """Uid of the data of each table, by name.

        Raises:
            OSError: the manifest is damaged.
            ValueError: it is of another step than the dense half.
        """
        directory = self.halves.directory
        if not table_checkpoint.has_manifest(directory):
            return {}
        return table_checkpoint.read_manifest(directory).uids

    def fetch(self, names: Sequence[str], until: contextlib.ExitStack) -> None:
        """Has tables lie in the local file system.

        Args:
            names: of saved tables.
            until: when it closes, copies go.

        Raises:
            OSError: a link of the chain is damaged or missing.
        """
        self._here = until.enter_context(remote.fetched(self.halves.directory, names))

    @functools.cached_property
    def _chain(self) -> list[chains.Link]:
        return chains.resolve(self._here or self.halves.directory)

    def table_paths(self, name: str) -> list[str]:
        """Where the rows of a table lie: a full checkpoint of it, and deltas in order."""
        return [link.table(name) for link in self._chain]

    def table_info(self, name: str) -> dict[str, Any]:
        """What the engine says of a saved table; of a delta, what it says of that.

        Raises:
            OSError: a link of the chain is damaged, missing, or of another save.
        """
        chains.check_tables(self._chain, [name])
        return chains.read_table_info(self._chain[-1], name)

    @functools.cached_property
    def tensors(self) -> dict[str, list[int]]:
        """Shapes of the tensors of the dense half, by name; OSError if it cannot be read."""
        shapes = self._reader.get_variable_to_shape_map() if self.dense else {}
        return {str(name): list(shape) for name, shape in shapes.items()}

    def dtype(self, name: str) -> tf.DType:
        """Type of a tensor; OSError if the dense half cannot be read."""
        return self._reader.get_variable_to_dtype_map()[name]

    def tensor(self, name: str) -> Any:
        """Value of a tensor, a NumPy array; OSError if it cannot be read, or is damaged."""
        with _readable(self.prefix):
            return self._reader.get_tensor(name)

    def keys_of(self, variables: Iterable[str]) -> dict[str, str]:
        """Names of tensors of variables; only an object-based checkpoint has any.

        Raises:
            OSError: the dense half cannot be read.
            ValueError: it is object-based, and lacks some of them.
        """
        if not self.dense:
            return {}
        with _readable(self.prefix):
            return dict(
                warm_starting_util._get_object_checkpoint_renames(self.prefix, list(variables))
            )

    @functools.cached_property
    def _reader(self) -> Any:
        with _readable(self.prefix):
            return tf.compat.v1.train.NewCheckpointReader(self.prefix)


def open_checkpoint(path: str) -> Checkpoint:
    """The checkpoint that a path means.

    Args:
        path: prefix of a checkpoint; a directory with checkpoints, of which the newest is meant; a
            SavedModel; or a directory with the tables of one version.

    Raises:
        OSError: what is there is damaged.
        ValueError: there is none.
    """
    with _readable(path):
        return _open(path)


def _open(path: str) -> Checkpoint:
    if not os.path.isdir(path) and not tf.io.gfile.isdir(path):
        _check_is_prefix(path)
        checkpoint = Checkpoint(path)
        if checkpoint.dense or table_checkpoint.has_manifest(
            table_checkpoint.sparse_directory(path)
        ):
            return checkpoint
        raise ValueError(
            f"there is no checkpoint {path!r}; name a directory with checkpoints, or the prefix of "
            "one, as tf.train.latest_checkpoint returns it"
        )
    if table_checkpoint.has_manifest(path):
        parent, name = os.path.split(path.rstrip("/"))
        if name.startswith(naming.SPARSE_PREFIX):
            return Checkpoint(os.path.join(parent, name.removeprefix(naming.SPARSE_PREFIX)))
        return Checkpoint(path, path)
    saved_model = os.path.join(path, "variables", "variables")
    if tf.io.gfile.exists(saved_model + ".index"):
        return Checkpoint(saved_model)
    newest = tf.train.latest_checkpoint(path) or export._newest_directory(path)
    if newest is not None:
        return Checkpoint(str(newest))
    versions = [] if remote.is_remote(path) else catalog.entries(path)
    if not versions:
        raise ValueError(
            f"the directory {path!r} has no checkpoint; name one that has, or the prefix of a "
            "checkpoint"
        )
    return Checkpoint(versions[-1], versions[-1])


def _check_is_prefix(path: str) -> None:
    """ValueError if the path is one of a checkpoint's files."""
    if tf.io.gfile.exists(path + ".index") or not tf.io.gfile.exists(path):
        return
    if match := _FILE_OF_PREFIX.fullmatch(path):
        raise ValueError(
            f"{path!r} is one of the files of a checkpoint; give the prefix of the checkpoint, "
            f"{match[1]!r}"
        )
    if os.path.basename(path) == "checkpoint":
        raise ValueError(
            f"{path!r} only lists checkpoints; give the prefix of one, as "
            "tf.train.latest_checkpoint returns it, or for the newest the directory "
            f"{os.path.dirname(path) or '.'!r}"
        )
