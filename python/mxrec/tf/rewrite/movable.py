"""Which ops may run in the input pipeline instead of in the graph's step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_SWITCHES = {"Switch", "Merge", "Enter", "Exit", "NextIteration"}  # each also of references
# The stateless forms (StatelessIf, StatelessWhile, StatelessCase) are calls of functions as others.
_CONTROL_FLOW = frozenset(
    {"LoopCond", "_SwitchN", "If", "While", "Case"}
    | _SWITCHES
    | {f"Ref{name}" for name in _SWITCHES}
)
# Their Python function belongs to the graph and to this process.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


class Obstacles:
    """Says what keeps ops of one graph out of the input pipeline.

    What may move computes its outputs from its inputs alone: no state, no placeholder, no switches
    of TensorFlow 1 or branches with state, no order that the graph demands.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._functions: dict[str, str | None] = {}

    def of(self, op: Any) -> str | None:
        """Returns what keeps an op back, to follow "it "; None: it may move."""
        if op.type in _PLACEHOLDERS:
            return "is a placeholder, which the step feeds"
        if op.type in _CONTROL_FLOW or op._get_control_flow_context() is not None:
            return "is control flow, or inside it"
        if op.type in _PYTHON:
            return "calls Python"
        if op.control_inputs:
            return f"must run after {op.control_inputs[0].name!r} (a control input)"
        if op.op_def.is_stateful:
            return "is stateful"
        if any(output.dtype == tf.resource or output.dtype._is_ref_dtype for output in op.outputs):
            return "gives out a resource"
        for name in self._called_by(op.type, op.node_def.attr):
            held = self._of_function(name)
            if held is not None:
                return f"calls function {name!r}, where {held}"
        return None

    @functools.cached_property
    def library(self) -> Any:
        """The graph's functions."""
        return self._graph.as_graph_def(add_shapes=False).library

    @functools.cached_property
    def definitions(self) -> dict[str, Any]:
        """They by name."""
        return {function.signature.name: function for function in self.library.function}

    def _of_function(self, name: str) -> str | None:
        if name not in self._functions:
            self._functions[name] = None  # it may call itself
            self._functions[name] = self._find_in_function(name)
        return self._functions[name]

    def _find_in_function(self, name: str) -> str | None:
        for node in self.definitions[name].node_def:
            if node.op in _PYTHON or node.op in _PLACEHOLDERS:
                return f"{node.name!r} is a {node.op}"
            definition = op_def_registry.get(node.op)
            if definition is not None and definition.is_stateful:
                return f"{node.name!r} ({node.op}) is stateful"
            for called in self._called_by(node.op, node.attr):
                held = self._of_function(called)
                if held is not None:
                    return held
        return None

    def _called_by(self, op_type: str, attributes: Any) -> Iterator[str]:
        if op_def_registry.get(op_type) is None and op_type in self.definitions:
            yield op_type
        for value in attributes.values():
            if value.HasField("func"):
                yield value.func.name
            yield from (function.name for function in value.list.func)
