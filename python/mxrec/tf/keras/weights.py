"""``get_weights`` and ``set_weights`` of layers and models with tables.

The arrays of ``get_weights`` hold no rows: a table has too many for them. What they have instead is
which state of the table they go with, so that ``set_weights`` cannot mix the dense weights of one
moment with the rows of another. ``EarlyStopping(restore_best_weights=True)`` keeps the best model
by these two calls; within it a table's state is put aside on disk, and comes back.
"""

from __future__ import annotations

import contextvars
import functools
import os
import tempfile
import weakref
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.tf.keras.proxies import table_of
from mxrec.tf.log import logger
from mxrec.tf.table import SparseTable

_INSTALLED = "_mxrec_knows_tables"
_INSTEAD = (
    "Keep the whole model by model.save_weights('best.weights.h5') and model.load_weights, by "
    "keras.callbacks.ModelCheckpoint('best.weights.h5', save_best_only=True, "
    "save_weights_only=True), or by tf.train.Checkpoint"
)

# Whether get_weights puts the states of tables aside.
_keeping: contextvars.ContextVar[bool] = contextvars.ContextVar("keeping", default=False)


class _State:
    """A table as it was at a moment.

    Args:
        table: the table.
        keep: put its rows and slots aside on disk, until this object is gone.
    """

    def __init__(self, table: SparseTable, keep: bool) -> None:
        self._table = weakref.ref(table)
        self._version = table.engine.version
        self._directory: Any = None
        if keep:
            self._directory = tempfile.TemporaryDirectory(prefix="mxrec-keras-")
            table.engine.save(os.path.join(self._directory.name, "table"))

    def is_of_now(self, table: SparseTable) -> bool:
        return self._table() is table and table.engine.version == self._version

    @property
    def kept(self) -> bool:
        return self._directory is not None

    def bring_back(self, table: SparseTable) -> None:
        table.engine.restore(os.path.join(self._directory.name, "table"))
        if self._table() is table:
            self._version = table.engine.version


class TableWeights(np.ndarray):  # type: ignore[type-arg]
    """What ``get_weights`` has of a table: float32 [0, dim], and which state it stands for.

    Copies stand for the same state; what is computed from it stands for none.
    """

    state: _State | None

    def __array_finalize__(self, obj: Any) -> None:
        self.state = None

    def _copied(self) -> TableWeights:
        copied = np.zeros(self.shape, self.dtype).view(TableWeights)
        copied.state = self.state
        return copied

    def copy(self, order: Any = "C") -> TableWeights:
        """Returns a copy."""
        del order
        return self._copied()

    def __copy__(self) -> TableWeights:
        return self._copied()

    def __deepcopy__(self, memo: Any) -> TableWeights:
        return self._copied()


def install() -> None:
    """Wraps ``get_weights``, ``set_weights`` and EarlyStopping process-wide. Idempotent."""
    layer, early_stopping = tf.keras.layers.Layer, tf.keras.callbacks.EarlyStopping
    if getattr(layer, _INSTALLED, False):
        return
    layer.get_weights = _noting_get(layer.get_weights)
    layer.set_weights = _checking_set(layer.set_weights)
    early_stopping.on_epoch_end = _keeping_epoch_end(early_stopping.on_epoch_end)
    setattr(layer, _INSTALLED, True)


def _tables(layer: Any) -> list[tuple[int, SparseTable]]:
    """The places of tables among a layer's weights."""
    found, place = [], 0
    for weight in layer.weights:
        table = table_of(weight)
        if table is not None:
            found.append((place, table))
        place += getattr(weight, "num_tensors", 1)  # several: the state of a Keras 2 preprocessor
    return found


def _noting_get(get_weights: Any) -> Any:
    @functools.wraps(get_weights)
    def noting(self: Any) -> Any:
        values = get_weights(self)
        states: dict[str, _State] = {}
        for place, table in _tables(self):
            if table.name not in states:
                states[table.name] = _State(table, _keeping.get())
            weights = np.zeros((0, table.dim), np.float32).view(TableWeights)
            weights.state = states[table.name]
            values[place] = weights
        return values

    return noting


def _checking_set(set_weights: Any) -> Any:
    @functools.wraps(set_weights)
    def checking(self: Any, weights: Any) -> Any:
        weights = list(weights)
        back: dict[str, tuple[SparseTable, _State]] = {}
        unknown = set()
        for place, table in _tables(self):
            value = weights[place] if place < len(weights) else None
            state = value.state if isinstance(value, TableWeights) else None
            if state is None:
                unknown.add(table.name)
            elif state.is_of_now(table):
                continue
            elif state.kept:
                back[table.name] = table, state
            else:
                raise ValueError(
                    f"set_weights on {self.name!r}: the rows of table {table.name!r} are not "
                    "those that these weights were trained with: get_weights() holds no rows, and "
                    f"they have changed since it was called. {_INSTEAD}; set_weights of the dense "
                    "layers alone leaves the tables as they are."
                )
        for name in sorted(unknown):
            logger.warning(
                "set_weights on %r: the array for table %r does not say which rows it goes with; "
                "the rows stay as they are, which may not be those that the dense weights were "
                "trained with. %s.",
                self.name,
                name,
                _INSTEAD,
            )
        for table, state in back.values():
            state.bring_back(table)
        return set_weights(self, weights)

    return checking


def _keeping_epoch_end(on_epoch_end: Any) -> Any:
    @functools.wraps(on_epoch_end)
    def keeping(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _keeping.set(bool(self.restore_best_weights))
        try:
            return on_epoch_end(self, *args, **kwargs)
        finally:
            _keeping.reset(token)

    return keeping
