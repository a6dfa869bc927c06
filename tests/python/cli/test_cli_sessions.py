"""The demo's model trains in monitored sessions as it would with Estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_support import has_estimator, needs_tensorflow

from mxrec.cli.config import ModelConfig
from mxrec.cli.console import PlainConsole
from mxrec.cli.examples import Examples, NumericScaler
from mxrec.cli.history import History

pytestmark = needs_tensorflow

CONFIG = ModelConfig(2, ("user", "item"), dim=4, bottom_units=(8,), top_units=(8,), seed=3)
SCALER = NumericScaler((0.0, 0.0), (1.0, 1.0))
BATCH_SIZE = 64


def some_examples(seed: int, rows: int = 640) -> Examples:
    random = np.random.default_rng(seed)
    keys = random.integers(0, 100, (rows, 2))
    labels = (keys.sum(axis=1) % 3 == 0).astype(np.float32)
    return Examples(labels, random.normal(size=(rows, 2)).astype(np.float32), keys)


@contextmanager
def tables() -> Iterator[None]:
    from mx_rec.util.initialize import init, terminate_config_initializer

    init(use_dynamic=True, use_dynamic_expansion=True)
    try:
        yield
    finally:
        terminate_config_initializer()


def some_input(seed: int) -> Any:
    from mxrec.cli.training import Input

    return Input(lambda: [some_examples(seed)], CONFIG, SCALER, BATCH_SIZE)


def train(directory: Path, seed: int = 1) -> History:
    from mxrec.cli import training

    return training.train(
        CONFIG,
        directory,
        some_input(seed),
        total=640,
        batch_size=BATCH_SIZE,
        progress=PlainConsole().progress("train", 640),
        table_rows=lambda: 0,
    )


def evaluate(directory: Path) -> Any:
    from mxrec.cli import training

    return training.evaluate(CONFIG, directory, some_input(2))


@pytest.mark.skipif(not has_estimator(), reason="needs tf.estimator (TensorFlow <= 2.15)")
def test_as_with_estimator(tmp_path: Path) -> None:
    import tensorflow as tf

    from mx_rec.graph.modifier import GraphModifierHook
    from mxrec.cli.model import build_model
    from tf_adapter import NPUEstimator

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        training = mode == tf.estimator.ModeKeys.TRAIN
        model = build_model(features, labels, CONFIG, training)
        return tf.estimator.EstimatorSpec(mode, loss=model.loss, train_op=model.train_op)

    config = tf.estimator.RunConfig(
        str(tmp_path / "estimator"), CONFIG.seed, save_summary_steps=None, keep_checkpoint_max=1
    )
    estimator = NPUEstimator(model_fn, config=config)
    with tables():
        estimator.train(some_input(1).dataset, hooks=[GraphModifierHook()])
    with tables():
        train(tmp_path / "sessions")

    # Runs of either kind are evaluated, and are equal: initial values, order and updates are.
    with tables():
        result = evaluate(tmp_path / "sessions")
    with tables():
        assert result == evaluate(tmp_path / "estimator")
    assert result.rows == 640
    ours, theirs = (
        {path.name for path in (tmp_path / kind).iterdir() if "events" not in path.name}
        for kind in ("sessions", "estimator")
    )
    assert ours == theirs
    assert (tmp_path / "sessions" / "checkpoint").read_text() == (
        tmp_path / "estimator" / "checkpoint"
    ).read_text()


def test_training_goes_on_and_only_the_newest_checkpoint_stays(tmp_path: Path) -> None:
    import tensorflow as tf

    with tables():
        first = train(tmp_path / "model")
    with tables():
        second = train(tmp_path / "model")
    assert max(second.loss) < first.loss[0]
    newest = tf.train.latest_checkpoint(str(tmp_path / "model"))
    assert tf.train.load_variable(newest, "global_step") == 2 * 640 // BATCH_SIZE
    assert {path.stem for path in (tmp_path / "model").glob("*.index")} == {"model.ckpt-20"}
    # Paths in it are relative.
    (tmp_path / "model").rename(tmp_path / "moved")
    with tables():
        assert evaluate(tmp_path / "moved").rows == 640
