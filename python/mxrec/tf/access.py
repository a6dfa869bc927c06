"""Admission and eviction as lookups ask for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from mxrec import _mxrec
from mxrec.tf import graph_state
from mxrec.tf.ops import library
from mxrec.tf.validation import INT32_MAX, check_int

if TYPE_CHECKING:
    from mxrec.tf.table import SparseTable

_KEYS = ("access_threshold", "eviction_threshold", "faae_coefficient")


@dataclasses.dataclass(frozen=True)
class AccessConfig:
    """Checked thresholds of one lookup; None: it says nothing."""

    access_threshold: int | None = None
    eviction_threshold: int | None = None
    faae_coefficient: int = 1


def check_access_and_evict(
    access_threshold: Any, eviction_threshold: Any, faae_coefficient: Any = 1
) -> AccessConfig:
    """Returns the checked parameters of admission and eviction.

    Args:
        access_threshold: count that admits a key; 0: by restored counts; None or -1: off.
        eviction_threshold: seconds; None or -1: off.
        faae_coefficient: weight of an occurrence, >= 1; None: 1.

    Raises:
        TypeError: a value is no integer.
        ValueError: a value is out of its range.
    """
    thresholds = {
        "access_threshold": access_threshold,
        "eviction_threshold": eviction_threshold,
    }
    for name, value in thresholds.items():
        if value is not None and check_int(name, value, -1, INT32_MAX) == -1:
            thresholds[name] = None
    if faae_coefficient is not None:
        check_int("faae_coefficient", faae_coefficient, 1, INT32_MAX)
    return AccessConfig(**thresholds, faae_coefficient=faae_coefficient or 1)


def check_access_and_evict_config(config: Any) -> AccessConfig | None:
    """Returns ``access_and_evict_config`` of a lookup, checked; None: there is none."""
    if config is None:
        return None
    if not isinstance(config, Mapping):
        raise TypeError(
            f"access_and_evict_config must be a dict, got {config!r} ({type(config).__name__})."
        )
    unknown = [key for key in config if key not in _KEYS]
    if unknown:
        raise ValueError(
            f"access_and_evict_config has unknown keys {unknown}; known are {', '.join(_KEYS)}."
        )
    return check_access_and_evict(*(config.get(key) for key in _KEYS))


def configure(table: SparseTable, config: AccessConfig, lookup: str) -> None:
    """Gives a table the admission and eviction that a lookup asks for.

    Args:
        table: what is looked up.
        config: of the lookup. What it does not say stays as it is.
        lookup: the lookup's name, for messages.

    Raises:
        ValueError: another lookup of the table has another threshold, or the threshold does not
            suit the table's ``admission``.
    """
    rules = table.access_rules
    before = dict(rules)
    for name in ("access_threshold", "eviction_threshold"):
        value = getattr(config, name)
        if value is None:
            continue
        known, by = rules.get(name, (value, lookup))
        if known != value:
            raise ValueError(
                f"Table {table.table_name!r}: lookup {lookup!r} has {name}={value}, but lookup "
                f"{by!r} has {name}={known}; a table has one {name}, so give all of its lookups "
                "the same, or leave it out."
            )
    if config.access_threshold is not None and "access_threshold" not in rules:
        options = _mxrec.AdmissionOptions(
            config.access_threshold,
            mode=table.spec.admission,
            expected_keys=table.spec.admission_keys,
        )
        table.engine.configure_admission(options)
        rules["access_threshold"] = config.access_threshold, lookup
    if config.eviction_threshold is not None and "eviction_threshold" not in rules:
        own = table.engine.eviction
        table.engine.configure_eviction(
            _mxrec.EvictionOptions(
                max_age=config.eviction_threshold, max_rows=own.max_rows, min_l2=own.min_l2
            )
        )
        rules["eviction_threshold"] = config.eviction_threshold, lookup
    if rules != before:
        _govern_earlier(table)


# --- Tables of other processes ------------------------------------------------------------------
#
# ``configure`` gives the rules to the table of the process that builds the graph. Where ops run on
# a parameter server, they meet the table of that process; it gets the rules from an op.


def governors(table: SparseTable, handle: Any) -> list[Any]:
    """Returns the ops that a training lookup must wait for: they give its table the known rules.

    Args:
        table: what is looked up.
        handle: the table's; placed on another process's device, or else there are no such ops.
    """
    rules = table.access_rules
    if not rules or not is_elsewhere(handle):
        return []
    # Of nothing else: lookups that were built before may have to wait for it.
    with tf.control_dependencies(None):
        governor = library.mxrec_govern(
            table=handle,
            admission=table.spec.admission,
            admission_keys=table.spec.admission_keys,
            **{name: value for name, (value, _) in rules.items()},
        )
    return [] if governor is None else [governor]


def note_governed(table: SparseTable, handle: Any, tensor: Any) -> None:
    """Remembers a training lookup, for rules that a later lookup of its graph brings.

    Args:
        table: what is looked up.
        handle: the table's.
        tensor: an output of the lookup's op.
    """
    if tf.executing_eagerly() or hasattr(tensor.graph, "outer_graph") or not is_elsewhere(handle):
        return
    graph_state.state_of(tensor.graph).governed.setdefault(table.table_name, []).append(tensor.op)


def _govern_earlier(table: SparseTable) -> None:
    state = graph_state.state_here()
    earlier = state.governed.get(table.table_name, [])
    if not earlier:
        return
    with tf.init_scope():
        (governor,) = governors(table, state.nodes[table.table_name].handle)
    for op in earlier:
        op._add_control_input(governor)


def is_elsewhere(handle: Any) -> bool:
    """Returns whether a table's handle is placed on a device of another job, by its name."""
    job = tf.DeviceSpec.from_string(handle.device or "").job
    return job not in (None, "localhost")
