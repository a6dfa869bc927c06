"""What a table says in a step, as the command line says it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from mxrec.errors import CapacityError, DataLossError

_FULL = re.compile(r"table '[^']*' is full: its capacity is .*?; none was inserted")
_TABLE = re.compile(r"table '[^']*'[^\n]*")


@contextmanager
def errors_of_tables() -> Iterator[None]:
    """Raises mxrec's own exceptions for TensorFlow's.

    Raises:
        CapacityError: a table is full.
        DataLossError: a file of a table is damaged.
        OSError: the system refused to read or write a file of an SSD tier.
    """
    try:
        yield
    except tf.errors.OpError as error:
        message = str(error.message)
        if full := _FULL.search(message):
            raise CapacityError(
                f"{full[0]}. Raise --memory-rows, or --ssd-rows for rows beyond memory; without "
                "these options tables grow as far as memory does"
            ) from None
        about = _TABLE.search(message)
        if about and isinstance(error, tf.errors.DataLossError):
            raise DataLossError(about[0]) from None
        if about and "SSD path" in about[0]:
            raise OSError(about[0]) from None
        raise
