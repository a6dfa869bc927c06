"""How Keras knows a table: by a trainable variable without rows, whose gradient is the rows'."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf.keras.versions import IS_KERAS_3
from mxrec.tf.table import SparseTable, table_of_proxy


def proxy_for(table: SparseTable, trainable: bool) -> Any:
    """Returns a variable that stands for a table among a layer's weights.

    In Keras 3 each layer has one of its own, as freezing a layer freezes its variables; those of a
    table are the same variable of TensorFlow, and have the same gradient.

    Args:
        table: the table.
        trainable: of the layer.
    """
    proxy = table.nodes().proxy
    if not IS_KERAS_3:
        return proxy
    variable = tf.keras.Variable(
        tf.zeros([0, table.dim]), trainable=trainable, dtype="float32", name=f"{table.name}_proxy"
    )
    # Keras makes a variable of its own; gradients are taken with respect to the table's.
    variable._value = proxy
    return variable


def table_of(variable: Any) -> SparseTable | None:
    """Returns the table that a weight stands for; None: it is a weight like others."""
    if IS_KERAS_3 and isinstance(variable, tf.keras.Variable):
        variable = variable._value  # `value` may be a cast
    return table_of_proxy(variable)
