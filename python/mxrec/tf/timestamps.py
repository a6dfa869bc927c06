"""When the examples of a training batch happened."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from mxrec.tf import constants, graph_state
from mxrec.tf.config import ConfigInitializer
from mxrec.tf.rewrite.edges import Edges
from mxrec.tf.rewrite.failing import failing_at

if TYPE_CHECKING:
    from mxrec.tf.table import SparseTable


class Timestamps(NamedTuple):
    """Timestamps of a lookup's keys.

    Attributes:
        tensor: int64 [m], as the op takes them; of size 0: the wall clock counts.
        may_come: there are none yet, but ``bind_late`` may put some in their place.
    """

    tensor: Any
    may_come: bool


@dataclasses.dataclass(frozen=True)
class Joined:
    """Ids of several lookups in a row.

    Attributes:
        parts: of each lookup, its ids as they were given, and its keys.
    """

    parts: tuple[tuple[Any, Any], ...]


def none_given() -> Any:
    """Returns the timestamps of a lookup by the wall clock."""
    return tf.zeros([0], tf.int64)


def of_batch(table: SparseTable, batch: Any) -> Any:
    """Returns the timestamps of a lookup's batch, int64 [m]; None: it has none.

    They are those of a ``FeatureSpec(is_timestamp=True)`` in ``batch``, or else the tensor that was
    added last to the graph's collection ``ASCEND_TIMESTAMP``.

    Args:
        table: what is looked up.
        batch: the dataset's element; None: there is none.

    Raises:
        ValueError: the table evicts by age, some feature is a timestamp, and ``batch`` has none; or
            it has two.
        TypeError: the timestamps are no integers.
    """
    if batch is not None:
        specs = ConfigInitializer.get_instance().timestamp_specs
        found = [spec for spec in specs if spec.is_in(batch)]
        others = [spec for spec in found if spec.index_key != found[-1].index_key]
        if others:
            raise ValueError(
                f"FeatureSpecs {others[0].name!r} and {found[-1].name!r} are both timestamps of "
                "this batch; an example has one. Leave is_timestamp out of one of them."
            )
        if found:
            return _flat(found[-1].tensor_of(batch), f"FeatureSpec {found[-1].name!r}")
    if not tf.executing_eagerly():
        collected = tf.compat.v1.get_collection(constants.ASCEND_TIMESTAMP)
        if collected:
            return _flat(collected[-1], f"the collection {constants.ASCEND_TIMESTAMP}")
    if batch is not None:
        _refuse_missing(table, "the batch of this lookup does not have it")
    return None


def _refuse_missing(table: SparseTable, what: str) -> None:
    """Raises ValueError if the wall clock must not stand in for timestamps that features have."""
    specs = ConfigInitializer.get_instance().timestamp_specs
    if specs and "eviction_threshold" in table.access_rules:
        raise ValueError(
            f"Table {table.table_name!r} evicts by age, and FeatureSpec {specs[-1].name!r} is a "
            f"timestamp, but {what}; put it into the dataset's element and give that as batch, add "
            f"its tensor to the collection {constants.ASCEND_TIMESTAMP}, or use no timestamps at "
            "all (then the wall clock counts)."
        )


def of_keys(table: SparseTable, batch: Any, ids: Any) -> Timestamps:
    """Returns the timestamps of a lookup's keys, as its op takes them.

    Dense ids have equally many keys for each example; sparse and ragged ones get a timestamp for
    each key.

    Args:
        table: what is looked up.
        batch: as in ``of_batch``.
        ids: dense, sparse or ragged.

    Raises:
        ValueError: the table evicts by age, some feature is a timestamp, and none came; in a graph
            whose collection may still get some, ``check_bound`` says so.
        TypeError: the timestamps are no integers.
    """
    times = of_batch(table, batch)
    if times is not None:
        return Timestamps(_spread(times, ids), False)
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    inside = hasattr(graph, "outer_graph") or (
        graph is not None and graph._get_control_flow_context() is not None
    )
    if graph is None or inside:
        _refuse_missing(table, "this lookup has none")
        return Timestamps(none_given(), False)
    return Timestamps(_not_yet(graph), True)


def _not_yet(graph: Any) -> Any:
    """No timestamps, in a graph whose collection may still get some."""
    state = graph_state.state_of(graph)
    if state.no_timestamps is None:
        with tf.compat.v1.name_scope(None), tf.control_dependencies(None), tf.device(None):
            # Of unknown size: TensorFlow puts nothing in its place that has another one.
            state.no_timestamps = tf.compat.v1.placeholder_with_default(
                none_given(), [None], "mxrec_no_timestamps"
            )
    return state.no_timestamps


def _is_for_all(times: Any) -> bool:
    return times.shape.rank is not None and times.shape.as_list()[0] in (0, 1)


def _spread(times: Any, ids: Any) -> Any:
    """Timestamps of a batch as the op of a lookup takes them; see ``of_keys``."""
    if isinstance(ids, Joined):
        return tf.concat([of_each(_spread(times, part), keys) for part, keys in ids.parts], axis=0)
    if not isinstance(ids, (tf.SparseTensor, tf.RaggedTensor)) or _is_for_all(times):
        return times
    if isinstance(ids, tf.SparseTensor):
        example = ids.indices[:, 0]
    else:
        outermost, *inner = ids.nested_value_rowids()
        example = outermost
        for rows in inner:
            example = tf.gather(example, rows)
    example = tf.cast(example, tf.int64)
    only = tf.equal(tf.size(times), 1)
    return tf.gather(times, tf.where(only, tf.zeros_like(example), example))


def of_each(times: Any, keys: Any) -> Any:
    """Returns a timestamp for each key, int64 [n]; none, if there are none.

    Args:
        times: as the op of a lookup takes them: [m], with equally many keys for each.
        keys: dense, of that lookup.
    """
    count, keys_count = tf.size(times, tf.int64), tf.size(keys, tf.int64)
    one = tf.constant(1, tf.int64)
    check = tf.debugging.assert_equal(
        keys_count % tf.maximum(count, one),
        tf.constant(0, tf.int64),
        message="timestamps must be one for all keys or one for each example",
    )
    with tf.control_dependencies([check]):
        keys_count *= tf.minimum(count, one)
    return tf.gather(times, tf.range(keys_count) * count // tf.maximum(keys_count, one))


def _flat(timestamps: Any, source: str) -> Any:
    tensor = tf.convert_to_tensor(timestamps)
    if tensor.dtype not in (tf.int64, tf.int32):
        raise TypeError(
            f"Timestamps must be int64 or int32 seconds, got dtype {tensor.dtype.name} from "
            f"{source}."
        )
    return tf.reshape(tf.cast(tensor, tf.int64), [-1])


def note_lookup(tensor: Any, timestamps: Timestamps, ids: Any) -> None:
    """Remembers a lookup that was built without timestamps, if some may come.

    Args:
        tensor: an output of the lookup's op.
        timestamps: what ``of_keys`` returned for it.
        ids: what was given to ``of_keys``.
    """
    if not timestamps.may_come:
        return
    op = tensor.op
    (place,) = (i for i, each in enumerate(op.inputs) if each is timestamps.tensor)
    graph_state.state_of(tensor.graph).untimed.append((op, place, ids))


def bind_late(graph: Any) -> None:
    """Gives lookups the timestamps that were added to the graph's collection after them.

    Called before the graph's first run, when TensorFlow still takes notice.

    Args:
        graph: a tf.Graph that is not a function's.

    Raises:
        TypeError: the timestamps are no integers; the graph's edges are as before.
    """
    edges = Edges()
    note_late(graph, edges)
    edges.apply()
    forget_late(graph)


def note_late(graph: Any, edges: Edges) -> None:
    """Builds what ``bind_late`` connects, and leaves it to the caller to connect it.

    Args:
        graph: a tf.Graph that is not a function's.
        edges: gets the changes; once they are made, ``forget_late`` is called.
    """
    if not _has_late(graph):
        return
    collected = graph.get_collection(constants.ASCEND_TIMESTAMP)
    with graph.as_default(), tf.control_dependencies(None):
        timestamps = _flat(collected[-1], f"the collection {constants.ASCEND_TIMESTAMP}")
        for op, place, ids in graph_state.state_of(graph).untimed:
            with failing_at(f"the timestamps of op {op.name!r} ({op.type})"):
                edges.connect(op, place, _spread(timestamps, ids))


def forget_late(graph: Any) -> None:
    """Says that the lookups of ``note_late`` have their timestamps."""
    if _has_late(graph):
        graph_state.state_of(graph).untimed.clear()


def _has_late(graph: Any) -> bool:
    if graph is None or hasattr(graph, "outer_graph"):
        return False
    collected = graph.get_collection(constants.ASCEND_TIMESTAMP)
    return bool(graph_state.state_of(graph).untimed and collected)


def check_bound(graph: Any, table: SparseTable) -> None:
    """Raises ValueError if a table evicts by age, and a lookup lacks the timestamps of features.

    Args:
        graph: a tf.Graph, after ``bind_late``.
        table: one of its tables.
    """
    handle = table.nodes().handle
    if any(op.inputs[0] is handle for op, _, _ in graph_state.state_of(graph).untimed):
        _refuse_missing(table, "a training lookup of it has none")
