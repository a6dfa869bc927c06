"""What belongs to one graph, or to the eager context: its tables, their handles, its lookups."""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from mxrec.tf.table import SparseTable

_ATTRIBUTE = "_mxrec_state"


@dataclasses.dataclass
class TableNodes:
    """The two inputs by which ops of one graph know a table."""

    handle: Any  # resource tensor
    proxy: Any  # variable [0, dim]
    _initialized_proxy: Any = None

    def proxy_handle(self) -> Any:
        """Returns the proxy's handle as an op at this place may use it."""
        graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        if graph is None or graph._get_control_flow_context() is None:
            return self.proxy.handle
        # The gradient of a tf.cond of TensorFlow 1 reads the proxy's shape in the branch that is
        # not taken, and nothing else initializes the proxy.
        if self._initialized_proxy is None:
            with tf.init_scope():
                assign = tf.raw_ops.AssignVariableOp(
                    resource=self.proxy.handle, value=tf.zeros(self.proxy.shape)
                )
                with tf.control_dependencies([assign]):
                    self._initialized_proxy = tf.identity(self.proxy.handle)
        return self._initialized_proxy


@dataclasses.dataclass
class GraphState:
    """Tables of one outermost graph."""

    epoch: int
    tables: dict[str, SparseTable] = dataclasses.field(default_factory=dict)
    nodes: dict[str, TableNodes] = dataclasses.field(default_factory=dict)
    # Engine options by table: of the optimizer whose ops the graph holds.
    optimizers: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Names of the tables with training lookups.
    trained: set[str] = dataclasses.field(default_factory=set)
    # What stands for timestamps in training lookups that were built before there were any.
    no_timestamps: Any = None
    # Training lookups without timestamps: op, which of its inputs they would be, its ids as given.
    untimed: list[tuple[Any, int, Any]] = dataclasses.field(default_factory=list)
    # Ops of training lookups of tables that live in another process, by the table's name.
    governed: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    # Whether an EvictHook has begun, and is enabled; None: there is none.
    evict_hook: bool | None = None
    # Runs by Sessions since there are training lookups (mxrec.tf.eviction_notice).
    runs: int = 0
    # A run has been late enough to say what nothing is evicted from.
    eviction_looked_at: bool = False
    # Lookups outside of functions and tf.cond (mxrec.tf.lookup_ops.BuiltLookup).
    lookups: list[Any] = dataclasses.field(default_factory=list)
    # Functions that create a table when they are traced, by its name.
    creators: dict[str, weakref.WeakSet[Any]] = dataclasses.field(default_factory=dict)
    # mxrec.tf.rewrite.state.Rewriting, once there is something to remember.
    rewriting: Any = None


# Counts init / terminate cycles: state of an earlier one is not seen any more.
_epoch = 0
_eager = GraphState(0)


def next_epoch() -> None:
    """Forgets the state of all graphs."""
    global _epoch, _eager
    _epoch += 1
    _eager = GraphState(_epoch)


def outermost_graph(graph: Any) -> Any:
    """Returns the graph around all functions; None if that is the eager context."""
    while hasattr(graph, "outer_graph"):
        graph = graph.outer_graph
    # The outer "graph" of a function in the eager context is the default graph of that moment.
    return graph


def state_here() -> GraphState:
    """State of the outermost context around the current code, created if needed."""
    with tf.init_scope():
        if tf.executing_eagerly():
            return _eager
        return state_of(tf.compat.v1.get_default_graph())


def known_state_of(graph: Any) -> GraphState | None:
    """State of a graph, if it has one."""
    state: GraphState | None = getattr(graph, _ATTRIBUTE, None)
    return state if state is not None and state.epoch == _epoch else None


def state_of(graph: Any) -> GraphState:
    """State of a graph, created if needed. None: of the eager context."""
    if graph is None:
        return _eager
    # On the graph itself, so that both go together.
    state = known_state_of(graph)
    if state is None:
        state = GraphState(_epoch)
        setattr(graph, _ATTRIBUTE, state)
    return state
