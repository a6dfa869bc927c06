"""The variables of a model, by kind."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.tf import graph_state
from mxrec.tf.config import ConfigInitializer


def get_dense_and_sparse_variable() -> tuple[list[Any], list[Any]]:
    """Returns the trainable dense variables and the sparse variables of the current graph.

    A sparse variable stands for a table in ``tf.gradients`` and in the optimizers of this package.
    In eager mode TensorFlow keeps no list of variables: the dense half is empty there, and a script
    passes the variables of its own layers.

    With another ``ascend_global_hashtable_collection`` set, only tables created under that name
    count.
    """
    config = ConfigInitializer.get_instance()
    collection = config.train_params_config.ascend_global_hashtable_collection
    state = graph_state.state_here()
    sparse = [
        table.nodes().proxy
        for table in list(state.tables.values())
        if table.collection == collection
    ]
    return tf.compat.v1.trainable_variables(), sparse


def all_sparse_variables() -> list[Any]:
    """Returns the sparse variables of the current graph, whatever their collection."""
    return [table.nodes().proxy for table in list(graph_state.state_here().tables.values())]
