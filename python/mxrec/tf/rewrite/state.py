"""What rewriting knows of one graph: its lookups, what was asked for, what has been done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mxrec.tf import graph_state


@dataclasses.dataclass(frozen=True)
class Site:
    """A lookup that may be rewritten: one with ``modify_graph=True``.

    Attributes:
        name: of the lookup.
        table: name of its table.
        op: the op that takes the keys.
        place: which of the op's inputs they are.
        trains: whether the lookup makes rows and has a gradient.
    """

    name: str
    table: str
    op: Any
    place: int
    trains: bool

    @property
    def keys(self) -> Any:
        """The keys, as they are now."""
        return self.op.inputs[self.place]


@dataclasses.dataclass
class Wishes:
    """What hooks ask of the rewriting.

    Attributes:
        op_types: ops of these types move even if they lead to no lookup.
        orphans: lookups whose keys come from no dataset stay without a warning.
        push: where a lookup's ids cannot move as a whole, what can move of them does.
        dump: the graph is written before and after.
    """

    op_types: set[str] = dataclasses.field(default_factory=set)
    orphans: bool = False
    push: bool = False
    dump: bool = False


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """An iterator that was rewritten.

    Attributes:
        iterator: name of the op that was the iterator.
        initializers: its MakeIterator ops, which now initialize the new one; none if it is
            one-shot.
        sources: get_next ops of the old iterator, in the order of the graph.
        components: how many tensors its elements had.
        trains: whether it feeds training lookups.
        reads: whether it feeds other lookups.
    """

    iterator: str
    initializers: tuple[Any, ...]
    sources: tuple[Any, ...]
    components: int
    trains: bool
    reads: bool


@dataclasses.dataclass
class Rewriting:
    """State of rewriting in one graph, from ``init`` to ``terminate...``.

    Attributes:
        sites: lookups that may be rewritten, and have not been looked at yet.
        wishes: of hooks, for the next rewriting.
        iterators: rewritten ones.
        moved: ops of lookups whose keys have moved.
        done: whether a rewriting has taken place.
        missed: whether the graph has run without one, and was looked at for it.
    """

    sites: list[Site] = dataclasses.field(default_factory=list)
    wishes: Wishes = dataclasses.field(default_factory=Wishes)
    iterators: list[Rewritten] = dataclasses.field(default_factory=list)
    moved: set[Any] = dataclasses.field(default_factory=set)
    done: bool = False
    missed: bool = False

    def saved(self) -> Callable[[], None]:
        """Returns a function that makes everything as it is now again."""
        parts = {
            **self.__dict__,
            "sites": list(self.sites),
            "iterators": list(self.iterators),
            "moved": set(self.moved),
        }
        return lambda: self.__dict__.update(parts)


def rewriting_of(graph: Any) -> Rewriting:
    """Returns the state of a graph that is not a function's, created if needed."""
    state = graph_state.state_of(graph)
    if state.rewriting is None:
        state.rewriting = Rewriting()
    rewriting: Rewriting = state.rewriting
    return rewriting


def known_rewriting_of(graph: Any) -> Rewriting | None:
    """Returns the state of a graph if it has one. Cheap: it is asked in every run."""
    state = graph_state.known_state_of(graph)
    return None if state is None else state.rewriting


def note_lookup(name: str, table: str, output: Any, trains: bool) -> None:
    """Notes a lookup that may be rewritten. In eager mode there is nothing to rewrite.

    Args:
        name: of the lookup.
        table: name of its table.
        output: a tensor of the op that takes the keys.
        trains: whether it is a training lookup.
    """
    if tf.executing_eagerly():
        return
    graph = graph_state.outermost_graph(output.graph)
    with tf.init_scope():
        if graph is None or tf.executing_eagerly():
            return  # inside a tf.function of the eager context
    op = output.op
    place = [argument.name for argument in op.op_def.input_arg].index("ids")
    rewriting_of(graph).sites.append(Site(name, table, op, place, trains))
