"""A DLRM-like click model.

Embeddings and a bottom network meet in dot products; a top network turns them into log odds.

Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems",
2019. Its tables are mxrec tables or, for comparison, static ``tf.Variable``s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from mxrec.cli.config import ModelConfig

_v1 = tf.compat.v1
# Beside the tables' names, none of which has a slash.
NUMERIC_FEATURE = "/numeric"
TIMESTAMP_FEATURE = "/timestamp"
_EMBEDDING_STDDEV = 0.02
_ADAGRAD_ACCUMULATOR = 0.001


@dataclass(frozen=True)
class Model:
    """Tensors of a graph, by what they mean.

    Attributes:
        labels: float32 [batch], 0 or 1.
        logits: float32 [batch], the log odds.
        loss: float32 scalar, the mean cross entropy.
        train_op: updates everything and counts the step; None: the graph does not train.
    """

    labels: tf.Tensor
    logits: tf.Tensor
    loss: tf.Tensor
    train_op: tf.Operation | None


def build_model(
    features: Mapping[str, tf.Tensor], labels: tf.Tensor, config: ModelConfig, training: bool
) -> Model:
    """Builds the model in the current graph.

    Args:
        features: `NUMERIC_FEATURE` float32 [batch, columns], by table name int64 keys [batch] and,
            if the config has timestamps, `TIMESTAMP_FEATURE` int64 [batch], in seconds.
        labels: float32 [batch], 0 or 1.
        config: of the model.
        training: keys that are new get rows, and there is a ``train_op``.
    """
    _v1.set_random_seed(config.seed)
    lookup = _mxrec_embeddings if config.static_rows is None else _static_embeddings
    embeddings = lookup(features, config, training)
    logits = _interact(features[NUMERIC_FEATURE], embeddings, config)
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    return Model(labels, logits, loss, _train_op(loss, config) if training else None)


def _mxrec_embeddings(
    features: Mapping[str, tf.Tensor], config: ModelConfig, training: bool
) -> list[tf.Tensor]:
    """One mxrec table per categorical column; keys without a row are read as zeros."""
    from mx_rec.constants.constants import ASCEND_TIMESTAMP
    from mx_rec.core.embedding import create_table, sparse_lookup

    if config.timestamps:
        # Lookups stamp their keys with it.
        _v1.add_to_collection(ASCEND_TIMESTAMP, features[TIMESTAMP_FEATURE])
    access = {
        "access_threshold": config.admission,
        "eviction_threshold": config.evict_after,
        "faae_coefficient": 1,
    }
    embeddings = []
    for number, name in enumerate(config.table_names):
        table = create_table(
            key_dtype=tf.int64,
            dim=config.dim,
            name=name,
            emb_initializer=_embedding_initializer(config, number),
            **_sizes(config),
        )
        embeddings.append(
            sparse_lookup(
                table,
                features[name],
                is_train=training,
                name=f"{name}_lookup",
                modify_graph=True,
                access_and_evict_config=access,
            )
        )
    return embeddings


def _sizes(config: ModelConfig) -> dict[str, Any]:
    """Rows of the tiers; none are given where tables grow without limit in memory."""
    if config.memory_rows is None:
        return {}
    sizes: dict[str, Any] = {
        "device_vocabulary_size": 1,
        "host_vocabulary_size": config.memory_rows - 1,
    }
    if config.ssd_rows:
        sizes["ssd_vocabulary_size"] = config.ssd_rows
        sizes["ssd_data_path"] = list(config.ssd_paths)
    return sizes


def _static_embeddings(
    features: Mapping[str, tf.Tensor], config: ModelConfig, training: bool
) -> list[tf.Tensor]:
    """The same with static variables; ids equal to the row count less one stand for unseen keys."""
    del training
    embeddings = []
    for number, (name, rows) in enumerate(
        zip(config.table_names, config.static_rows or (), strict=True)
    ):
        initial = _embedding_initializer(config, number)
        variable = _v1.get_variable(f"static/{name}", [rows, config.dim], initializer=initial)
        known = tf.cast(features[name] < rows - 1, tf.float32)
        embeddings.append(tf.gather(variable, features[name]) * known[:, None])
    return embeddings


def _embedding_initializer(config: ModelConfig, number: int) -> Any:
    return _v1.truncated_normal_initializer(
        stddev=_EMBEDDING_STDDEV, seed=config.seed * 1000 + number
    )


def _interact(
    numeric: tf.Tensor, embeddings: Sequence[tf.Tensor], config: ModelConfig
) -> tf.Tensor:
    """The dense part of the model; returns the log odds, float32 [batch]."""
    fields = list(embeddings)
    parts: list[tf.Tensor] = []
    if config.numeric_columns:
        bottom = _mlp(numeric, config.numeric_columns, (*config.bottom_units, config.dim), "bottom")
        fields.append(bottom)
        parts.append(bottom)
    stacked = tf.stack(fields, axis=1)
    # The top network gets the whole symmetric matrix: picking a triangle costs more than it saves.
    products = tf.matmul(stacked, stacked, transpose_b=True)
    width = len(fields) ** 2
    parts.append(tf.reshape(products, [-1, width]))
    parts.append(tf.reshape(tf.concat(embeddings, axis=1), [-1, len(embeddings) * config.dim]))
    joined = tf.concat(parts, axis=1)
    inputs = width + len(embeddings) * config.dim + (config.dim if config.numeric_columns else 0)
    hidden = _mlp(joined, inputs, config.top_units, "top")
    return _dense(hidden, config.top_units[-1], 1, "logit")[:, 0]


def _mlp(inputs: tf.Tensor, width: int, units: Sequence[int], name: str) -> tf.Tensor:
    for number, size in enumerate(units):
        inputs = tf.nn.relu(_dense(inputs, width, size, f"{name}_{number}"))
        width = size
    return inputs


def _dense(inputs: tf.Tensor, width: int, units: int, name: str) -> tf.Tensor:
    with _v1.variable_scope(name):
        kernel = _v1.get_variable(
            "kernel", [width, units], initializer=_v1.glorot_uniform_initializer()
        )
        bias = _v1.get_variable("bias", [units], initializer=_v1.zeros_initializer())
        return tf.matmul(inputs, kernel) + bias


def _train_op(loss: tf.Tensor, config: ModelConfig) -> tf.Operation:
    step = _v1.train.get_or_create_global_step()
    if config.static_rows is None:
        from mx_rec.util.variable import get_dense_and_sparse_variable

        dense, sparse = get_dense_and_sparse_variable()
        sparse_optimizer = _mxrec_optimizer(config)
    else:
        sparse = [
            variable
            for variable in _v1.trainable_variables()
            if variable.op.name.startswith("static/")
        ]
        names = {variable.op.name for variable in sparse}
        dense = [
            variable for variable in _v1.trainable_variables() if variable.op.name not in names
        ]
        sparse_optimizer = _static_optimizer(config)
    gradients = tf.gradients(loss, [*dense, *sparse])
    dense_optimizer = _v1.train.AdamOptimizer(config.dense_learning_rate)
    update_dense = dense_optimizer.apply_gradients(
        zip(gradients[: len(dense)], dense, strict=True), global_step=step
    )
    update_sparse = sparse_optimizer.apply_gradients(
        list(zip(gradients[len(dense) :], sparse, strict=True))
    )
    return tf.group(update_dense, update_sparse)


def _mxrec_optimizer(config: ModelConfig) -> Any:
    if config.sparse_optimizer == "adagrad":
        from mx_rec.optimizers import adagrad

        return adagrad.create_hash_optimizer(
            learning_rate=config.sparse_learning_rate,
            initial_accumulator_value=_ADAGRAD_ACCUMULATOR,
        )
    from mx_rec.optimizers import lazy_adam

    return lazy_adam.create_hash_optimizer(learning_rate=config.sparse_learning_rate)


def _static_optimizer(config: ModelConfig) -> Any:
    if config.sparse_optimizer == "adagrad":
        return _v1.train.AdagradOptimizer(
            config.sparse_learning_rate, initial_accumulator_value=_ADAGRAD_ACCUMULATOR
        )
    return _v1.train.AdamOptimizer(config.sparse_learning_rate)
