"""FeatureSpec: where in a dataset's elements the ids of one lookup are."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from mxrec.tf.access import check_access_and_evict
from mxrec.tf.config import note_spec, use_specs
from mxrec.tf.validation import INT32_MAX, check_bool, check_int, check_str


class FeatureSpec:
    """Describes one feature of a dataset.

    Args:
        name: name of the feature.
        table_name: table that the feature is looked up in; default ``name``. One that is given
            must be the name of the table that ``sparse_lookup`` gets.
        index_key: position (int) or key (str) of the feature in a dataset element; default
            ``name``. A position counts the element's tensors in the order of tf.nest.flatten.
        access_threshold: a key gets a row when it was seen so often in training, this batch
            included; 0: by the threshold and the counts that a restore brings; None or -1: off.
        eviction_threshold: a key goes at the next trigger when its last use in training is so many
            seconds old, [0, 2^31); None or -1: off.
        is_timestamp: the feature is the timestamp of the samples, in seconds, not ids: int64 or
            int32, a scalar or one for each sample. Training lookups whose ``batch`` has it stamp
            their keys with it; after ``terminate_config_initializer()`` and another ``init`` only
            if a FeatureSpec that was made in the same time as this one is used again.
        batch_size: number of samples, if it is known: the first dimension of the ids. Checked
            against the static shape, where that is known.
        faae_coefficient: weight of an occurrence in admission, >= 1.
        feat_count: ids per sample, if it is known: the product of the other dimensions. Ids of rank
            1 are the ids of all samples in a row. Checked as ``batch_size`` is.

    Raises:
        ValueError: a value is out of its range.
        TypeError: a value has the wrong type.
    """

    def __init__(
        self,
        name: str,
        table_name: str | None = None,
        index_key: int | str | None = None,
        access_threshold: int | None = None,
        eviction_threshold: int | None = None,
        is_timestamp: bool = False,
        batch_size: int | None = None,
        faae_coefficient: int = 1,
        feat_count: int | None = None,
    ) -> None:
        self.name = check_str("name", name)
        self._has_table_name = table_name is not None
        self.table_name = name if table_name is None else check_str("table_name", table_name)
        if index_key is None:
            self.index_key: int | str = name
        elif isinstance(index_key, str):
            self.index_key = check_str("index_key", index_key)
        else:
            self.index_key = check_int("index_key", index_key, 0, INT32_MAX)
        self.is_timestamp = check_bool("is_timestamp", is_timestamp)
        self.batch_size = _optional_count("batch_size", batch_size)
        self.feat_count = _optional_count("feat_count", feat_count)
        self.access = check_access_and_evict(access_threshold, eviction_threshold, faae_coefficient)
        self.access_threshold = access_threshold
        self.eviction_threshold = eviction_threshold
        self.faae_coefficient = faae_coefficient
        self._made_with = note_spec(self)

    def tensor_of(self, batch: Any) -> Any:
        """Returns the feature's tensor in an element of the dataset.

        Args:
            batch: dict, tuple or list of tensors, possibly nested, or one tensor.

        Raises:
            ValueError: the feature is not there, its key is there more than once, or it is a nested
                part of the element.
        """
        use_specs(self._made_with)
        found = self._by_key(batch) if isinstance(self.index_key, str) else self._by_index(batch)
        if not found:
            raise ValueError(
                f"batch has no feature at index_key={self.index_key!r} of FeatureSpec "
                f"{self.name!r}; it is {_outline(batch)}. Pass the "
                "dataset's element, or another index_key."
            )
        if len(found) > 1:
            raise ValueError(
                f"batch has {len(found)} features with index_key={self.index_key!r} of FeatureSpec "
                f"{self.name!r}; pass the part of the element that is meant."
            )
        # The value of a sparse tensor is a tuple to TensorFlow, and a feature.
        sparse = isinstance(found[0], tf.compat.v1.SparseTensorValue)
        if tf.nest.is_nested(found[0]) and not sparse:
            raise ValueError(
                f"index_key={self.index_key!r} of FeatureSpec {self.name!r} must name a tensor of "
                f"batch, but it names {_outline(found[0])}, a {type(found[0]).__name__}. "
                f"Possible: {_tensors_of(batch)}."
            )
        return found[0]

    @property
    def has_table_name(self) -> bool:
        """Whether ``table_name`` was given, and is not merely ``name``."""
        return self._has_table_name

    def is_in(self, batch: Any) -> bool:
        """Returns whether an element of the dataset has the feature."""
        found = self._by_key(batch) if isinstance(self.index_key, str) else self._by_index(batch)
        return len(found) == 1

    def check_table(self, looked_up: str) -> None:
        """Raises ValueError if the feature belongs to another table.

        Args:
            looked_up: name of the table that is looked up.
        """
        if self._has_table_name and self.table_name != looked_up:
            raise ValueError(
                f"hashtable is table {looked_up!r}, but FeatureSpec {self.name!r} has "
                f"table_name={self.table_name!r}; look it up in that table, or leave table_name "
                "out."
            )

    def check_shape(self, ids: Any) -> None:
        """Raises ValueError if ``batch_size`` or ``feat_count`` contradicts a static shape.

        Args:
            ids: the feature's tensor, dense, sparse or ragged.
        """
        shape = ids.shape
        if isinstance(ids, (tf.SparseTensor, tf.RaggedTensor)):
            # The axes after the first do not tell the number of ids per sample.
            shape = shape[:1].concatenate([None])
        if not shape.rank:
            return
        samples = shape.as_list()[0]
        per_sample = shape[1:].num_elements()
        if shape.rank == 1 and self.feat_count is not None:
            fits = samples is None or (
                samples % self.feat_count == 0
                if self.batch_size is None
                else samples == self.batch_size * self.feat_count
            )
        else:
            fits = self.batch_size in (None, samples) or samples is None
            fits = fits and (self.feat_count in (None, per_sample) or per_sample is None)
        if not fits:
            raise ValueError(
                f"FeatureSpec {self.name!r} has batch_size={self.batch_size} and "
                f"feat_count={self.feat_count}, but its ids have shape {shape}; make them agree, "
                "or leave out what is not known."
            )

    def _by_key(self, batch: Any) -> list[Any]:
        if isinstance(batch, Mapping):
            if self.index_key in batch:
                return [batch[self.index_key]]
            return [tensor for part in batch.values() for tensor in self._by_key(part)]
        if isinstance(batch, (tuple, list)):
            return [tensor for part in batch for tensor in self._by_key(part)]
        return []

    def _by_index(self, batch: Any) -> list[Any]:
        index = int(self.index_key)
        flat: list[Any] = tf.nest.flatten(batch)
        return flat[index : index + 1]

    def __repr__(self) -> str:
        return (
            f"FeatureSpec(name={self.name!r}, table_name={self.table_name!r}, "
            f"index_key={self.index_key!r})"
        )


def _outline(part: Any) -> str:
    """The structure of an element, without its tensors."""
    return repr(tf.nest.map_structure(lambda _: "...", part))


def _tensors_of(batch: Any) -> str:
    """What ``index_key`` may be for an element, for people."""
    keys = [f"the keys {', '.join(map(repr, found))}"] if (found := _keys_of(batch)) else []
    last = len(tf.nest.flatten(batch)) - 1
    return " or ".join([*keys, f"the positions 0 to {last}" if last else "the position 0"])


def _keys_of(batch: Any) -> list[str]:
    """Keys that are those of one tensor each."""
    found: list[tuple[str, bool]] = []
    pending = [batch]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            found += [(key, not tf.nest.is_nested(value)) for key, value in part.items()]
            pending += part.values()
        elif isinstance(part, (tuple, list)):
            pending += part
    count = collections.Counter(key for key, _ in found)
    return sorted(key for key, single in found if single and count[key] == 1)


def _optional_count(name: str, value: int | None) -> int | None:
    return None if value is None else check_int(name, value, 1, INT32_MAX)
