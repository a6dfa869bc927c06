"""Tables as an exported model reads them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mxrec import _mxrec
from mxrec.tf.ops import library
from mxrec.tf.serving import bags

if TYPE_CHECKING:
    from mxrec.tf.lookup_ops import Lookup
    from mxrec.tf.table import SparseTable

# Beside assets/, where SavedModels keep what TensorFlow does not read.
TABLES_FOLDER = "assets.extra/mxrec"
MARKER_NAME = "mxrec-tables.json"
FORMAT_VERSION = 1

_CHUNK_ROWS = 65536


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where tables go.

    Attributes:
        tables: "in_graph", "directory", or "auto": by size.
        in_graph_bytes: "auto" puts tables up to this many bytes of keys and rows into the graph.
    """

    tables: str
    in_graph_bytes: int

    def in_graph(self, table: SparseTable) -> bool:
        """Whether a table is made part of the graph."""
        if self.tables != "auto":
            return self.tables == "in_graph"
        return bytes_of(table) <= self.in_graph_bytes


def bytes_of(table: SparseTable) -> int:
    """Returns the bytes of a table's keys and embeddings as they lie in a graph."""
    return table.size() * (8 + 4 * table.dim)


class Freezer:
    """Freezes tables when lookups ask for them; each table once.

    Args:
        placement: where tables go.
        folder: of tables that go into directories. Made when there are any.
        constants: makes tensors of two arrays, (keys, values), that the graph being built may use.
        asset: returns the path of the model's marker file, as that graph knows it: a string tensor.
        uids: of tables that other graphs of the model have put into ``folder``, by name; this
            adds its own.
    """

    def __init__(
        self,
        placement: Placement,
        folder: str,
        constants: Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]],
        asset: Callable[[], Any],
        uids: dict[str, str] | None = None,
    ) -> None:
        self._placement = placement
        self._folder = folder
        self._constants = constants
        self._asset = asset
        self._sorted: dict[str, tuple[Any, Any]] = {}
        self._uids: dict[str, str] = {} if uids is None else uids

    @property
    def uses_directory(self) -> bool:
        """Whether a table went into a directory."""
        return bool(self._uids)

    def marker(self) -> str:
        """Returns the text of the marker file."""
        return marker_text(self._uids)

    def look_up(self, lookup: Lookup) -> Any:
        """Builds a lookup, whether it was to train or not.

        Returns:
            The rows of the bags, or of the keys: float32.
        """
        rows = self.read(lookup.table, lookup.keys, lookup.absent)
        if lookup.bags is None:
            return rows
        pooling = lookup.bags
        pooled = bags.pool(rows, pooling.splits, pooling.weights, str(pooling.combiner))
        return pooling.with_count(pooled)

    def read(self, table: SparseTable, keys: Any, absent: Any) -> Any:
        """Returns rows, float32 ``keys.shape + [dim]``.

        Args:
            table: which is frozen as it is now.
            keys: int64 or int32.
            absent: what keys without a row read, [dim]; [0]: zeros.
        """
        if self._placement.in_graph(table) or table.name in self._sorted:
            return self._read_in_graph(table, keys, absent)
        if "://" in self._folder:
            raise ValueError(
                f"Table {table.name!r} has {bytes_of(table)} bytes, and goes into a directory of "
                f"the model; such models are exported to local file systems only, not to "
                f"{self._folder!r}. Export to a local directory, and copy it from there."
            )
        if table.name not in self._uids:
            self._uids[table.name] = write_read_only(table, os.path.join(self._folder, table.name))
        return library.mxrec_served_read(
            asset=self._asset(),
            ids=keys,
            like=tf.zeros([0, table.dim]),
            absent=absent,
            path=f"{TABLES_FOLDER}/{table.name}",
            uid=self._uids[table.name],
        )

    def _read_in_graph(self, table: SparseTable, keys: Any, absent: Any) -> Any:
        if table.name not in self._sorted:
            self._sorted[table.name] = self._constants(*sorted_rows(table))
        there, values = self._sorted[table.name]
        wanted = tf.cast(tf.reshape(keys, [-1]), tf.int64)
        missing = tf.concat([absent, tf.zeros([table.dim])], axis=0)[: table.dim]
        if table.size() == 0:
            rows = tf.tile(missing[tf.newaxis], [tf.size(wanted), 1])
        else:
            there, values = tf.convert_to_tensor(there), tf.convert_to_tensor(values)
            last = tf.size(there, tf.int64) - 1
            place = tf.minimum(tf.searchsorted(there, wanted, out_type=tf.int64), last)
            found = tf.equal(tf.gather(there, place), wanted)
            rows = tf.where(found[:, tf.newaxis], tf.gather(values, place), missing)
        result = tf.reshape(rows, tf.concat([tf.shape(keys), [table.dim]], axis=0))
        result.set_shape(keys.shape.concatenate([table.dim]))
        return result


def marker_text(uids: dict[str, str]) -> str:
    """Returns the text of a marker file: which tables the model has in directories.

    Args:
        uids: of the tables, by name.
    """
    tables = {name: {"path": f"{TABLES_FOLDER}/{name}", "uid": uid} for name, uid in uids.items()}
    return json.dumps({"format": FORMAT_VERSION, "tables": tables}, indent=1) + "\n"


def sorted_rows(table: SparseTable) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns a table's keys in ascending order, int64 [n], and their embeddings [n, dim].

    Raises:
        RuntimeError: the table changed meanwhile.
    """
    keys = [np.zeros(0, np.int64)]
    values = [np.zeros((0, table.dim), np.float32)]

    def take(some_keys: Any, some_values: Any) -> None:
        keys.append(some_keys)
        values.append(some_values)

    _scan(table, take)
    all_keys = np.concatenate(keys)
    order = np.argsort(all_keys)
    return all_keys[order], np.concatenate(values)[order]


def write_read_only(table: SparseTable, directory: str) -> str:
    """Saves a table without what only training needs, and returns the uid of what was saved.

    Raises:
        RuntimeError: the table changed meanwhile.
        OSError: it could not be written.
    """
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    engine = table.engine
    copy = _mxrec.Table(
        table.name, table.dim, value_dtype=engine.value_dtype, use_hot=engine.use_hot
    )
    try:
        _scan(table, copy.assign)
        return str(copy.save(directory)["uid"])
    finally:
        copy.close()


def _scan(table: SparseTable, take: Callable[[Any, Any], None]) -> None:
    engine = table.engine
    before = engine.version
    cursor = (0, 0)
    while True:
        cursor, keys, values, *_ = engine.scan(cursor, _CHUNK_ROWS)
        if not len(keys):
            break
        take(keys, values)
    if engine.version != before:
        raise RuntimeError(
            f"Table {table.name!r} changed while it was exported; export when no training step is "
            "under way."
        )
