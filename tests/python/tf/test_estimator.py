"""NPUEstimator and NPURunConfig: training, evaluation, prediction and checkpoints with tables."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import estimator_program
import numpy as np
import pytest
import tensorflow as tf
from estimator_program import estimator, input_fn

from mx_rec.util.initialize import terminate_config_initializer
from mxrec.checkpoints import restoring
from mxrec.tf.log import logger
from tf_adapter import DumpConfig, NPUEstimator, NPURunConfig, npu_hooks_append

HAS_ESTIMATOR = hasattr(tf, "estimator")
needs_estimator = pytest.mark.skipif(not HAS_ESTIMATOR, reason="TensorFlow without tf.estimator")


@pytest.fixture
def library() -> Iterator[None]:
    estimator_program.start()
    yield
    terminate_config_initializer()


def evaluate_in_a_new_process(model_dir: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, estimator_program.__file__, model_dir],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=180,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def sparse_directories(model_dir: Path) -> set[str]:
    return {p.name for p in model_dir.iterdir() if p.name.startswith("sparse")}


# --- Training -------------------------------------------------------------------------------------


@needs_estimator
@pytest.mark.usefixtures("library")
def test_train_evaluate_predict_resume(tmp_path: Path) -> None:
    first = estimator(str(tmp_path))
    assert isinstance(first, tf.estimator.Estimator)
    first.train(input_fn(0, 30))
    before = first.evaluate(input_fn(1000, 5))
    assert before["loss"] < np.log(2) and before["global_step"] == 30
    assert "sparse-model.ckpt-30" in sparse_directories(tmp_path)
    assert evaluate_in_a_new_process(str(tmp_path)) == {k: v.item() for k, v in before.items()}

    predictions = [p["probability"] for p in first.predict(input_fn(1000, 5))]
    assert len(predictions) == 5 * estimator_program.BATCH

    estimator_program.start()
    resumed = estimator(str(tmp_path))
    again = [p["probability"] for p in resumed.predict(input_fn(1000, 5))]
    np.testing.assert_array_equal(again, predictions)
    resumed.train(input_fn(1, 30))
    after = resumed.evaluate(input_fn(1000, 5))
    assert after["global_step"] == 60 and after["loss"] < before["loss"]


@needs_estimator
@pytest.mark.usefixtures("library")
def test_interrupted_training_equals_uninterrupted(tmp_path: Path) -> None:
    def batches(first: int, last: int) -> Any:
        return lambda: input_fn(0, 20)().skip(first).take(last - first)

    straight = estimator(str(tmp_path / "straight"))
    straight.train(batches(0, 20))
    wanted = straight.evaluate(input_fn(1000, 5))
    for first, last in ((0, 10), (10, 20)):
        estimator_program.start()
        estimator(str(tmp_path / "parts")).train(batches(first, last))
    assert estimator(str(tmp_path / "parts")).evaluate(input_fn(1000, 5)) == wanted


@needs_estimator
@pytest.mark.usefixtures("library")
def test_train_and_evaluate_reads_no_table_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    original = restoring._temporary_directory

    def counted(directory: str) -> Any:
        events.append(directory)
        return original(directory)

    monkeypatch.setattr(restoring, "_temporary_directory", counted)
    model = estimator(str(tmp_path), save_checkpoints_steps=10, keep_checkpoint_max=2)
    losses = []

    class KeepLoss(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
        def end(self, session: Any) -> None:
            losses.append(session.run(tf.compat.v1.train.get_global_step()))

    tf.estimator.train_and_evaluate(
        model,
        tf.estimator.TrainSpec(input_fn(0, 40), max_steps=40, hooks=npu_hooks_append()),
        tf.estimator.EvalSpec(
            input_fn(1000, 5), throttle_secs=0, start_delay_secs=0, hooks=[KeepLoss()]
        ),
    )
    assert losses == [10, 20, 30, 40]
    assert not events
    assert sparse_directories(tmp_path) == {"sparse-model.ckpt-30", "sparse-model.ckpt-40"}
    loss = model.evaluate(input_fn(1000, 5))["loss"]
    assert evaluate_in_a_new_process(str(tmp_path))["loss"] == loss.item()


@needs_estimator
@pytest.mark.usefixtures("library")
def test_evaluating_an_earlier_checkpoint(tmp_path: Path) -> None:
    model = estimator(str(tmp_path), save_checkpoints_steps=10)
    model.train(input_fn(0, 10))
    early = model.evaluate(input_fn(1000, 5))
    model.train(input_fn(1, 10))
    late = model.evaluate(input_fn(1000, 5))
    assert early["loss"] != late["loss"]
    path = str(tmp_path / "model.ckpt-10")
    assert model.evaluate(input_fn(1000, 5), checkpoint_path=path) == early
    assert model.evaluate(input_fn(1000, 5)) == late


# --- Configuration --------------------------------------------------------------------------------


@needs_estimator
def test_run_config_keeps_options() -> None:
    dump = DumpConfig(enable_dump=True, dump_path="there", dump_mode="all")
    config = NPURunConfig(
        model_dir="here",
        save_checkpoints_steps=50,
        precision_mode="allow_mix_precision",
        iterations_per_loop=10,
        enable_data_pre_proc=True,
        op_compiler_cache_mode="enable",
        HCCL_algorithm="level0:pairwise;level1:pairwise",
        dump_config=dump,
    )
    assert isinstance(config, tf.estimator.RunConfig)
    for kept in (config, copy.deepcopy(config), config.replace(tf_random_seed=5)):
        assert kept.model_dir == "here" and kept.save_checkpoints_steps == 50
        assert kept.precision_mode == "allow_mix_precision" and kept.iterations_per_loop == 10
        assert kept.enable_data_pre_proc is True and kept.op_compiler_cache_mode == "enable"
        assert kept.HCCL_algorithm.startswith("level0")
        assert kept.dump_config.dump_mode == "all"
        assert kept.op_precision_mode is None
    changed = config.replace(precision_mode="force_fp16", keep_checkpoint_max=7)
    assert (changed.precision_mode, changed.keep_checkpoint_max) == ("force_fp16", 7)
    assert config.precision_mode == "allow_mix_precision"
    assert config.accelerator_options["iterations_per_loop"] == 10
    with pytest.raises(AttributeError, match="no_such_option"):
        _ = config.no_such_option
    with pytest.raises(ValueError, match="iterations_per_loop"):
        NPURunConfig(iterations_per_loop=0)
    with pytest.raises(TypeError, match="iterations_per_loop"):
        NPURunConfig(iterations_per_loop="ten")  # type: ignore[arg-type]


@needs_estimator
def test_run_config_says_what_it_does_not_use(caplog: pytest.LogCaptureFixture) -> None:
    # The logger may keep its records from the root logger.
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger=logger.name):
            NPURunConfig(save_checkpoint_steps=3)
    finally:
        logger.removeHandler(caplog.handler)
    assert "save_checkpoint_steps" in caplog.text


@needs_estimator
def test_the_estimator_keeps_the_config(tmp_path: Path) -> None:
    model = estimator(str(tmp_path), precision_mode="force_fp32")
    assert isinstance(model.config, NPURunConfig)
    assert model.config.precision_mode == "force_fp32"
    assert model.config.model_dir == str(tmp_path)


@pytest.mark.skipif(HAS_ESTIMATOR, reason="TensorFlow with tf.estimator")
@pytest.mark.parametrize("used", [NPUEstimator, NPURunConfig])
def test_without_tf_estimator(used: Any) -> None:
    with pytest.raises(ImportError, match=rf"{used.__name__} needs tf.estimator.*2\.15"):
        used()


def test_npu_hooks_append() -> None:
    assert npu_hooks_append() == []
    hook = tf.compat.v1.train.SessionRunHook()
    given = [hook]
    assert npu_hooks_append(given) is given and given == [hook]
    assert npu_hooks_append(hooks_list=(hook,)) == [hook]
    with pytest.raises(TypeError, match="hooks_list"):
        npu_hooks_append(["no hook"])
