"""Trains and evaluates the model in monitored sessions."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from mxrec.cli.config import ModelConfig
from mxrec.cli.console import Progress
from mxrec.cli.errors_of_tables import errors_of_tables
from mxrec.cli.examples import Examples, NumericScaler, batches
from mxrec.cli.history import History, RecentAuc
from mxrec.cli.lines import DataError
from mxrec.cli.metrics import log_loss, roc_auc
from mxrec.cli.model import NUMERIC_FEATURE, TIMESTAMP_FEATURE, Model, build_model
from mxrec.errors import CapacityError

_v1 = tf.compat.v1
_POINTS = 200
_AUC_WINDOW = 65_536
_TRIGGERS = 20
_PREFETCH = 4
# Checkpoints at the start and at the end only: nothing in between is asked for.
_NEVER = 2**30

Chunks = Callable[[], Iterable[Examples]]
Features = tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation; equal results compare equal to the last digit.

    Attributes:
        rows: examples evaluated.
        auc: exact.
        log_loss: mean cross entropy.
        digest: SHA-256 of all log odds as little-endian float32, in order.
    """

    rows: int
    auc: float
    log_loss: float
    digest: str


class Input:
    """The input of a model: a stream of chunks.

    TensorFlow turns an exception of its input into an error of its own, with a traceback for a
    message; this class keeps the original, which `train` and `evaluate` raise again.
    """

    def __init__(
        self,
        chunks: Chunks,
        config: ModelConfig,
        scaler: NumericScaler,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
    ) -> None:
        """Prepares the input; nothing is read yet.

        Args:
            chunks: starts the stream.
            config: of the model.
            scaler: of the numeric columns.
            batch_size: rows per batch.
            shuffle_seed: shuffles inside chunks when given.
        """
        self._chunks = chunks
        self._config = config
        self._scaler = scaler
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        self._failure: Exception | None = None

    def first(self, batches: int) -> list[Features]:
        """Returns the first batches that are full, at most so many."""
        taken = list(itertools.islice(self._generate(), batches))
        return [batch for batch in taken if len(batch[1]) == len(taken[0][1])]

    def dataset(self) -> tf.data.Dataset:
        """Builds the dataset in the current graph."""
        signature: dict[str, tf.TensorSpec] = {
            name: tf.TensorSpec([None], tf.int64) for name in self._config.table_names
        }
        signature[NUMERIC_FEATURE] = tf.TensorSpec([None, self._config.numeric_columns], tf.float32)
        if self._config.timestamps:
            signature[TIMESTAMP_FEATURE] = tf.TensorSpec([None], tf.int64)
        labels = tf.TensorSpec([None], tf.float32)
        dataset = tf.data.Dataset.from_generator(
            self._generate, output_signature=(signature, labels)
        )
        return dataset.prefetch(_PREFETCH)

    @contextmanager
    def original_errors(self) -> Iterator[None]:
        """Raises the stream's own exception, or the tables', instead of TensorFlow's."""
        try:
            with errors_of_tables():
                yield
        except (tf.errors.OpError, CapacityError):
            if self._failure is not None:
                raise self._failure from None
            raise

    def _generate(self) -> Iterator[Features]:
        seed = self._shuffle_seed
        shuffle = None if seed is None else np.random.default_rng(seed)
        try:
            for batch in batches(self._chunks(), self._batch_size, shuffle):
                keys = np.ascontiguousarray(batch.keys.T)
                features: dict[str, npt.NDArray[Any]] = dict(
                    zip(self._config.table_names, keys, strict=True)
                )
                features[NUMERIC_FEATURE] = self._scaler(batch.numeric)
                if self._config.timestamps:
                    if batch.timestamps is None:
                        raise ValueError("the model's examples have timestamps, but these do not")
                    features[TIMESTAMP_FEATURE] = batch.timestamps
                yield features, batch.labels
        except Exception as error:
            self._failure = error
            raise


class _ProgressHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]
    """Follows the training: loss, AUC of predictions before the update, table growth."""

    def __init__(
        self,
        model: Model,
        total: int,
        batch_size: int,
        progress: Progress,
        table_rows: Callable[[], int],
    ) -> None:
        self.history = History()
        self._fetches = {"labels": model.labels, "logits": model.logits, "loss": model.loss}
        self._every = max(1, total // batch_size // _POINTS)
        self._progress = progress
        self._table_rows = table_rows
        self._auc = RecentAuc(_AUC_WINDOW)
        self._losses: list[float] = []
        self._previous: list[float] = []
        self._rows = 0

    def before_run(self, run_context: Any) -> Any:
        del run_context
        return _v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        del run_context
        results = run_values.results
        self._rows += len(results["labels"])
        self._losses.append(float(results["loss"]))
        self._auc.add(results["labels"], results["logits"])
        if len(self._losses) >= self._every:
            self._point()

    def end(self, session: Any) -> None:
        del session
        history = self.history
        if history.rows and len(self._losses) * 2 < self._every:
            # A last point of a few batches would only add noise: it joins the one before.
            self._losses = self._previous + self._losses
            history.drop_last()
        self._point()

    def _point(self) -> None:
        history = self.history
        history.add(self._rows, float(np.mean(self._losses)), self._auc.value(), self._table_rows())
        self._previous, self._losses = self._losses, []
        self._progress.update(
            self._rows,
            f"loss {history.loss[-1]:.4f}  AUC {history.auc[-1]:.4f}  "
            f"table rows {history.table_rows[-1]:,}",
        )


class _StartInput(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]
    """Starts the input once the session has its variables and tables."""

    def __init__(self, initializer: tf.Operation) -> None:
        self._initializer = initializer

    def after_create_session(self, session: Any, coord: Any) -> None:
        del coord
        session.run(self._initializer)


def train(
    config: ModelConfig,
    directory: Path,
    examples: Input,
    *,
    total: int,
    batch_size: int,
    progress: Progress,
    table_rows: Callable[[], int],
    evict: bool = False,
    rewrite: bool = True,
) -> History:
    """Trains until the input ends, and saves.

    Args:
        config: of the model.
        directory: of checkpoints; training goes on from the newest one there.
        examples: to train on.
        total: rows expected, for the progress.
        batch_size: of the input.
        progress: follows the training.
        table_rows: counts the rows of all tables.
        evict: lets the tables evict, up to twenty times in all.
        rewrite: has the input pipeline prepare the keys of the coming batches.

    Returns:
        The curves.
    """
    with examples.original_errors(), tf.Graph().as_default():
        model, starts = _build(config, examples, training=True)
        progress_hook = _ProgressHook(model, total, batch_size, progress, table_rows)
        hooks: list[Any] = [starts, progress_hook, *_rewriting(rewrite)]
        if evict:
            from mx_rec.core.feature_process import EvictHook

            steps = -(-total // (batch_size * _TRIGGERS))
            hooks.append(EvictHook(evict_enable=True, evict_step_interval=steps))
        hooks.append(_v1.train.NanTensorHook(model.loss))
        # Relative paths in it: the directory can be moved.
        saver = _v1.train.Saver(
            sharded=True, max_to_keep=1, defer_build=True, save_relative_paths=True
        )
        with _v1.train.MonitoredTrainingSession(
            checkpoint_dir=str(directory),
            scaffold=_v1.train.Scaffold(saver=saver),
            hooks=hooks,
            save_checkpoint_steps=_NEVER,
            save_summaries_steps=None,
            save_summaries_secs=None,
            config=_session_config(),
            log_step_count_steps=None,
        ) as session:
            while not session.should_stop():
                session.run(model.train_op)
    return progress_hook.history


def evaluate(
    config: ModelConfig, directory: Path, examples: Input, *, rewrite: bool = True
) -> Evaluation:
    """Evaluates the newest checkpoint.

    Args:
        config: of the model.
        directory: of checkpoints.
        examples: to evaluate on, not shuffled.
        rewrite: as in `train`.

    Returns:
        The result over all rows of the input.

    Raises:
        DataError: there is no checkpoint.
    """
    checkpoint = tf.train.latest_checkpoint(str(directory))
    if checkpoint is None:
        raise DataError(f"{directory}: no checkpoint; train again")
    parts: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    with examples.original_errors(), tf.Graph().as_default():
        model, starts = _build(config, examples, training=False)
        creator = _v1.train.ChiefSessionCreator(
            config=_session_config(), checkpoint_filename_with_path=checkpoint
        )
        hooks = [starts, *_rewriting(rewrite)]
        with _v1.train.MonitoredSession(creator, hooks) as session:
            while not session.should_stop():
                parts.append(session.run((model.labels, model.logits)))
    labels, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    digest = hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest()
    return Evaluation(len(labels), roc_auc(labels, logits), log_loss(labels, logits), digest)


def _build(config: ModelConfig, examples: Input, *, training: bool) -> tuple[Model, _StartInput]:
    """Builds the model and its input in the current graph."""
    _v1.set_random_seed(config.seed)
    _v1.train.get_or_create_global_step()
    iterator = _v1.data.make_initializable_iterator(examples.dataset())
    features, labels = iterator.get_next()
    model = build_model(features, labels, config, training)
    return model, _StartInput(iterator.initializer)


def _rewriting(rewrite: bool) -> list[Any]:
    from mx_rec.graph.modifier import GraphModifierHook

    return [GraphModifierHook()] if rewrite else []


def _session_config() -> Any:
    config = _v1.ConfigProto(allow_soft_placement=True)
    options = config.graph_options.rewrite_options
    # More passes over these graphs cost a longer start and find nothing.
    options.meta_optimizer_iterations = options.ONE
    return config
