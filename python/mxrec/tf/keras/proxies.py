"""How Keras knows a table: by a trainable variable without rows, whose gradient is the rows'."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

from mxrec.tf.keras.versions import IS_KERAS_3
from mxrec.tf.table import SparseTable, table_of_proxy

# Keras 3's variables of the proxies: one for each, so that layers that share a table share it.
_variables: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def proxy_of(table: SparseTable) -> Any:
    """Returns the variable that stands for a table among a layer's weights."""
    proxy = table.nodes().proxy
    if not IS_KERAS_3:
        return proxy
    variable = _variables.get(id(proxy))
    if variable is None or variable.value is not proxy:
        variable = tf.keras.Variable(
            tf.zeros([0, table.dim]), trainable=True, dtype="float32", name=f"{table.name}_proxy"
        )
        # Keras makes a variable of its own; gradients are taken with respect to the table's.
        variable._value = proxy
        _variables[id(proxy)] = variable
    return variable


def table_of(variable: Any) -> SparseTable | None:
    """Returns the table that a weight stands for; None: it is a weight like others."""
    if IS_KERAS_3 and isinstance(variable, tf.keras.Variable):
        variable = variable._value  # `value` may be a cast
    return table_of_proxy(variable)
