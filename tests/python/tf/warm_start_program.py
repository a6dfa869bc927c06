"""A model with two tables and dense layers for the warm-start tests, and what it has learnt.

Needs ``tf.estimator``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from table_rows import Rows, rows_of

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.optimizers import adagrad, lazy_adam
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from mxrec.tf.table import tables_of_graph

FACTORIES = {"Adagrad": adagrad.create_hash_optimizer, "LazyAdam": lazy_adam.create_hash_optimizer}


class Params(dict):
    """Parameters of a script: a dict whose values read as attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass
class Config:
    """What the model is made of."""

    tables: tuple[str, ...] = ("user_table", "item_table")
    dim: int = 4
    optimizer: str = "Adagrad"
    seed: int = 0
    value_dtype: Any = tf.float32
    key_dtype: Any = tf.int64


def create_fs_params(cfg: Config) -> dict[str, str]:
    """The feature of each table."""
    return {name: f"{name}_ids" for name in cfg.tables}


def get_model_fn(
    create_fs_params: Callable[[Config], dict[str, str]],
    cfg: Config,
    access_and_evict: dict[str, int] | None,
) -> Callable[..., Any]:
    """The model function of a configuration."""
    features_of = create_fs_params(cfg)

    def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
        training = mode == tf.estimator.ModeKeys.TRAIN
        parts = []
        for name, feature in features_of.items():
            table = create_table(
                key_dtype=cfg.key_dtype,
                dim=cfg.dim,
                name=name,
                emb_initializer=tf.compat.v1.random_normal_initializer(seed=cfg.seed),
                value_dtype=cfg.value_dtype,
            )
            rows = sparse_lookup(
                table,
                features[feature],
                is_train=training,
                access_and_evict_config=access_and_evict,
            )
            parts.append(tf.reduce_sum(rows, axis=1))
        hidden = tf.concat(parts, axis=1)
        normal = tf.compat.v1.random_normal_initializer(seed=cfg.seed)
        for layer in ("mlp_layer_w", "mlp_layer_v"):
            width = int(hidden.shape[1])
            weights = tf.compat.v1.get_variable(layer, [width, width], initializer=normal)
            hidden = tf.tanh(hidden @ weights)
        bias = tf.compat.v1.get_variable("bias", [], initializer=normal)
        logits = tf.reduce_sum(hidden, axis=1) + bias
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
        if not training:
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        dense, sparse = get_dense_and_sparse_variable()
        optimizer = FACTORIES[cfg.optimizer](learning_rate=0.1)
        gradients = tf.gradients(loss, sparse)
        train_op = tf.group(
            optimizer.apply_gradients(zip(gradients, sparse, strict=True)),
            tf.compat.v1.train.AdagradOptimizer(0.1).minimize(
                loss,
                var_list=dense,
                global_step=tf.compat.v1.train.get_or_create_global_step(),
            ),
        )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def input_fn(cfg: Config, seed: int = 0, keys: tuple[int, int] = (0, 100)) -> Callable[[], Any]:
    """Batches of 32 examples, three keys of [low, high) for each table."""

    def make() -> Any:
        rng = np.random.default_rng(seed)
        ids = {f"{name}_ids": rng.integers(*keys, size=(640, 3)) for name in cfg.tables}
        clicks = rng.integers(2, size=640).astype(np.float32)
        return tf.data.Dataset.from_tensor_slices((ids, clicks)).batch(32)

    return make


@dataclasses.dataclass
class State:
    """What a model has learnt.

    Attributes:
        tables: rows by table.
        steps: optimizer step by table.
        dense: values by variable.
    """

    tables: dict[str, Rows]
    steps: dict[str, int]
    dense: dict[str, Any]


class Capture(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
    """Takes the state down when the session begins, and when it ends."""

    def __init__(self) -> None:
        self.first: State | None = None
        self.last: State | None = None

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.first = state_of(session)

    def end(self, session: Any) -> None:
        self.last = state_of(session)


def state_of(session: Any) -> State:
    """The tables and trainable variables of a session's graph."""
    tables = {table.table_name: table.engine for table in tables_of_graph(session.graph)}
    variables = {v.op.name: v for v in session.graph.get_collection("trainable_variables")}
    return State(
        {name: rows_of(engine) for name, engine in tables.items()},
        {name: engine.optimizer_step for name, engine in tables.items()},
        session.run(variables),
    )


def start() -> None:
    """Starts the library, whatever ran before."""
    terminate_config_initializer()
    init(use_dynamic_expansion=True)


def train_source(
    model_dir: str, cfg: Config, seed: int, keys: tuple[int, int], steps: int = 5
) -> State:
    """Trains a model of its own, and returns what it has learnt."""
    start()
    capture = Capture()
    tf.estimator.Estimator(
        get_model_fn(create_fs_params, dataclasses.replace(cfg, seed=seed), None),
        model_dir,
        tf.estimator.RunConfig(tf_random_seed=seed),
    ).train(input_fn(cfg, seed, keys), [capture], steps=steps)
    assert capture.last is not None
    return capture.last
