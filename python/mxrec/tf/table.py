"""create_table and the tables that it returns."""

from __future__ import annotations

import contextlib
import threading
import weakref
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import resource_variable_ops

from mxrec import _mxrec
from mxrec.histograms import Histograms, histograms_of
from mxrec.tf import graph_state, grouping
from mxrec.tf.config import ConfigInitializer
from mxrec.tf.gradients import mark_proxy
from mxrec.tf.graph_state import TableNodes
from mxrec.tf.table_options import TableSpec, check_padding, check_sizes, check_spec
from mxrec.tf.validation import INT64_MAX, check_bool, check_int

_PREFIX = "mxrec/"  # of resource names: keeps a table apart from a dense variable of its name

_lock = threading.Lock()
_tables: dict[str, SparseTable] = {}  # of the process, by name
_access_rules: dict[str, dict[str, tuple[int, str]]] = {}  # by table name; see SparseTable
_triggered: set[str] = set()  # names of tables that ``SparseTable.evict`` was called of
_proxies: dict[int, SparseTable] = {}  # by id of the proxy, which the table's graph keeps alive


class SparseTable:
    """An embedding table as TensorFlow code sees it. Made by ``create_table``.

    Attributes:
        engine: the table in the engine (``mxrec._mxrec.Table``).
        spec: what it was created with.
        collection: graph collection of its sparse variables.
    """

    def __init__(self, spec: TableSpec, engine: Any, collection: str) -> None:
        self.spec = spec
        self.engine = engine
        self.collection = collection
        # The SparseOptimizer that dense optimizers hand the gradients to; None: there is none.
        self.trainer: Any = None
        # By name of the threshold: its value, and the lookup that set it. One per engine table.
        self.access_rules: dict[str, tuple[int, str]] = _access_rules.setdefault(spec.name, {})

    @property
    def table_name(self) -> str:
        """The table's name."""
        return self.spec.name

    @property
    def name(self) -> str:
        """The table's name."""
        return self.spec.name

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.spec.dim

    @property
    def key_dtype(self) -> tf.DType:
        """Type of the keys."""
        return self.spec.key_dtype

    @property
    def grouped(self) -> bool:
        """Whether lookups and updates of the table may be part of grouped ops."""
        return self.spec.enable_merge or ConfigInitializer.get_instance().group_lookups

    @property
    def is_save(self) -> bool:
        """Whether checkpoints hold the table."""
        return self.spec.is_save

    @property
    def admits(self) -> bool:
        """Whether keys must be admitted to the table."""
        return bool(self.engine.admission.threshold >= 0)

    @property
    def evicts(self) -> bool:
        """Whether the table has a rule of eviction."""
        rules = self.engine.eviction
        return bool(rules.max_age >= 0 or rules.max_rows > 0 or rules.min_l2 > 0)

    @property
    def was_triggered(self) -> bool:
        """Whether ``evict`` was called of the table, in any graph."""
        return self.table_name in _triggered

    def counts(self, keys: Any) -> Any:
        """Returns how often keys were used in training, as ``mxrec.Table.counts`` does.

        Args:
            keys: int64 or int32 array [n].
        """
        return self._open_engine().counts(keys)

    def stats(self) -> dict[str, Any]:
        """Returns counts and sizes, as ``mxrec.Table.stats`` does."""
        stats: dict[str, Any] = self._open_engine().stats()
        return stats

    def histograms(self) -> Histograms:
        """Counts the rows by frequency and age, as ``mxrec.Table.histograms`` does."""
        return histograms_of(self._open_engine())

    def evict(self, now: int | None = None, budget: int | None = None) -> int:
        """Applies the table's rules of eviction at once, as ``mxrec.Table.evict`` does.

        Args:
            now: seconds in [0, 2^32); None: the time of the latest training use.
            budget: rows that this call frees at most, >= 0; None: all.

        Returns:
            The rows that this call freed.

        Raises:
            TypeError: ``now`` or ``budget`` is no integer.
            ValueError: one is out of its range.
            RuntimeError: the table has no rule of eviction.
        """
        freed = self._open_engine().evict(
            None if now is None else check_int("now", now, 0, 2**32 - 1),
            None if budget is None else check_int("budget", budget, 0, INT64_MAX),
        )
        _triggered.add(self.table_name)
        return int(freed)

    def prefetch(self, keys: Any) -> None:
        """Begins to read rows that are on SSD, as ``mxrec.Table.prefetch`` does.

        Lookups in the input pipeline do so by themselves.

        Args:
            keys: int64 or int32 array [n].
        """
        self._open_engine().prefetch(keys)

    def size(self) -> int:
        """Returns the number of keys in the table now."""
        return len(self._open_engine())

    def capacity(self) -> int:
        """Returns the number of keys that it can hold; 2^63-1 if it grows without limit."""
        capacity = self._open_engine().capacity
        return INT64_MAX if capacity is None else int(capacity)

    def nodes(self) -> TableNodes:
        """Returns the table's handle and proxy in the outermost context around the current code."""
        self._open_engine()
        state = graph_state.state_here()
        nodes = state.nodes.get(self.table_name)
        if nodes is None:
            with tf.init_scope():
                nodes = self._make_nodes()
            state.nodes[self.table_name] = nodes
            state.tables.setdefault(self.table_name, self)
            _proxies[id(nodes.proxy)] = self
        return nodes

    def _make_nodes(self) -> TableNodes:
        op_name = f"mxrec_{self.table_name}"  # a leading _ or . is no valid scope
        with tf.compat.v1.name_scope(None):
            handle = tf.raw_ops.VarHandleOp(
                dtype=tf.float32,
                shape=[self.dim],
                shared_name=_PREFIX + self.table_name,
                name=op_name,
            )
            # Trainable, so that tapes watch it; then out of the collection of such variables, so
            # that no dense optimizer or Saver meets it. An op of both needs them on one device, and
            # replica_device_setter would deal them out to parameter servers in turn.
            with _on_device_of(handle):
                proxy = tf.compat.v1.Variable(
                    tf.zeros([0, self.dim]),
                    trainable=True,
                    collections=[],
                    use_resource=True,
                    name=f"{op_name}_proxy",
                )
        mark_proxy(proxy)
        if not tf.executing_eagerly():
            graph = tf.compat.v1.get_default_graph()
            trainable = graph.get_collection_ref(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
            trainable[:] = [variable for variable in trainable if variable is not proxy]
            graph.add_to_collection(self.collection, proxy)
        return TableNodes(handle, proxy)

    def _open_engine(self) -> Any:
        if self.engine.closed:
            raise RuntimeError(
                f"Table {self.table_name!r} was released by terminate_config_initializer(); create "
                "it again after init(...)."
            )
        return self.engine

    def __repr__(self) -> str:
        return f"SparseTable(name={self.table_name!r}, dim={self.dim})"


def create_table(
    key_dtype: Any,
    dim: Any,
    name: str,
    emb_initializer: Any,
    device_vocabulary_size: int = 1,
    host_vocabulary_size: int = 0,
    ssd_vocabulary_size: int = 0,
    ssd_data_path: Sequence[str] | None = None,
    is_save: bool = True,
    is_dp: bool = False,
    init_param: float = 1.0,
    all2all_gradients_op: Any = "sum_gradients",
    enable_merge: bool = False,
    padding_keys: int | Sequence[int] | None = None,
    padding_keys_mask: bool = True,
    padding_keys_len: int | None = None,
    value_dtype: Any = tf.float32,
    shard_num: int = 1,
    fusion_optimizer_var: bool = True,
    hashtable_threshold: int = 0,
    optimizer_list: Any = None,
    stochastic_rounding: bool = False,
    admission: str = "exact",
    admission_keys: int = 4_194_304,
    evict_max_rows: int | None = None,
    evict_min_l2: float | None = None,
    use_dynamic_expansion: bool | None = None,
    exist_ok: bool = False,
) -> SparseTable:
    """Creates an embedding table, or attaches another graph to it.

    Args:
        key_dtype: tf.int64 or tf.int32: the type of the ids that the table is meant for. Keys are
            stored as int64 either way; int64 ids in a tf.int32 table work, with a warning.
        dim: width of an embedding, [1, 8192]; an int or a 1-D TensorShape.
        name: 1-100 of ``[A-Za-z0-9_.]``, unique in the graph. In another graph, the same name with
            equal options is the same table. A ``tf.function`` counts as a graph: tracing it again
            gives the same table.
        emb_initializer: a TensorFlow initializer. Constant, zeros, ones, random and truncated
            normal, random uniform and variance scaling (with the fan-in of a [dim, dim] matrix)
            are computed per key; any other is called with the [n, dim] shape of each batch's new
            keys.
        device_vocabulary_size: rows of the device tier, [1, 10^9].
        host_vocabulary_size: rows of the host tier, [0, 10^9]. Without an accelerator, both
            tiers are memory; their sizes add up.
        ssd_vocabulary_size: rows beyond these, [0, 10^9]; needs ``host_vocabulary_size`` > 0. Cold
            rows leave memory for files; results do not depend on it. 0: there is no SSD tier.
        ssd_data_path: list or tuple of directories for these files, which exist and are writable;
            the next one is used when a disk is full. None: the working directory.
        is_save: checkpoints hold the table.
        is_dp: accepted; there is one rank.
        init_param: factor on initial values, [-10, 10].
        all2all_gradients_op: ``sum_gradients`` or ``sum_gradients_and_div_by_ranksize``, the same
            on one rank.
        enable_merge: lookups and updates of the table are part of grouped ops even with
            ``init(group_lookups=False)``. Tables stay tables of their own: names, sizes,
            checkpoints and results do not depend on it.
        padding_keys: key or keys that get no update.
        padding_keys_mask: False: padding keys are updated like others.
        padding_keys_len: number of ``padding_keys``.
        value_dtype: tf.float32, tf.float16 or tf.bfloat16: how embeddings are stored. Lookups,
            gradients, arithmetic and the optimizer's state are float32 in any case.
        shard_num: accepted; the engine chooses.
        fusion_optimizer_var: accepted.
        hashtable_threshold: accepted.
        optimizer_list: ignored.
        stochastic_rounding: updates of tf.float16 or tf.bfloat16 embeddings round up or down at
            random, with the probabilities that keep the mean; the same data gives the same bits.
            False: to nearest.
        admission: how keys are counted whose lookups have an ``access_threshold``: "exact", or
            "sketch" for key spaces too large for a count each (``mxrec.Admission``).
        admission_keys: distinct keys that a sketch is sized for, [1, 2^36].
        evict_max_rows: rule of eviction: beyond so many rows the least frequently used go at a
            trigger, [1, 2^63); None: no such rule.
        evict_min_l2: rule of eviction: rows whose embedding has a smaller L2 norm go, above 0;
            None: no such rule.
        use_dynamic_expansion: the table grows without limit; None: as ``init`` was told.
        exist_ok: if the graph has a table of that name with equal options, it is returned.

    Returns:
        The table.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range, the name is taken in this graph, or the table
            exists with other options.
        RuntimeError: ``init`` has not been called, or the graph is finalized.
        OSError: there is an SSD tier, and a directory of ``ssd_data_path`` is not there, is no
            directory, or cannot be written.
    """
    config = ConfigInitializer.get_instance()
    del optimizer_list
    expansion = config.use_dynamic_expansion
    if use_dynamic_expansion is not None:
        expansion = check_bool("use_dynamic_expansion", use_dynamic_expansion)
    spec = check_spec(
        name=name,
        key_dtype=key_dtype,
        dim=dim,
        emb_initializer=emb_initializer,
        sizes=check_sizes(
            device_vocabulary_size,
            host_vocabulary_size,
            ssd_vocabulary_size,
            ssd_data_path,
            expansion,
        ),
        is_save=is_save,
        is_dp=is_dp,
        init_param=init_param,
        all2all_gradients_op=all2all_gradients_op,
        enable_merge=enable_merge,
        padding_keys=check_padding(padding_keys, padding_keys_mask, padding_keys_len),
        value_dtype=value_dtype,
        stochastic_rounding=stochastic_rounding,
        shard_num=shard_num,
        fusion_optimizer_var=fusion_optimizer_var,
        hashtable_threshold=hashtable_threshold,
        admission=admission,
        admission_keys=admission_keys,
        evict_max_rows=evict_max_rows,
        evict_min_l2=evict_min_l2,
    )
    if spec.enable_merge:
        grouping.install()
    check_bool("exist_ok", exist_ok)
    collection = config.train_params_config.ascend_global_hashtable_collection
    with _lock:
        return _attach(spec, collection, config.use_hot, exist_ok)


def _attach(spec: TableSpec, collection: str, use_hot: bool, exist_ok: bool) -> SparseTable:
    state = graph_state.state_here()
    function = _function_here()
    there = state.tables.get(spec.name)
    creators = state.creators.setdefault(spec.name, weakref.WeakSet())
    if there is not None and not exist_ok and (function is None or function in creators):
        raise ValueError(
            f"name={spec.name!r} is taken by another table of this graph; choose another name or "
            "use the table that is there."
        )
    known = _tables.get(spec.name)
    if known is None:
        engine = _make_engine(spec, use_hot)
    elif (difference := known.spec.difference(spec)) is not None:
        raise ValueError(
            f"Table {spec.name!r} exists {'in another graph' if there is None else 'here'} with "
            f"different options: {difference}. "
            "Pass equal options, choose another name, or call terminate_config_initializer()."
        )
    else:
        engine = known.engine
    table = there or SparseTable(spec, engine, collection)
    try:
        table.nodes()  # before the table can be used: a graph that is finalized later has them
    except BaseException:
        if known is None:
            _mxrec.unregister_table(spec.name)
            engine.close()
        raise
    _tables.setdefault(spec.name, table)
    if function is not None:
        creators.add(function)
    return table


@contextlib.contextmanager
def _on_device_of(handle: Any) -> Iterator[None]:
    if tf.executing_eagerly():
        yield
        return
    # Without the device scope, variables would ask the device functions around nevertheless.
    with handle.graph.colocate_with(handle.op), tf.device(None):
        yield


def _function_here() -> Any:
    """The graph of the function that is being traced; None: there is none."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    return graph if hasattr(graph, "outer_graph") else None


def _make_engine(spec: TableSpec, use_hot: bool) -> Any:
    engine = _mxrec.Table(
        spec.name,
        spec.dim,
        memory_rows=spec.memory_rows,
        ssd_rows=spec.ssd_rows,
        ssd_paths=list(spec.ssd_paths),
        seed=_seed(spec),
        initializer=spec.initial_values.options,
        padding_keys=list(spec.padding_keys),
        value_dtype=spec.value_dtype.name,
        stochastic_rounding=spec.stochastic_rounding,
        use_hot=use_hot,
        eviction=_mxrec.EvictionOptions(
            max_rows=spec.evict_max_rows or 0, min_l2=spec.evict_min_l2 or 0.0
        ),
    )
    _mxrec.register_table(spec.name, engine)
    return engine


def _seed(spec: TableSpec) -> int:
    """The initializer's seed, else the graph's, else a hash of the name."""
    seed = spec.initial_values.seed
    if seed is None:
        seed = _graph_seed()
    if seed is None:
        seed = zlib.crc32(spec.name.encode())
    return int(seed) % 2**64


def _graph_seed() -> int | None:
    """What tf.random.set_seed or tf.compat.v1.set_random_seed was given."""
    seed: int | None
    with tf.init_scope():
        eager = tf.executing_eagerly()
        seed = context.global_seed() if eager else tf.compat.v1.get_default_graph().seed
    return seed


def registered_tables() -> list[SparseTable]:
    """Returns all tables of this process, one per name."""
    with _lock:
        return list(_tables.values())


def tables_of_graph(graph: Any) -> list[SparseTable]:
    """Returns the tables that are created or looked up in a graph.

    Args:
        graph: a tf.Graph; None: the eager context.
    """
    outermost = graph_state.outermost_graph(graph)
    tables = list(graph_state.state_of(outermost).tables.values())
    if graph is not outermost and not tables:
        tables = list(graph_state.state_of(None).tables.values())  # a function of the eager context
    return tables


def table_of_proxy(variable: Any) -> SparseTable | None:
    """Returns the table whose sparse variable this is; None: it is none."""
    return _proxies.get(id(variable)) if is_resource(variable) else None


def is_resource(variable: Any) -> bool:
    """Returns whether this is a resource variable."""
    return isinstance(variable, resource_variable_ops.BaseResourceVariable)


def table_of_name(name: str) -> SparseTable | None:
    """Returns the table of this process with this name."""
    with _lock:
        return _tables.get(name)


def table_of_resource_name(shared_name: str) -> SparseTable | None:
    """Returns the table that a handle of this resource name means."""
    if not shared_name.startswith(_PREFIX):
        return None
    return table_of_name(shared_name.removeprefix(_PREFIX))


def release_all() -> None:
    """Closes and forgets every table of the process that ``create_table`` made."""
    with _lock:
        for name, table in _tables.items():
            _mxrec.unregister_table(name)
            table.engine.close()
        _tables.clear()
        _access_rules.clear()
        _triggered.clear()
        _proxies.clear()
