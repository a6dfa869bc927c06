"""Incremental mode in Estimators, together with admission, eviction and dynamic expansion."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import incremental_program as program
import numpy as np
import pytest
import tensorflow as tf

import mxrec
import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook
from tf_adapter import NPUEstimator, NPURunConfig

v1 = tf.compat.v1
pytestmark = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    yield
    mx.terminate_config_initializer()


class Slow(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
    def after_run(self, run_context: Any, run_values: Any) -> None:
        time.sleep(0.02)


def input_fn(first: int, last: int) -> Any:
    """The batches of some steps, with their numbers for timestamps."""

    def make_dataset() -> Any:
        batches = [program.batch(step) for step in range(first, last)]
        features = {
            "ids": np.stack([b["ids"] for b in batches]),
            "time": np.arange(first, last)[:, None],
        }
        clicks = np.stack([b["clicks"] for b in batches])
        return tf.data.Dataset.from_tensor_slices((features, clicks))

    return make_dataset


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    training = mode == tf.estimator.ModeKeys.TRAIN
    step = v1.train.get_or_create_global_step()
    v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.cast(features["time"], tf.int64))
    clicks = tf.zeros([program.BATCH]) if labels is None else labels
    clicks = tf.reshape(clicks, [program.BATCH])
    ids = tf.reshape(features["ids"], [program.BATCH, 2])
    probability, loss, op = program.build(ids, clicks, step, training)
    return tf.estimator.EstimatorSpec(
        mode, predictions={"probability": probability}, loss=loss, train_op=op
    )


def estimator(directory: Path, **options: Any) -> Any:
    config = NPURunConfig(tf_random_seed=1, log_step_count_steps=None, **options)
    return NPUEstimator(model_fn=model_fn, model_dir=str(directory), config=config)


def hooks(rewritten: bool) -> list[Any]:
    evict = mx.EvictHook(evict_enable=True, evict_time_interval=10**6, evict_step_interval=7)
    return [GraphModifierHook(modify_graph=rewritten), evict, Slow()]


def kinds(directory: Path) -> list[str]:
    return [v.kind for v in mxrec.versions(directory)]


def predictions(model: Any) -> list[float]:
    return [float(p["probability"]) for p in model.predict(input_fn(100, 105))]


@pytest.mark.parametrize("rewritten", [False, True])
def test_train_evaluate_predict(tmp_path: Path, rewritten: bool) -> None:
    program.start(save_checkpoint_due_time=1000, save_delta_checkpoints_secs=999)
    plain = estimator(tmp_path / "plain")
    plain.train(input_fn(0, 60), hooks=hooks(rewritten))
    evaluation, predicted = plain.evaluate(input_fn(100, 105)), predictions(plain)
    assert kinds(tmp_path / "plain") == ["full", "delta"]

    # In parts, each as in a new process, each from a delta.
    directory = tmp_path / "parts"
    for first, last in ((0, 25), (25, 40), (40, 60)):
        program.start_by(0.5, 0.1)
        model = estimator(directory)
        model.train(input_fn(first, last), hooks=hooks(rewritten))
    assert kinds(directory).count("delta") > 3 and kinds(directory).count("full") >= 2
    assert predictions(model) == predicted
    program.start_by(1000, 999)
    model = estimator(directory)
    assert model.evaluate(input_fn(100, 105)) == evaluation
    assert predictions(model) == predicted
    tables = {table.table_name: table.engine for table in mx.registered_tables()}
    assert all(len(engine) for engine in tables.values())


def test_evaluating_a_version(tmp_path: Path) -> None:
    program.start_by(1000, 0.1)
    model = estimator(tmp_path)
    model.train(input_fn(0, 30), hooks=hooks(False))
    steps = [v.step for v in mxrec.versions(tmp_path)]
    wanted = steps[2]
    path = str(tmp_path / f"model.ckpt-{wanted}")
    found = model.evaluate(input_fn(100, 105), checkpoint_path=path)
    assert found["global_step"] == wanted
    program.start_by(1000, 999, restore_model_version=wanted)
    model = estimator(tmp_path)
    assert model.evaluate(input_fn(100, 105)) == found
    # What is named is restored as named.
    path = str(tmp_path / f"model.ckpt-{steps[1]}")
    assert model.evaluate(input_fn(100, 105), checkpoint_path=path)["global_step"] == steps[1]
    model.train(input_fn(wanted, wanted + 5), hooks=hooks(False))
    assert mxrec.versions(tmp_path)[-1].parent == wanted
    assert model.evaluate(input_fn(100, 105))["global_step"] == wanted + 5


@pytest.mark.parametrize("rewritten", [False, True])
def test_train_and_evaluate(tmp_path: Path, rewritten: bool) -> None:
    program.start(save_checkpoint_due_time=1000, save_delta_checkpoints_secs=999)
    plain = estimator(tmp_path / "plain")
    plain.train(input_fn(0, 40), hooks=hooks(rewritten))
    wanted = plain.evaluate(input_fn(100, 105))

    program.start_by(1000, 0.2)
    directory = tmp_path / "both"
    model = estimator(directory)
    evaluated = []

    class Note(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
        def end(self, session: Any) -> None:
            evaluated.append(int(session.run(v1.train.get_global_step())))

    found, _ = tf.estimator.train_and_evaluate(
        model,
        tf.estimator.TrainSpec(input_fn(0, 40), max_steps=40, hooks=hooks(rewritten)),
        tf.estimator.EvalSpec(
            input_fn(100, 105),
            throttle_secs=0,
            start_delay_secs=0,
            hooks=[Note(), GraphModifierHook(modify_graph=rewritten)],
        ),
    )
    # Evaluating at each save, in the process that trains, changes nothing.
    assert found == wanted
    assert evaluated == [v.step for v in mxrec.versions(directory)][1:]
    assert evaluated[-1] == 40 and kinds(directory).count("delta") >= 2
    program.start_by(1000, 999)
    assert estimator(directory).evaluate(input_fn(100, 105)) == wanted


def test_keep_checkpoint_max_counts_full_checkpoints(tmp_path: Path) -> None:
    program.start_by(0.3, 0.05)
    model = estimator(tmp_path, keep_checkpoint_max=1)
    model.train(input_fn(0, 60), hooks=hooks(False))
    found = mxrec.versions(tmp_path)
    assert [v.kind for v in found] == ["full"] + ["delta"] * (len(found) - 1)
    assert found[0].step > 0
    assert {p.name for p in tmp_path.glob("*.index")} == {
        f"model.ckpt-{v.step}.index" for v in found
    }
    assert predictions(model)
