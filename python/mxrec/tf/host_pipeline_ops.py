"""What ``get_host_pipeline_ops()`` and ``import_host_pipeline_ops()`` return: this module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import tensorflow as tf

from mxrec.tf.ops import library
from mxrec.tf.validation import INT32_MAX, check_int


def import_host_pipeline_ops(library_name: str | None = None) -> ModuleType:
    """Returns the module with ``set_threshold`` and ``return_timestamp``.

    Args:
        library_name: a library of ``mx_rec.constants.constants``; all give the same module.
    """
    del library_name
    return sys.modules[__name__]


def return_timestamp(x: Any) -> tf.Tensor:
    """Returns the tensor of the moment's timestamps.

    Args:
        x: int64 tensor.

    Raises:
        TypeError: another dtype.
    """
    tensor = tf.convert_to_tensor(x)
    if tensor.dtype != tf.int64:
        raise TypeError(f"x must be an int64 tensor, got dtype {tensor.dtype.name}.")
    return tf.identity(tensor)


def set_threshold(
    threshold: Any = None,
    emb_name: str | Sequence[str] | None = None,
    ids_name: Any = None,
    *,
    threshold_tensor: Any = None,
) -> Any:
    """Changes the admission threshold of tables while they are trained.

    Counts stay as they are, and no key loses its row.

    Args:
        threshold: the new threshold, in [1, 2^31 - 1]; 0 keeps the threshold, and counts no longer
            grow. An integer or a scalar integer tensor.
        emb_name: name of a table, or a list of names.
        ids_name: accepted; a table has one threshold for all of its lookups.
        threshold_tensor: another name of ``threshold``; give one of the two.

    Returns:
        The op that sets the threshold when it is run; None in eager mode, where it is set at once.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: the threshold is out of its range, or there is no such table.
        tf.errors.FailedPreconditionError: when the op runs: a table has no admission.
    """
    from mxrec.tf import table as tables  # it needs this module

    del ids_name
    if (threshold is None) == (threshold_tensor is None):
        raise TypeError("set_threshold needs one of threshold and threshold_tensor.")
    threshold = threshold_tensor if threshold is None else threshold
    names = [emb_name] if isinstance(emb_name, str) else emb_name
    is_list = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    if not is_list or not names:
        raise TypeError(f"emb_name must be a table's name or a list of them, got {emb_name!r}.")
    if not tf.is_tensor(threshold):
        threshold = check_int("threshold", threshold, 0, INT32_MAX)
    value = tf.convert_to_tensor(threshold)
    if not value.dtype.is_integer or value.shape.rank not in (None, 0):
        raise TypeError(
            "threshold must be an integer or a scalar integer tensor, got shape "
            f"{value.shape} and dtype {value.dtype.name}."
        )
    handles = []
    for name in names:
        table = tables.table_of_name(name)
        if table is None:
            known = ", ".join(repr(each.table_name) for each in tables.registered_tables())
            raise ValueError(f"emb_name: there is no table {name!r}; there are: {known or 'none'}.")
        handles.append(table.nodes().handle)
    value = tf.cast(value, tf.int64)
    ops = [library.mxrec_set_threshold(table=each, threshold=value) for each in handles]
    return None if tf.executing_eagerly() else tf.group(*ops)
