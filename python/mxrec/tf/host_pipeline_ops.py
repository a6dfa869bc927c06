"""What ``get_host_pipeline_ops()`` and ``import_host_pipeline_ops()`` return: this module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import tensorflow as tf

from mxrec.tf.unsupported import not_delivered


def import_host_pipeline_ops() -> ModuleType:
    """Returns the module with ``set_threshold`` and ``return_timestamp``."""
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
    threshold: Any, emb_name: str | Sequence[str] | None = None, ids_name: Any = None
) -> Any:
    """Changes the admission threshold of tables.

    Raises:
        NotImplementedError: this version has no feature admission.
    """
    raise not_delivered("feature admission", f"set_threshold(emb_name={emb_name!r})")
