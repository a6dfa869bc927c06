"""Makes ``tf.train.Checkpoint`` cover the tables of the layers that it reaches.

The tables of a checkpoint lie beside its dense files, as those of a Saver do
(``mxrec.tf.table_checkpoint``); Keras 2's ``save_weights`` without a file ending, its
``BackupAndRestore`` and ``tf.train.CheckpointManager`` come this way too.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorflow as tf

from mxrec.checkpoints import saving
from mxrec.tf import table_checkpoint
from mxrec.tf.checkpoint_save import saving_beside
from mxrec.tf.table import SparseTable

_INSTALLED = "_mxrec_covers_tables"


def install() -> None:
    """Wraps ``tf.train.Checkpoint`` and ``CheckpointManager`` process-wide. Idempotent."""
    checkpoint, manager = tf.train.Checkpoint, tf.train.CheckpointManager
    if getattr(checkpoint, _INSTALLED, False):
        return
    checkpoint._write = _covering_write(checkpoint._write)  # behind write and save
    checkpoint.read = _covering_read(checkpoint.read)  # behind restore
    manager.save = _sweeping_save(manager.save)
    setattr(checkpoint, _INSTALLED, True)


def _tables(checkpoint: Any) -> list[SparseTable]:
    """The tables of the layers that a checkpoint reaches, each once."""
    found = {}
    for each in checkpoint._saver._graph_view.descendants():
        table = getattr(each, "table", None)
        if isinstance(table, SparseTable) and table.is_save:
            found[table.name] = table
    return list(found.values())


def _covering_write(write: Any) -> Any:
    @functools.wraps(write)
    def _write(self: Any, file_prefix: Any, *args: Any, **kwargs: Any) -> Any:
        tables = _tables(self)
        if not tables:
            return write(self, file_prefix, *args, **kwargs)
        prefix = _local(file_prefix)
        with saving_beside(prefix, tables, _step_of(self)):
            return write(self, file_prefix, *args, **kwargs)

    return _write


def _covering_read(read: Any) -> Any:
    @functools.wraps(read)
    def covering(self: Any, save_path: Any, *args: Any, **kwargs: Any) -> Any:
        tables = _tables(self) if save_path is not None else []
        if not tables:
            return read(self, save_path, *args, **kwargs)
        prefix = _local(save_path)
        if not tf.io.gfile.exists(prefix + ".index"):
            return read(self, save_path, *args, **kwargs)  # raises: there is no checkpoint
        with saving.turn(), table_checkpoint.restored(prefix, tables):
            return read(self, save_path, *args, **kwargs)

    return covering


def _sweeping_save(save: Any) -> Any:
    @functools.wraps(save)
    def sweeping(self: Any, *args: Any, **kwargs: Any) -> Any:
        earlier = list(self.checkpoints)
        result = save(self, *args, **kwargs)
        for prefix in set(earlier) - set(self.checkpoints):
            # keep_checkpoint_every_n_hours may have kept it.
            if not tf.io.gfile.exists(prefix + ".index"):
                table_checkpoint.remove(prefix)
        return result

    return sweeping


def _local(prefix: Any) -> str:
    if tf.is_tensor(prefix):
        prefix = tf.get_static_value(prefix)
        if prefix is None:
            raise ValueError(
                "A tf.train.Checkpoint of layers with tables is saved and restored eagerly; call "
                "it outside of tf.function."
            )
    text: str = tf.compat.as_text(os.fspath(prefix))
    return text


def _step_of(checkpoint: Any) -> int:
    """How often the checkpoint was saved: of ``write`` alone, 0."""
    counter = getattr(checkpoint, "_save_counter", None)
    return 0 if counter is None else int(counter)
