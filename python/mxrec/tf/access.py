"""Admission and eviction as lookups ask for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mxrec import _mxrec
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
