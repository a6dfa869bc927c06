"""Variables of an exported graph: they stay variables, so that servers and Savers know them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from mxrec.tf.table import table_of_proxy

v1 = tf.compat.v1

_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")


class GraphVariables:
    """The variables of a graph that its exported part is built with.

    Args:
        graph: the graph.
        needed: names of the ops of the part.
        main_op: what initialises local variables when the model is loaded; None: nothing does, so
            that they are left out.
    """

    def __init__(self, graph: Any, needed: Iterable[str], main_op: Any) -> None:
        names = set(needed)
        started = _ops_before(main_op)
        self._all: list[tuple[Any, Any, list[str]]] = []  # variable, its proto, collections
        seen: set[int] = set()
        for key in (v1.GraphKeys.GLOBAL_VARIABLES, v1.GraphKeys.LOCAL_VARIABLES):
            for variable in graph.get_collection(key):
                local = key == v1.GraphKeys.LOCAL_VARIABLES
                if id(variable) in seen or variable.op.name not in names:
                    continue
                if local and variable.initializer.name not in started:
                    continue
                if table_of_proxy(variable) is not None:
                    continue
                seen.add(id(variable))
                keys = [key]
                if any(variable is v for v in graph.get_collection("trainable_variables")):
                    keys.append(v1.GraphKeys.TRAINABLE_VARIABLES)
                self._all.append((variable, variable.to_proto(), keys))

    def ops(self) -> list[str]:
        """Returns the names of the ops that make, initialise and read the variables."""
        names = set()
        for _, proto, _ in self._all:
            for tensor in (
                proto.variable_name,
                proto.initializer_name,
                proto.initial_value_name,
                proto.snapshot_name,
            ):
                names.add(tensor.rsplit(":", 1)[0])
        return sorted(names - {""})

    def variable_ops(self) -> list[str]:
        """Returns the names of the variables' own ops."""
        return [variable.op.name for variable, *_ in self._all]

    def recreate(self) -> list[Any]:
        """Makes the variables again in the default graph, which has their ops.

        Returns:
            (source, copy) of each variable that is saved: of all but the local ones.
        """
        saved = []
        for variable, proto, keys in self._all:
            kind = resource_variable_ops.ResourceVariable if proto.is_resource else v1.Variable
            copy = kind.from_proto(proto)
            for key in keys:
                v1.add_to_collection(key, copy)
            if v1.GraphKeys.LOCAL_VARIABLES not in keys:
                saved.append((variable, copy))
        return saved

    def others(self, graph_def: Any) -> list[str]:
        """Returns the names of the variables' ops in a graph that are none of these."""
        own = set(self.variable_ops())
        return [n.name for n in graph_def.node if n.op in _VARIABLE_OPS and n.name not in own]


def copy_values(pairs: list[tuple[Any, Any]], source: Any, target: Any) -> None:
    """Gives the second variable of each pair the value of the first.

    Args:
        pairs: of variables.
        source: the session that has the values.
        target: that of the copies.
    """
    for variable, copy in pairs:
        value = source.run(variable)
        target.run(copy.initializer, {copy.initializer.inputs[1]: value})


def _ops_before(op: Any) -> set[str]:
    """Names of the ops that an op needs, with its own; none for None."""
    names: set[str] = set()
    waiting = [op] if op is not None else []
    while waiting:
        each = waiting.pop()
        if each.name not in names:
            names.add(each.name)
            waiting.extend(tensor.op for tensor in each.inputs)
            waiting.extend(each.control_inputs)
    return names
