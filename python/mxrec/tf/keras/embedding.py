"""The Embedding layer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.tf import config as configuration
from mxrec.tf import graph_state
from mxrec.tf.access import check_access_and_evict
from mxrec.tf.keras import checkpoints, routing, saving, sparse_optimizers, versions, weights
from mxrec.tf.keras.proxies import proxy_for
from mxrec.tf.log import logger
from mxrec.tf.lookup import look_up
from mxrec.tf.pooled import COMBINERS, Pooling
from mxrec.tf.table import SparseTable, create_table
from mxrec.tf.table_options import check_name
from mxrec.tf.validation import check_bool, check_choice

# Arguments of create_table that the layer gives it itself.
_OWN = ("key_dtype", "dim", "name", "emb_initializer", "optimizer_list", "exist_ok")
_TABLE_OPTIONS = frozenset(inspect.signature(create_table).parameters) - set(_OWN)
_SIZES = ("device_vocabulary_size", "host_vocabulary_size", "ssd_vocabulary_size")
_DEFAULT_OPTIMIZER = "lazy_adam"
_DEFAULT_INITIALIZER = "uniform"


@tf.keras.utils.register_keras_serializable(package="mxrec")
class Embedding(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow is untyped
    """Turns ids, any integers, into rows of a table that grows with them.

    With ``training=True`` (as in ``model.fit``) ids without a row get one, and the gradient goes to
    the table's sparse optimizer, whatever dense optimizer the model is compiled with. Otherwise,
    and while ``trainable`` is False, nothing changes: ids without a row read
    ``serving_default_value``.

    A table is known by its name in the whole process: a layer with the name of a table that is
    there, and equal options, shares it. ``mxrec.tf.terminate_config_initializer()`` releases all
    tables.

    Args:
        name: of the table, as in ``create_table``.
        dim: width of an embedding, in [1, 8192]; None: the table is there, and its options, the
            optimizer and the initializer are not given again.
        optimizer: a factory's of ``mxrec.tf.optimizers``, an ``mxrec.Optimizer``, or "sgd",
            "momentum", "adagrad", "lazy_adam" or "ftrl" with default hyperparameters. Its learning
            rate may be a Keras schedule, which counts the dense optimizer's steps. None:
            "lazy_adam".
        initializer: a Keras initializer or its name, as ``emb_initializer`` in ``create_table``;
            None: "uniform".
        combiner: "sum", "mean" or "sqrtn": one row for the ids along the last axis, which are
            ragged, sparse or dense; None: one row for each id.
        mask_zero: id 0 is padding: ``compute_mask`` says where. It has a row nevertheless.
        serving_default_value: what ids without a row read, a number or [dim]; None: zeros.
        access_threshold: as in ``sparse_lookup``'s ``access_and_evict_config``, as are the next
            two; None: off.
        eviction_threshold: seconds; None: off.
        faae_coefficient: weight of an occurrence; None: 1.
        key_dtype: tf.int64 or tf.int32.
        layer_name: of the layer; None: "embedding_<name>", with a number from the second layer on.
        **kwargs: further options of ``create_table`` (without a vocabulary size the table grows
            without limit), and arguments of a Keras layer (``trainable``, ``dtype``, ...).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range; the table exists with other options; there is
            none, and ``dim`` is None; or the distribution strategy has several replicas.
    """

    def __init__(
        self,
        name: str,
        dim: int | None = None,
        *,
        optimizer: Any = None,
        initializer: Any = None,
        combiner: str | None = None,
        mask_zero: bool = False,
        serving_default_value: Any = None,
        access_threshold: int | None = None,
        eviction_threshold: int | None = None,
        faae_coefficient: int | None = None,
        key_dtype: Any = tf.int64,
        layer_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        versions.check_backend()
        _check_strategy()
        options = {key: kwargs.pop(key) for key in list(kwargs) if key in _TABLE_OPTIONS}
        if combiner is not None:
            check_choice("combiner", combiner, COMBINERS)
        if check_bool("mask_zero", mask_zero) and combiner is not None:
            raise ValueError(
                f"mask_zero=True does not go with combiner={combiner!r}: the axis of the ids is "
                "gone. Leave padding out of the ids instead (tf.RaggedTensor)."
            )
        access = check_access_and_evict(access_threshold, eviction_threshold, faae_coefficient)
        super().__init__(name=layer_name or _layer_name(check_name(name)), **kwargs)
        self.supports_jit = False  # Keras 3: jit_compile="auto" means off
        self.supports_masking = mask_zero
        self.combiner = combiner
        self.mask_zero = mask_zero
        self._serving_default_value = _as_plain(serving_default_value)
        self._access = access
        given = {"optimizer": optimizer, "initializer": initializer, **options}
        if dim is None:
            self._table = _table_there(name, given)
        else:
            if configuration.is_initialized() is False:
                logger.info("mxrec.tf.Embedding: init() is called with its defaults.")
                configuration.init()
            self._table = _make_or_share(
                name,
                dim,
                key_dtype,
                sparse_optimizers.get(_DEFAULT_OPTIMIZER if optimizer is None else optimizer),
                _DEFAULT_INITIALIZER if initializer is None else initializer,
                options,
            )
        self._recipe = _Recipe(dim, key_dtype, initializer, options)
        routing.install()
        saving.install()
        checkpoints.install()
        weights.install()
        self._proxy = proxy_for(self._table, self.trainable)
        self.built = True

    @property
    def table(self) -> SparseTable:
        """The table: ``size()``, ``stats()``, ``evict()``, ..."""
        return self._table

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self._table.dim

    @property
    def optimizer(self) -> Any:
        """The table's sparse optimizer."""
        return self._table.trainer

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the table needs no shape."""
        self.built = True

    def call(self, inputs: Any, sp_weights: Any = None, training: Any = None) -> Any:
        """Looks ids up.

        Args:
            inputs: integers of any shape: a tensor, tf.RaggedTensor or tf.SparseTensor.
            sp_weights: with a combiner, floats of the type and structure of ``inputs``; None: 1.
            training: a bool or a scalar bool tensor; None: False.

        Returns:
            ``inputs.shape + [dim]`` in the layer's compute dtype; with a combiner the last axis of
            ``inputs`` is gone. Ragged ids without a combiner give a RaggedTensor.

        Raises:
            ValueError: the layer is compiled by XLA (``jit_compile=True``).
        """
        if self.combiner is not None:
            inputs, sp_weights = _as_ragged(inputs), _as_ragged(sp_weights)
        train = training if self.trainable else False
        if tf.is_tensor(train):
            static = tf.get_static_value(train)
            if static is None:
                return tf.cond(
                    tf.cast(train, tf.bool),
                    lambda: self._look_up(inputs, sp_weights, True),
                    lambda: self._look_up(inputs, sp_weights, False),
                )
            train = static
        return self._look_up(inputs, sp_weights, bool(train))

    def _look_up(self, ids: Any, sp_weights: Any, train: bool) -> Any:
        if sp_weights is not None and self.combiner is None:
            raise ValueError("sp_weights need a combiner: pass combiner='sum', 'mean' or 'sqrtn'.")
        rows = look_up(
            self._table,
            ids,
            is_train=train,
            name=self.name,
            access=self._access,
            serving_default_value=self._serving_default_value,
            pooling=Pooling(self.combiner, sp_weights),
            whole_steps=True,
        )
        dtype = tf.as_dtype(self.compute_dtype)
        return rows if rows.dtype == dtype else tf.cast(rows, dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns where ids are not 0; None without ``mask_zero``."""
        if not self.mask_zero or isinstance(inputs, (tf.RaggedTensor, tf.SparseTensor)):
            return None
        return tf.not_equal(inputs, tf.zeros([], inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output."""
        outer = tuple(input_shape if self.combiner is None else input_shape[:-1])
        shape = (*outer, self.dim)
        return shape if versions.IS_KERAS_3 else tf.TensorShape(shape)

    def get_config(self) -> dict[str, Any]:
        """Returns what ``from_config`` makes an equal layer of, sharing the table or making it.

        Raises:
            ValueError: the optimizer's learning rate or the initializer has no configuration.
        """
        config = dict(super().get_config())
        config.update(
            name=self._table.name,
            layer_name=self.name,
            combiner=self.combiner,
            mask_zero=self.mask_zero,
            serving_default_value=self._serving_default_value,
            access_threshold=self._access.access_threshold,
            eviction_threshold=self._access.eviction_threshold,
            faae_coefficient=self._access.faae_coefficient,
            **self._recipe.config(self._table),
        )
        return config

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        # tf.saved_model.save would end in an error about an untracked resource.
        if save_type == "savedmodel":
            raise ValueError(
                f"A SavedModel written by tf.saved_model.save would lose the rows of "
                f"{self._table.name!r}; call mxrec.tf.export_saved_model(model, path)."
            )
        return super()._trackable_children(save_type, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Puts the table into a weights file of Keras (``.weights.h5``, ``.keras``)."""
        saving.save_into(store, self._table)

    def load_own_variables(self, store: Any) -> None:
        """Replaces the table's state by that of a weights file."""
        saving.load_from(store, self._table)


class _Recipe:
    """What a layer was given to make its table of."""

    def __init__(
        self, dim: int | None, key_dtype: Any, initializer: Any, options: dict[str, Any]
    ) -> None:
        self._dim = dim
        self._key_dtype = key_dtype
        self._initializer = initializer
        self._options = options

    def config(self, table: SparseTable) -> dict[str, Any]:
        if self._dim is None:
            return {"dim": None}
        initializer = self._initializer
        if initializer is not None:
            initializer = tf.keras.initializers.serialize(tf.keras.initializers.get(initializer))
        return {
            "dim": table.dim,
            "key_dtype": tf.as_dtype(self._key_dtype).name,
            "optimizer": sparse_optimizers.config_of(table.trainer),
            "initializer": initializer,
            **{name: _as_plain(value) for name, value in self._options.items()},
        }


def _make_or_share(
    name: str,
    dim: int,
    key_dtype: Any,
    optimizer: Any,
    initializer: Any,
    options: dict[str, Any],
) -> SparseTable:
    if isinstance(initializer, (str, Mapping)):
        initializer = tf.keras.initializers.get(initializer)
    if not any(size in options for size in _SIZES):
        options = {"use_dynamic_expansion": True, **options}
    table = create_table(key_dtype, dim, name, initializer, exist_ok=True, **options)
    difference = (
        None if table.trainer is None else sparse_optimizers.difference(table.trainer, optimizer)
    )
    if difference is not None:
        raise ValueError(
            f"Table {name!r} exists with another optimizer: {difference}. Give the layer an equal "
            "one to share the table, or dim=None and none at all; otherwise choose another "
            "name, or call mxrec.tf.terminate_config_initializer() to release all tables."
        )
    if table.trainer is None:
        optimizer.bind(table)  # now: a restore needs the optimizer's slots
        table.trainer = optimizer
    return table


def _table_there(name: str, given: dict[str, Any]) -> SparseTable:
    surplus = [key for key, value in given.items() if value is not None]
    if surplus:
        raise ValueError(
            f"dim=None shares table {name!r} as it is, but {', '.join(surplus)} is given too; "
            "leave it out, or give dim."
        )
    there: SparseTable | None = graph_state.state_here().tables.get(name)
    if there is None:
        raise ValueError(
            f"dim=None shares a table, but there is no table {name!r}; give dim to make it."
        )
    return there


def _layer_name(table_name: str) -> str:
    # Not the table's name alone: inputs are often called that, and names in a model differ.
    name = f"embedding_{table_name}"
    number = tf.keras.backend.get_uid(name)
    return name if number == 1 else f"{name}_{number - 1}"


def _as_ragged(ids: Any) -> Any:
    """Dense ids as bags of their last axis."""
    if ids is None or isinstance(ids, (tf.RaggedTensor, tf.SparseTensor)):
        return ids
    dense = tf.convert_to_tensor(ids)
    if dense.shape.rank is None or dense.shape.rank < 2:
        raise ValueError(
            f"inputs must have rank 2 or more to be combined along the last axis, got shape "
            f"{dense.shape}."
        )
    return tf.RaggedTensor.from_tensor(dense, ragged_rank=dense.shape.rank - 1)


def _as_plain(value: Any) -> Any:
    """Numbers, paths and lists of them, as JSON takes them."""
    if isinstance(value, tf.DType):
        return value.name
    if isinstance(value, (tf.Tensor, tf.Variable, np.ndarray, np.generic)):
        return np.asarray(value).tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_as_plain(each) for each in value]
    return value


def _check_strategy() -> None:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"mxrec.tf.Embedding: the distribution strategy has {replicas} replicas in sync; "
            "tables are updated by one. Use a strategy with one replica, or none."
        )
