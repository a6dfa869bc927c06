"""Validation of create_table's arguments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from mxrec import _ssd_paths
from mxrec.tf.initial_values import InitialValues, convert
from mxrec.tf.log import logger
from mxrec.tf.validation import (
    INT32_MAX,
    INT64_MAX,
    INT64_MIN,
    check_bool,
    check_choice,
    check_float,
    check_int,
)

MAX_DIM = 8192
MAX_ROWS = 10**9
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_ALL2ALL = ("sum_gradients", "sum_gradients_and_div_by_ranksize")


@dataclasses.dataclass(frozen=True)
class TableSpec:
    """Checked arguments of create_table: equal specs may share one table."""

    name: str
    key_dtype: tf.DType
    value_dtype: tf.DType
    stochastic_rounding: bool
    dim: int
    initial_values: InitialValues
    memory_rows: int | None  # None: without limit
    ssd_rows: int
    ssd_paths: tuple[str, ...]  # absolute
    is_save: bool
    padding_keys: tuple[int, ...]
    all2all_gradients_op: str
    enable_merge: bool
    admission: str
    admission_keys: int
    evict_max_rows: int | None
    evict_min_l2: float | None

    def difference(self, other: TableSpec) -> str | None:
        """Says in what ``other`` differs; None if it is the same."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name == "initial_values":
                text: str | None = mine.difference(theirs)
                if text is not None:
                    return text
            elif mine != theirs:
                return f"{field.name} {mine!r} != {theirs!r}"
        return None


def check_name(name: Any) -> str:
    """Returns the name of a table, or raises TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {name!r} ({type(name).__name__}).")
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ValueError(
            "name must be 1 to 100 of the characters A-Z a-z 0-9 _ . and not '.' or '..', got "
            f"{name!r}."
        )
    return name


def check_dim(dim: Any) -> int:
    """Returns the width of a table, given as int or 1-D TensorShape."""
    if isinstance(dim, tf.TensorShape):
        if dim.rank != 1 or not dim.is_fully_defined():
            raise ValueError(f"dim must be an int or a TensorShape of one known size, got {dim}.")
        # Not dim[0]: that is no int once a script has called disable_v2_behavior().
        (dim,) = dim.as_list()
    elif isinstance(dim, (list, tuple)):
        raise TypeError(
            f"dim must be an int or a TensorShape of one size in [1, {MAX_DIM}], got {dim!r} "
            f"({type(dim).__name__}); for several axes give their product and reshape what is "
            "looked up."
        )
    return check_int("dim", dim, 1, MAX_DIM)


def check_key_dtype(key_dtype: Any) -> tf.DType:
    """Returns the type of the keys: int64 or int32."""
    try:
        dtype = tf.as_dtype(key_dtype)
    except TypeError as error:
        raise TypeError(f"key_dtype must be tf.int64 or tf.int32, got {key_dtype!r}.") from error
    if dtype not in (tf.int64, tf.int32):
        raise ValueError(f"key_dtype must be tf.int64 or tf.int32, got {dtype.name}.")
    return dtype


def check_value_dtype(value_dtype: Any) -> tf.DType:
    """Returns the type that embeddings are stored as: float32, float16 or bfloat16."""
    try:
        dtype = tf.as_dtype(value_dtype)
    except TypeError as error:
        raise TypeError(
            f"value_dtype must be tf.float32, tf.float16 or tf.bfloat16, got {value_dtype!r}."
        ) from error
    if dtype not in (tf.float32, tf.float16, tf.bfloat16):
        raise ValueError(
            f"value_dtype must be tf.float32, tf.float16 or tf.bfloat16, got {dtype.name}."
        )
    return dtype


def check_rounding(stochastic_rounding: Any, value_dtype: tf.DType) -> bool:
    """Returns whether updates round at random, which float32 storage cannot."""
    stochastic = check_bool("stochastic_rounding", stochastic_rounding)
    if stochastic and value_dtype == tf.float32:
        raise ValueError(
            "stochastic_rounding=True needs value_dtype tf.float16 or tf.bfloat16, got "
            "tf.float32, whose values are not rounded."
        )
    return stochastic


def check_padding(padding_keys: Any, mask: Any, length: Any) -> tuple[int, ...]:
    """Returns the keys that get no update."""
    check_bool("padding_keys_mask", mask)
    if length is not None:
        check_int("padding_keys_len", length, 0, INT32_MAX)
    if isinstance(padding_keys, np.ndarray):
        padding_keys = padding_keys.tolist()
    if padding_keys is None:
        padding_keys = ()
    elif not isinstance(padding_keys, Sequence) or isinstance(padding_keys, str):
        padding_keys = [padding_keys]
    if length not in (None, len(padding_keys)):
        raise ValueError(
            f"padding_keys_len must be the number of padding_keys, {len(padding_keys)}, got "
            f"{length}; leave it out."
        )
    keys = {check_int("padding_keys", key, INT64_MIN, INT64_MAX) for key in padding_keys}
    return tuple(sorted(keys)) if mask else ()


class Sizes(NamedTuple):
    """Rows of a table's tiers, and where the SSD tier lies."""

    memory_rows: int | None  # None: without limit
    ssd_rows: int = 0
    ssd_paths: tuple[str, ...] = ()


def check_sizes(device: Any, host: Any, ssd: Any, ssd_paths: Any, expansion: bool) -> Sizes:
    """Returns how many rows a table may hold in each tier.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: one is out of its range.
        OSError: the SSD tier is wanted, and a directory is not there or cannot be written.
    """
    device_rows = check_int("device_vocabulary_size", device, 1, MAX_ROWS)
    host_rows = check_int("host_vocabulary_size", host, 0, MAX_ROWS)
    ssd_rows = check_int("ssd_vocabulary_size", ssd, 0, MAX_ROWS)
    _ssd_paths.check_types("ssd_data_path", ssd_paths)
    if ssd_rows and not host_rows:
        raise ValueError(
            f"ssd_vocabulary_size={ssd_rows} needs host_vocabulary_size > 0, got {host_rows}; rows "
            "go to the SSD through the host tier."
        )
    if expansion:
        if host_rows or ssd_rows:
            logger.warning(
                "use_dynamic_expansion: host_vocabulary_size=%d and ssd_vocabulary_size=%d are set "
                "to 0; the table grows without limit in memory.",
                host_rows,
                ssd_rows,
            )
        return Sizes(None)
    memory_rows = device_rows + host_rows
    if not ssd_rows:
        return Sizes(memory_rows)
    return Sizes(memory_rows, ssd_rows, tuple(_ssd_paths.directories("ssd_data_path", ssd_paths)))


def check_spec(
    *,
    name: Any,
    key_dtype: Any,
    dim: Any,
    emb_initializer: Any,
    sizes: Sizes,
    is_save: Any,
    is_dp: Any,
    init_param: Any,
    all2all_gradients_op: Any,
    enable_merge: Any,
    padding_keys: tuple[int, ...],
    value_dtype: Any,
    stochastic_rounding: Any,
    shard_num: Any,
    fusion_optimizer_var: Any,
    hashtable_threshold: Any,
    admission: Any,
    admission_keys: Any,
    evict_max_rows: Any,
    evict_min_l2: Any,
) -> TableSpec:
    """Returns the checked arguments; ``sizes`` and ``padding_keys`` are checked already."""
    check_bool("is_dp", is_dp)
    check_bool("fusion_optimizer_var", fusion_optimizer_var)
    check_int("shard_num", shard_num, 1, 8192)
    check_int("hashtable_threshold", hashtable_threshold, 0, INT32_MAX)
    all2all = getattr(all2all_gradients_op, "value", all2all_gradients_op)
    gain = check_float("init_param", init_param, -10.0, 10.0)
    stored = check_value_dtype(value_dtype)
    return TableSpec(
        name=check_name(name),
        key_dtype=check_key_dtype(key_dtype),
        value_dtype=stored,
        stochastic_rounding=check_rounding(stochastic_rounding, stored),
        dim=check_dim(dim),
        initial_values=convert(emb_initializer, gain),
        memory_rows=sizes.memory_rows,
        ssd_rows=sizes.ssd_rows,
        ssd_paths=sizes.ssd_paths,
        is_save=check_bool("is_save", is_save),
        padding_keys=padding_keys,
        all2all_gradients_op=check_choice("all2all_gradients_op", all2all, _ALL2ALL),
        enable_merge=check_bool("enable_merge", enable_merge),
        admission=check_choice("admission", admission, ("exact", "sketch")),
        admission_keys=check_int("admission_keys", admission_keys, 1, 2**36),
        evict_max_rows=(
            None
            if evict_max_rows is None
            else check_int("evict_max_rows", evict_max_rows, 1, INT64_MAX)
        ),
        evict_min_l2=(
            None
            if evict_min_l2 is None
            else check_float("evict_min_l2", evict_min_l2, 0.0, 1e30, open_low=True)
        ),
    )
