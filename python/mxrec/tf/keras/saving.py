"""Tables in the weights files of Keras.

A ``.weights.h5`` or ``.keras`` file holds the files that the engine saves a table as, cut into
arrays of bytes; so one file has the dense weights and the rows. Formats in which a layer has no say
(whole-model and weights files in Keras's old HDF5 layout, SavedModels) are refused, as they would
lose the rows.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.tf import table_checkpoint
from mxrec.tf.keras.versions import IS_KERAS_3
from mxrec.tf.table import SparseTable

_CHUNK_BYTES = 64 << 20
_INSTALLED = "_mxrec_keeps_tables"

# The weights file that load_weights reads, for messages.
_file: contextvars.ContextVar[str] = contextvars.ContextVar("file", default="the weights file")


def save_into(store: Any, table: SparseTable) -> None:
    """Writes a table into a layer's part of a weights file.

    Args:
        store: maps names to arrays.
        table: with ``is_save=False`` nothing is written.

    Raises:
        OSError: there is no room for the table in the directory of temporary files.
    """
    if not table.is_save:
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mxrec-keras-") as temporary:
        directory = os.path.join(temporary, "table")
        table.engine.save(directory)
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            content: Any = np.zeros(0, np.uint8)
            if os.path.getsize(path):
                content = np.memmap(path, np.uint8, "r")
            for number, start in enumerate(range(0, max(len(content), 1), _CHUNK_BYTES)):
                store[f"{name}.{number:06d}"] = np.array(content[start : start + _CHUNK_BYTES])
    table_checkpoint.note_seconds(table, "save", started)


def load_from(store: Any, table: SparseTable) -> None:
    """Replaces a table's state by what ``save_into`` wrote; on an error it is as it was.

    Raises:
        ValueError: the file has no such table, or one of another dim.
        RuntimeError: the table is trained by another optimizer than the saved one.
        OSError: the content is damaged.
    """
    if not table.is_save:
        return
    names = sorted(name for name in store.keys() if "." in name)  # noqa: SIM118  # no dict
    if not names:
        raise ValueError(
            f"The weights file has no rows of table {table.name!r}: it was saved without the "
            "table (is_save=False), or by a model that had another layer in this place."
        )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mxrec-keras-") as temporary:
        directory = os.path.join(temporary, "table")
        os.mkdir(directory)
        for name in names:
            file_name = os.path.basename(name.rpartition(".")[0])
            with open(os.path.join(directory, file_name), "ab") as file:
                file.write(np.asarray(store[name], np.uint8).tobytes())
        try:
            table.engine.restore(directory)
        except (ValueError, RuntimeError, OSError) as error:
            # What is read is a copy that is gone by the time that somebody looks for it.
            what = f"{_file.get()}, table {table.name!r}"
            raise type(error)(str(error).replace(directory, what)) from error
    table_checkpoint.note_seconds(table, "restore", started)


def install() -> None:
    """Makes ``Model.save`` and its kin refuse formats that lose tables. Idempotent."""
    model = tf.keras.Model
    _wrap(model, "save", _refusing_save)
    _wrap(model, "save_weights", _refusing_weights)
    _wrap(model, "load_weights", _undoing_load)
    if hasattr(model, "export"):
        _wrap(model, "export", _refusing_export)


def tables_of_model(model: Any) -> list[SparseTable]:
    """Returns the tables of a model's layers, each once."""
    layers = model._flatten_layers()
    tables = [
        layer.table for layer in layers if isinstance(getattr(layer, "table", None), SparseTable)
    ]
    return list({table.name: table for table in tables}.values())


def _wrap(owner: Any, name: str, wrapper: Any) -> None:
    original = getattr(owner, name)
    if not getattr(original, _INSTALLED, False):
        wrapped = wrapper(original)
        setattr(wrapped, _INSTALLED, True)
        setattr(owner, name, wrapped)


def _is_old_hdf5(path: Any, save_format: Any = None) -> bool:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    if text.endswith(".weights.h5"):
        return False
    return text.endswith((".h5", ".hdf5")) or save_format in ("h5", "hdf5")


def _refuse(model: Any, what: str, instead: str) -> None:
    names = ", ".join(repr(table.name) for table in tables_of_model(model) if table.is_save)
    if names:
        raise ValueError(f"{what} would lose the rows of {names}; {instead}.")


def _refusing_save(save: Any) -> Any:
    @functools.wraps(save)
    def wrapped(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        save_format = kwargs.get("save_format")
        if _is_old_hdf5(filepath, save_format):
            _refuse(
                self,
                f"model.save({filepath!r}) in the HDF5 format",
                "save to a name that ends in .keras",
            )
        elif not IS_KERAS_3 and not str(filepath).endswith(".keras") and save_format != "keras":
            _refuse(
                self,
                f"model.save({filepath!r}) as a SavedModel",
                "save to a name that ends in .keras, or, for serving, call "
                "mxrec.tf.export_saved_model(model, path)",
            )
        return save(self, filepath, *args, **kwargs)

    return wrapped


def _refusing_weights(save_weights: Any) -> Any:
    @functools.wraps(save_weights)
    def wrapped(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_old_hdf5(filepath, kwargs.get("save_format")):
            _refuse(
                self,
                f"model.save_weights({filepath!r}) in the old HDF5 format",
                "save to a name that ends in .weights.h5",
            )
        return save_weights(self, filepath, *args, **kwargs)

    return wrapped


def _refusing_export(export: Any) -> Any:
    @functools.wraps(export)
    def wrapped(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse(
            self,
            f"model.export({filepath!r})",
            "call mxrec.tf.export_saved_model(model, path)",
        )
        return export(self, filepath, *args, **kwargs)

    return wrapped


def _undoing_load(load_weights: Any) -> Any:
    @functools.wraps(load_weights)
    def wrapped(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        tables = [table for table in tables_of_model(self) if table.is_save]
        if tables and _is_old_hdf5(filepath):
            _refuse(
                self,
                f"model.load_weights({os.fspath(filepath)!r}) in the old HDF5 format",
                "load a file whose name ends in .weights.h5",
            )
        token = _file.set(os.fspath(filepath))
        try:
            with undone_on_error(tables):
                return load_weights(self, filepath, *args, **kwargs)
        finally:
            _file.reset(token)

    return wrapped


@contextlib.contextmanager
def undone_on_error(tables: list[SparseTable]) -> Iterator[None]:
    """Runs the body; if it raises, all tables are as before."""
    with contextlib.ExitStack() as stack:
        backup = ""
        if tables:
            backup = stack.enter_context(tempfile.TemporaryDirectory(prefix="mxrec-keras-"))
        for table in tables:
            table.engine.save(os.path.join(backup, table.name))
        versions = {table.name: table.engine.version for table in tables}
        try:
            yield
        except BaseException:
            for table in tables:
                if table.engine.version != versions[table.name]:
                    table.engine.restore(os.path.join(backup, table.name))
            raise
