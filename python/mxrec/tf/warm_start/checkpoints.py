"""What a source holds: the saved tables and tensors of one checkpoint."""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorflow as tf

from mxrec import _mxrec
from mxrec.checkpoints import chain as chains
from mxrec.tf import export, remote, saver, table_checkpoint


class Checkpoint:
    """One checkpoint; what it holds is read when it is first asked for.

    Attributes:
        prefix: of its dense files.
        dense: whether there are any.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.dense = table_checkpoint.dense_exists(prefix)

    @functools.cached_property
    def directory(self) -> str:
        """The directory with its tables, whether or not it is there.

        Raises:
            ValueError: it is of another step than the dense half.
        """
        return saver.halves_of_same_step(self.prefix).directory

    @functools.cached_property
    def tables(self) -> dict[str, str]:
        """Uid of the data of each table, by name.

        Raises:
            ValueError: the manifest is damaged, or of another step than the dense half.
        """
        if not table_checkpoint.has_manifest(self.directory):
            return {}
        return table_checkpoint.read_manifest(self.directory).uids

    @functools.cached_property
    def chain(self) -> list[chains.Link]:
        """The version with the tables and those that it builds on, the full one first.

        Raises:
            DataLossError: a link is missing, damaged or another one.
            ValueError: they are on a file system that only TensorFlow knows.
        """
        if remote.is_remote(self.directory):
            raise ValueError(
                f"{self.directory}: tables are warm-started from local files only; copy the "
                "checkpoint, and what it builds on, to a local directory first"
            )
        return chains.resolve(self.directory)

    def table_paths(self, name: str) -> list[str]:
        """Where the rows of a table lie: a full checkpoint of it, and deltas in order."""
        return [link.table(name) for link in self.chain]

    def table_info(self, name: str) -> dict[str, Any]:
        """What the engine says of a saved table.

        Raises:
            OSError: its manifest is damaged or missing.
            ValueError: the data is that of another save.
        """
        path = self.table_paths(name)[-1]
        info: dict[str, Any] = _mxrec.read_checkpoint_info(path)
        if info["uid"] != self.tables[name]:
            raise ValueError(
                f"{path} holds the rows of save {info['uid']}, but the manifest of the checkpoint "
                f"names {self.tables[name]}: the directory was put together from several "
                "checkpoints. Copy checkpoints as a whole."
            )
        return info

    @functools.cached_property
    def tensors(self) -> dict[str, list[int]]:
        """Shapes of the tensors of the dense half, by name."""
        shapes = self._reader.get_variable_to_shape_map() if self.dense else {}
        return {str(name): list(shape) for name, shape in shapes.items()}

    def dtype(self, name: str) -> tf.DType:
        """Type of a tensor."""
        return self._reader.get_variable_to_dtype_map()[name]

    def tensor(self, name: str) -> Any:
        """Value of a tensor, a NumPy array."""
        return self._reader.get_tensor(name)

    @functools.cached_property
    def _reader(self) -> Any:
        return tf.compat.v1.train.NewCheckpointReader(self.prefix)


def open_checkpoint(path: str) -> Checkpoint:
    """The checkpoint that a path means.

    Args:
        path: prefix of a checkpoint; a directory with checkpoints, of which the newest is meant; a
            SavedModel; or a directory with the tables of a checkpoint (``sparse-…``).

    Raises:
        ValueError: there is none.
    """
    if not os.path.isdir(path) and not tf.io.gfile.isdir(path):
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
        parent, name = os.path.split(os.path.normpath(path))
        return Checkpoint(os.path.join(parent, name.removeprefix("sparse-")))
    saved_model = os.path.join(path, "variables", "variables")
    if tf.io.gfile.exists(saved_model + ".index"):
        return Checkpoint(saved_model)
    newest = tf.train.latest_checkpoint(path) or export._newest_directory(path)
    if newest is None:
        raise ValueError(
            f"the directory {path!r} has no checkpoint; name one that has, or the prefix of a "
            "checkpoint"
        )
    return Checkpoint(str(newest))
