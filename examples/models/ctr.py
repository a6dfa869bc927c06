"""Input, training and layers of the models beside this file.

A model is a function from ``Features`` to log odds; ``main`` does the rest. The embeddings come
from mxrec tables or, with ``--static``, from variables whose sizes are counted beforehand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.adagrad import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from mxrec.cli.config import table_names
from mxrec.cli.examples import Examples, NumericScaler, batches
from mxrec.cli.hashing import hash_bytes
from mxrec.cli.lines import DataError
from mxrec.cli.metrics import log_loss, roc_auc
from mxrec.cli.numbers import integer, real
from mxrec.cli.sources import FileSource
from mxrec.cli.vocabulary import StaticVocabulary

v1 = tf.compat.v1
_ACCUMULATOR = 0.1
_STDDEV = 0.02


@dataclass
class Features:
    """The features of a batch, as a model sees them.

    Attributes:
        numeric: float32 [batch, columns], scaled.
        keys: int64 [batch], one tensor for each categorical column.
        names: of the categorical columns' tables.
        training: keys that are new get rows.
        seed: of initial values.
        static_rows: rows of each static table; None: mxrec tables.
        tables: by name, those that exist already.
    """

    numeric: Any
    keys: list[Any]
    names: tuple[str, ...]
    training: bool
    seed: int
    static_rows: tuple[int, ...] | None
    tables: dict[str, Any]

    def embed(self, dim: int, suffix: str = "") -> list[Any]:
        """Looks up one embedding for each categorical column.

        Args:
            dim: width of the embeddings.
            suffix: of the tables' names; tables of another suffix are other tables.

        Returns:
            float32 [batch, dim] for each column; keys without a row read zeros.
        """
        return [self._lookup(number, dim, suffix) for number in range(len(self.keys))]

    def _lookup(self, number: int, dim: int, suffix: str) -> Any:
        name, keys = self.names[number] + suffix, self.keys[number]
        initializer = v1.truncated_normal_initializer(
            stddev=_STDDEV, seed=self.seed * 1000 + number
        )
        if self.static_rows is None:
            if name not in self.tables:
                self.tables[name] = create_table(
                    key_dtype=tf.int64, dim=dim, name=name, emb_initializer=initializer
                )
            return sparse_lookup(
                self.tables[name], keys, is_train=self.training, name=name, modify_graph=True
            )
        rows = self.static_rows[number]
        table = v1.get_variable(f"static/{name}", [rows, dim], initializer=initializer)
        known = tf.cast(keys < rows - 1, tf.float32)  # the last id stands for unseen keys
        return tf.gather(table, keys) * known[:, None]


Model = Callable[[Features, argparse.Namespace], Sequence[Any]]


def dense(inputs: Any, units: int, name: str, activation: Any = None) -> Any:
    """Returns activation(inputs x kernel + bias), float32 [batch, units]."""
    width = inputs.shape.as_list()[-1]
    with v1.variable_scope(name):
        kernel = v1.get_variable(
            "kernel", [width, units], initializer=v1.glorot_uniform_initializer()
        )
        bias = v1.get_variable("bias", [units], initializer=v1.zeros_initializer())
    outputs = tf.matmul(inputs, kernel) + bias
    return outputs if activation is None else activation(outputs)


def mlp(inputs: Any, units: Sequence[int], name: str) -> Any:
    """Returns the last of several dense layers with ReLU."""
    for number, width in enumerate(units):
        inputs = dense(inputs, width, f"{name}_{number}", tf.nn.relu)
    return inputs


def flat(features: Features, embeddings: Sequence[Any]) -> Any:
    """Returns numeric columns and embeddings side by side, float32 [batch, width]."""
    return tf.concat([features.numeric, *embeddings], axis=1)


def main(
    model: Model, description: str | None, argv: Sequence[str] | None = None, tasks: int = 1
) -> int:
    """Trains and evaluates a model on a file, and prints the result as JSON.

    Args:
        model: returns the log odds of each task, float32 [batch].
        description: of the program.
        argv: arguments; None takes them from the command line.
        tasks: labels that the model predicts, 1 or 2.

    Returns:
        The exit code: 0, or 2 if the data cannot be used.
    """
    parser = _parser(description, tasks)
    arguments = parser.parse_args(argv)
    try:
        print(json.dumps(run(model, arguments, tasks)))
    except DataError as error:
        parser.exit(2, f"error: {error}\n")
    return 0


def run(model: Model, arguments: argparse.Namespace, tasks: int = 1) -> dict[str, Any]:
    """Trains on the first rows of the file, and evaluates on the others.

    Args:
        model: as in ``main``.
        arguments: the command line's.
        tasks: as in ``main``.

    Returns:
        ``auc`` and ``log_loss`` of each task on the evaluated ``rows``, ``first_loss`` and
        ``last_loss`` of a tenth of the training, ``table_rows`` over all tables.
    """
    source = FileSource(arguments.data, arguments.label, arguments.holdout)
    train = Examples.concatenate(list(source.train()))
    holdout = Examples.concatenate(list(source.holdout()))
    scaler = NumericScaler.fit(train.numeric)
    names = table_names(source.category_names)
    labels = [train.labels[:, None], holdout.labels[:, None]]
    if tasks == 2:
        column, key = _second_task(arguments.second_task, source.category_names, train)
        if len(names) == 1:
            raise DataError(
                f"{arguments.data} has one categorical column, {names[0]}, which is the second "
                "task: there is none to embed. Two are needed; models of one task need one."
            )
        labels = [
            np.stack([part.labels, part.keys[:, column] == key], axis=1).astype(np.float32)
            for part in (train, holdout)
        ]
        names = names[:column] + names[column + 1 :]
        train, holdout = (_without(part, column) for part in (train, holdout))
    static_rows = None
    if arguments.static:
        vocabulary = StaticVocabulary(train)
        train, holdout, static_rows = vocabulary(train), vocabulary(holdout), vocabulary.rows

    init(use_dynamic_expansion=True)
    try:
        with tf.Graph().as_default():
            v1.set_random_seed(arguments.seed)
            trained = _Side(train, labels[0], scaler, arguments, shuffled=True)
            evaluated = _Side(holdout, labels[1], scaler, arguments, shuffled=False)
            tables: dict[str, Any] = {}
            for side, training in ((trained, True), (evaluated, False)):
                with v1.variable_scope("model", reuse=not training):
                    features = Features(
                        side.numeric,
                        side.keys,
                        names,
                        training,
                        arguments.seed,
                        static_rows,
                        tables,
                    )
                    side.logits = tf.stack(list(model(features, arguments)), axis=1)
            return _train_and_evaluate(trained, evaluated, tables, arguments)
    finally:
        terminate_config_initializer()


class _Side:
    """The input of training or of evaluation."""

    def __init__(
        self,
        examples: Examples,
        labels: np.ndarray,
        scaler: NumericScaler,
        arguments: argparse.Namespace,
        *,
        shuffled: bool,
    ) -> None:
        self.logits: Any = None
        epochs = arguments.epochs if shuffled else 1
        # The row numbers go through the batches in place of the labels, of which there may be two.
        numbered = replace(examples, timestamps=np.arange(len(examples)))

        def generate() -> Any:
            order = np.random.default_rng(arguments.seed) if shuffled else None
            for batch in batches([numbered] * epochs, arguments.batch_size, order):
                yield labels[batch.timestamps], scaler(batch.numeric), batch.keys

        dataset = tf.data.Dataset.from_generator(
            generate,
            output_signature=(
                tf.TensorSpec([None, labels.shape[1]], tf.float32),
                tf.TensorSpec([None, examples.numeric.shape[1]], tf.float32),
                tf.TensorSpec([None, examples.keys.shape[1]], tf.int64),
            ),
        )
        self.iterator = v1.data.make_initializable_iterator(dataset.prefetch(4))
        self.labels, self.numeric, keys = self.iterator.get_next()
        self.keys = tf.unstack(keys, num=examples.keys.shape[1], axis=1)


def _train_and_evaluate(
    trained: _Side, evaluated: _Side, tables: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    loss = tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=trained.labels, logits=trained.logits)
    )
    train_op = _train_op(loss, arguments)
    if tables:
        modify_graph_and_start_emb_cache()
    losses, answers = [], []
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(trained.iterator.initializer)
        for value, _ in _until_end(session, [loss, train_op]):
            losses.append(float(value))
        session.run(evaluated.iterator.initializer)
        answers = list(_until_end(session, [evaluated.labels, evaluated.logits]))
    labels, logits = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    tenth = max(1, len(losses) // 10)
    columns = range(labels.shape[1])
    return {
        "rows": len(labels),
        "auc": [roc_auc(labels[:, task], logits[:, task]) for task in columns],
        "log_loss": [log_loss(labels[:, task], logits[:, task]) for task in columns],
        "first_loss": float(np.mean(losses[:tenth])),
        "last_loss": float(np.mean(losses[-tenth:])),
        "table_rows": sum(table.size() for table in tables.values()),
    }


def _train_op(loss: Any, arguments: argparse.Namespace) -> Any:
    """Adam for the dense layers, Adagrad for the embeddings of either kind."""
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    static = [variable for variable in dense_variables if "/static/" in variable.name]
    others = [variable for variable in dense_variables if "/static/" not in variable.name]
    rate = arguments.sparse_learning_rate
    ops = [v1.train.AdamOptimizer(arguments.dense_learning_rate).minimize(loss, var_list=others)]
    if static:
        ops.append(v1.train.AdagradOptimizer(rate, _ACCUMULATOR).minimize(loss, var_list=static))
    else:
        gradients = tf.gradients(loss, sparse_variables)
        sparse = create_hash_optimizer(rate, initial_accumulator_value=_ACCUMULATOR)
        ops.append(sparse.apply_gradients(zip(gradients, sparse_variables, strict=True)))
    return tf.group(*ops)


def _until_end(session: Any, fetches: list[Any]) -> Any:
    while True:
        try:
            yield session.run(fetches)
        except tf.errors.OutOfRangeError:
            return


def _second_task(
    wish: str | None, columns: tuple[str, ...], train: Examples
) -> tuple[int, np.int64]:
    """Number of the column that is the second label, and the key that means 1."""
    if wish is None:
        values = [np.unique(train.keys[:, c], return_counts=True) for c in range(len(columns))]
        choices = [c for c, (keys, _) in enumerate(values) if len(keys) > 1]
        if not choices:
            raise DataError(
                f"no categorical column ({', '.join(columns)}) has two values in the rows to train "
                "on, so none can be the second task; the models of one task need none"
            )
        column = min(choices, key=lambda c: len(values[c][0]))
        keys, counts = values[column]
        return column, keys[counts.argmax()]
    name, equals, value = wish.partition("=")
    if not equals or name not in columns:
        raise DataError(
            f"--second-task is {wish!r}; it must be COLUMN=VALUE, COLUMN one of "
            f"{', '.join(columns)}"
        )
    key = hash_bytes(np.array([value.encode()]))[0]
    column = columns.index(name)
    if not (train.keys[:, column] == key).any():
        raise DataError(f"--second-task is {wish!r}; no row to train on has that value")
    return column, key


def _without(examples: Examples, column: int) -> Examples:
    return replace(examples, keys=np.delete(examples.keys, column, axis=1))


def _parser(description: str | None, tasks: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Criteo TSV, or CSV with --label")
    parser.add_argument("--label", help="label column of a CSV")
    parser.add_argument(
        "--holdout", type=real("--holdout", 0.0, 1.0), default=0.1, help="share to evaluate on"
    )
    parser.add_argument("--static", action="store_true", help="tf.Variable tables, for comparison")
    for name, default, high, text in (
        ("--dim", 16, 1024, "width of the embeddings"),
        ("--epochs", 1, 10_000, "passes over the training rows"),
        ("--batch-size", 256, 2**20, "rows per step"),
    ):
        parser.add_argument(name, type=integer(name, 1, high), default=default, help=text)
    parser.add_argument(
        "--seed", type=integer("--seed", 0, 10**6), default=0, help="of initial values and order"
    )
    for name, rate, text in (
        ("--sparse-learning-rate", 0.05, "of embeddings"),
        ("--dense-learning-rate", 0.001, "of layers"),
    ):
        parser.add_argument(name, type=real(name, 0.0, 10.0), default=rate, help=text)
    if tasks == 2:
        parser.add_argument(
            "--second-task",
            metavar="COLUMN=VALUE",
            help="a categorical column that is no feature, and the value of it that means 1; "
            "without it the column of the fewest values, and its most frequent one",
        )
    return parser
