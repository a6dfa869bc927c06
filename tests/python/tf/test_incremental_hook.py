"""Full checkpoints and deltas by time in MonitoredTrainingSession, in the background."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
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
from mxrec.checkpoints import files, saving
from mxrec.checkpoints import manifest as manifests
from mxrec.tf import table_checkpoint
from mxrec.tf.incremental_hook import IncrementalSaverHook
from mxrec.tf.log import logger

v1 = tf.compat.v1
LAST = 60
KILLS = int(os.environ.get("MXREC_TEST_KILLS", "200"))


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    yield
    mx.terminate_config_initializer()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The losses of training that nothing interrupts, without any save but that at the end."""
    program.start(save_checkpoint_due_time=1000, save_delta_checkpoints_secs=999)
    losses = program.train(tmp_path_factory.mktemp("straight"), LAST)
    mx.terminate_config_initializer()
    assert len(set(losses.values())) == LAST
    return losses


class Slow(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
    """Makes each step last, so that there are saves within few of them."""

    def __init__(self, seconds: float = 0.02, call: Any = None) -> None:
        self.seconds, self.call = seconds, call

    def after_run(self, run_context: Any, run_values: Any) -> None:
        time.sleep(self.seconds)
        if self.call is not None:
            self.call(run_context)


def chain(directory: Path) -> list[tuple[int, str, int | None]]:
    return [(v.step, v.kind, v.parent) for v in mxrec.versions(directory)]


# --- What is saved --------------------------------------------------------------------------------


def test_saves_by_time_and_goes_on_bit_identically(
    tmp_path: Path, straight: dict[int, str]
) -> None:
    program.start_by(0.6, 0.1)
    losses = program.train(tmp_path, 30, hooks=[Slow()])
    found = chain(tmp_path)
    kinds = [kind for _, kind, _ in found]
    assert found[0] == (0, "full", None) and found[-1][0] == 30
    assert kinds.count("full") >= 2 and kinds.count("delta") >= 2
    for before, (_, kind, parent) in itertools.pairwise(found):
        assert parent == (before[0] if kind == "delta" else None)
    # As in a new process; the first delta builds on what was restored.
    program.start_by(1000, 0.1)
    losses |= program.train(tmp_path, LAST, hooks=[Slow()])
    assert losses == straight
    later = chain(tmp_path)[len(found) :]
    assert later[0][1:] == ("delta", 30) and len(later) > 2
    assert all(kind == "delta" for _, kind, _ in later)  # by the time of the full one before
    for step, _, _ in chain(tmp_path)[-4:]:
        again = tmp_path / f"from-{step}"
        shutil.copytree(tmp_path, again, ignore=shutil.ignore_patterns("from-*"))
        program.start_by(1000, 999, restore_model_version=step)
        losses = program.train(again, LAST)
        assert losses == {at: straight[at] for at in range(step, LAST)}


@pytest.mark.parametrize("save_checkpoint_secs", [0, None, 600])
def test_the_hook_adds_itself(tmp_path: Path, save_checkpoint_secs: Any) -> None:
    def hooks_of(**kwargs: Any) -> list[Any]:
        mx.terminate_config_initializer()
        if kwargs:
            program.start(**kwargs)
        else:
            mx.init()
        with tf.Graph().as_default():
            step = v1.train.get_or_create_global_step()
            ids, clicks = tf.constant([[1, 2]], tf.int64), tf.constant([1.0])
            v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.reshape(step, [1]))
            program.build(ids, clicks, step, training=True)
            with v1.train.MonitoredTrainingSession(
                checkpoint_dir=str(tmp_path), save_checkpoint_secs=save_checkpoint_secs
            ) as session:
                return list(session._hooks)

    savers = [h for h in hooks_of() if isinstance(h, v1.train.CheckpointSaverHook)]
    assert [type(h) for h in savers] == [v1.train.CheckpointSaverHook] * bool(save_checkpoint_secs)
    wanted = {"save_checkpoint_due_time": 100, "save_delta_checkpoints_secs": 10}
    savers = [h for h in hooks_of(**wanted) if isinstance(h, v1.train.CheckpointSaverHook)]
    assert [type(h) for h in savers] == [IncrementalSaverHook]


def test_graphs_that_train_no_table_are_left_alone(tmp_path: Path) -> None:
    program.start(save_checkpoint_due_time=100, save_delta_checkpoints_secs=10)
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        with v1.train.MonitoredTrainingSession(checkpoint_dir=str(tmp_path)) as session:
            assert not [h for h in session._hooks if isinstance(h, IncrementalSaverHook)]


def test_saves_by_steps_go_on(tmp_path: Path) -> None:
    program.start_by(1000, 0.1)
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        ids, clicks = tf.constant([[1, 2]], tf.int64), tf.constant([1.0])
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.reshape(step, [1]))
        _, _, op = program.build(ids, clicks, step, training=True)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=str(tmp_path),
            save_checkpoint_steps=10,
            save_checkpoint_secs=None,
            hooks=[Slow()],
        ) as session:
            for _ in range(25):
                session.run(op)
    kinds = {step: kind for step, kind, _ in chain(tmp_path)}
    assert kinds[0] == kinds[10] == kinds[20] == "full" and kinds[25] == "delta"
    assert list(kinds.values()).count("full") == 3 and len(kinds) > 4


def test_rare_keys_are_left_out(tmp_path: Path) -> None:
    def rows(**kwargs: Any) -> tuple[int, int]:
        program.start_by(1000, 0.1, **kwargs)
        directory = tmp_path / str(len(kwargs))
        directory.mkdir()
        program.train(directory, 20, hooks=[Slow()])
        (table,) = [t for t in mx.registered_tables() if t.table_name == "user"]
        trained = table.size()
        infos = [
            mxrec._mxrec.read_checkpoint_info(str(Path(v.path) / "user"))
            for v in mxrec.versions(directory)
        ]
        # The manifests say how many.
        assert (sum(info["left_out"] for info in infos) > 0) == bool(kwargs)
        program.start_by(1000, 999)
        program.train(directory, 20)
        (table,) = [t for t in mx.registered_tables() if t.table_name == "user"]
        return trained, table.size()

    trained, restored = rows()
    assert trained == restored
    trained, restored = rows(recent_key_count_threshold=2**31 - 1)
    assert restored < trained


# --- In the background ----------------------------------------------------------------------------


def test_training_goes_on_while_a_save_is_written(tmp_path: Path, straight: dict[int, str]) -> None:
    opened = threading.Event()
    held: list[str] = []

    def watcher(operation: str, path: str) -> None:
        if operation == "table" and threading.current_thread() is not threading.main_thread():
            held.append(path)
            assert opened.wait(60)

    steps_meanwhile = []

    def look(context: Any) -> None:
        if held and not opened.is_set():
            steps_meanwhile.append(len(mxrec.versions(tmp_path)))
            newest = tf.train.latest_checkpoint(str(tmp_path))
            assert manifests.is_there(f"{tmp_path}/sparse-{Path(newest).name}")
            if len(steps_meanwhile) == 20:
                opened.set()

    program.start_by(1000, 0.05)
    with files.watched(watcher):
        losses = program.train(tmp_path, LAST, hooks=[Slow(call=look)])
    assert losses == straight
    # The save that was held is one, and what came due meanwhile was put off.
    assert steps_meanwhile == [1] * 20
    program.start_by(1000, 999)
    assert chain(tmp_path)[-1][0] == LAST
    step = chain(tmp_path)[1][0]
    program.start_by(1000, 999, restore_model_version=step)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    assert program.train(copy, LAST) == {at: straight[at] for at in range(step, LAST)}


def test_listeners_see_the_state_that_was_saved(tmp_path: Path) -> None:
    program.start_by(1000, 0.05)
    seen = []

    class Listener(v1.train.CheckpointSaverListener):  # type: ignore[misc, name-defined]
        def after_save(self, session: Any, global_step_value: int) -> None:
            newest = tf.train.latest_checkpoint(str(tmp_path))
            seen.append((global_step_value, newest))
            assert mx.saver.holds(session, newest)

    hook = v1.train.CheckpointSaverHook(str(tmp_path), save_secs=600, listeners=[Listener()])
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        ids, clicks = tf.constant([[1, 2]], tf.int64), tf.constant([1.0])
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.reshape(step, [1]))
        _, _, op = program.build(ids, clicks, step, training=True)
        v1.add_to_collection(v1.GraphKeys.SAVERS, v1.train.Saver())
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=str(tmp_path), save_checkpoint_secs=None, hooks=[hook, Slow()]
        ) as session:
            for _ in range(20):
                session.run(op)
    assert len(seen) > 2 and seen[0][0] == 0 and seen[-1][0] == 20
    assert seen == [(step, str(tmp_path / f"model.ckpt-{step}")) for step, _, _ in chain(tmp_path)]


class Failing:
    """A disk that is full for the n-th table that is written, and those after it."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.seen = first, last, 0

    def __call__(self, operation: str, path: str) -> None:
        if operation == "table":
            self.seen += 1
            if self.first <= self.seen <= self.last:
                raise OSError(28, "No space left on device", path)


def test_a_save_that_fails_ends_training(tmp_path: Path) -> None:
    program.start_by(1000, 0.05)
    with files.watched(Failing(7, 1000)), pytest.raises(OSError, match="No space left"):
        program.train(tmp_path, LAST, hooks=[Slow(0.04)])
    assert len(chain(tmp_path)) == 3
    assert not list(tmp_path.glob("*.tmp-*"))
    assert (
        tf.train.latest_checkpoint(str(tmp_path))
        == f"{tmp_path}/model.ckpt-{chain(tmp_path)[-1][0]}"
    )


def test_training_goes_on_where_that_is_wanted(
    tmp_path: Path, straight: dict[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    program.start_by(1000, 0.05, on_save_failure="continue")
    logger.addHandler(caplog.handler)
    try:
        with files.watched(failing := Failing(7, 10)):
            losses = program.train(tmp_path, 40, hooks=[Slow(0.04)])
    finally:
        logger.removeHandler(caplog.handler)
    assert failing.seen > 12
    assert "training goes on" in caplog.text and "No space left" in caplog.text
    assert losses == {at: straight[at] for at in range(40)}
    # Nothing is lost: the delta after the failure holds what the failed ones would have.
    program.start_by(1000, 999)
    assert program.train(tmp_path, LAST) == {at: straight[at] for at in range(40, LAST)}
    assert [kind for _, kind, _ in chain(tmp_path)].count("full") == 1


@pytest.mark.parametrize("times", [1, 2])
def test_after_an_error_at_the_state_file_a_restart_goes_on(
    tmp_path: Path, straight: dict[int, str], times: int
) -> None:
    """The directory cannot be synced once `checkpoint` names the new one; at 2 nor when put back.

    It is not known then which of the two a machine finds that stops: both have to be whole.
    """
    calls: list[tuple[str, str]] = []
    failed: list[str] = []

    def watcher(operation: str, path: str) -> None:
        after = calls[-1:] == [("rename", str(tmp_path / "checkpoint"))]
        calls.append((operation, path))
        seen = calls.count(("rename", str(tmp_path / "checkpoint")))
        if operation == "sync" and after and seen > 3 and len(failed) < times:
            failed.append(str(tf.train.latest_checkpoint(str(tmp_path))))
            raise OSError(5, "Input/output error", path)

    class Dies(Exception):
        pass

    class Dying(Slow):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            super().after_run(run_context, run_values)
            if len(failed) == times and not saving.is_busy():
                raise Dies

    program.start_by(1000, 0.05, on_save_failure="continue")
    with files.watched(watcher), pytest.raises(Dies):
        program.train(tmp_path, 400, hooks=[Dying(0.02)])
    with saving.turn():  # of a save that has begun in the meantime
        assert len(failed) == times
    latest = tf.train.latest_checkpoint(str(tmp_path))
    assert latest is not None and latest != failed[0]
    for path in (f"{failed[0]}.index", table_checkpoint.sparse_directory(failed[0])):
        assert os.path.exists(path) == (times == 2)
    program.start_by(1000, 999)
    step = int(latest.rsplit("-", 1)[1])
    last = max(step + 3, 10)
    found = program.train(tmp_path, last)
    assert min(found) == step
    assert all(found[at] == straight[at] for at in found if at in straight)


def test_the_last_save_must_not_fail(tmp_path: Path) -> None:
    program.start_by(1000, 999, on_save_failure="continue")
    with files.watched(Failing(3, 1000)), pytest.raises(OSError, match="No space left"):
        program.train(tmp_path, 5)
    assert [step for step, _, _ in chain(tmp_path)] == [0]


# --- The version that is restored -----------------------------------------------------------------


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    program.start_by(1000, 0.1)
    program.train(tmp_path, 10, hooks=[Slow()])
    steps = ", ".join(str(step) for step, _, _ in chain(tmp_path))
    program.start_by(1000, 999, restore_model_version=77)
    with pytest.raises(FileNotFoundError, match=f"restore_model_version=77.*steps {steps}"):
        program.train(tmp_path, 12)
    assert [step for step, _, _ in chain(tmp_path)] == [int(step) for step in steps.split(", ")]


def test_a_version_wanted_where_there_is_none(
    tmp_path: Path, straight: dict[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    logger.addHandler(caplog.handler)
    try:
        program.start_by(1000, 999, restore_model_version=3)
        assert program.train(tmp_path, 5) == {at: straight[at] for at in range(5)}
        assert program.train(tmp_path, 8) == {at: straight[at] for at in range(5, 8)}
    finally:
        logger.removeHandler(caplog.handler)
    assert "had no checkpoint, training starts at step 0" in caplog.text


def test_after_an_older_version_training_forks(tmp_path: Path, straight: dict[int, str]) -> None:
    program.start_by(1000, 0.1)
    program.train(tmp_path, 20, hooks=[Slow()])
    found = chain(tmp_path)
    wanted = found[2][0]
    program.start_by(1000, 999, restore_model_version=wanted)
    assert program.train(tmp_path, LAST) == {at: straight[at] for at in range(wanted, LAST)}
    assert chain(tmp_path)[-1] == (LAST, "delta", wanted)
    assert {step for step, _, _ in chain(tmp_path)} == {step for step, _, _ in found} | {LAST}


# --- Kills ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_kills(tmp_path: Path, seed: int, straight: dict[int, str]) -> None:
    """$MXREC_TEST_KILLS real SIGKILLs, at any moment; the losses are those of one run."""
    rng = np.random.default_rng(seed)
    last = 2_000_000
    server = subprocess.Popen(
        [sys.executable, program.__file__, str(tmp_path), str(last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert server.stdin is not None and server.stdout is not None
    log = tmp_path / "losses"
    log.touch()
    try:
        for _ in range(KILLS):
            before = log.stat().st_size
            server.stdin.write("run 0.2 0.03 0\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            deadline = time.monotonic() + 60
            while log.stat().st_size == before and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child, 9)
            assert server.stdout.readline().split() == ["end", str(child), "-9"]
            newest = tf.train.latest_checkpoint(str(tmp_path))
            assert newest is None or manifests.is_there(f"{tmp_path}/sparse-{Path(newest).name}")
    finally:
        server.stdin.close()
        server.wait(60)
    seen: dict[int, str] = {}
    repeated = 0
    for line in log.read_text().splitlines():
        if len(line.split()) == 2 and len(line.split()[1]) == 8:  # else cut by a kill
            at, loss = int(line.split()[0]), line.split()[1]
            repeated += at in seen
            assert seen.setdefault(at, loss) == loss, at
    assert repeated > KILLS // 4 and sorted(seen) == list(range(len(seen)))
    # Uninterrupted, to where the killed ones came.
    program.start(save_checkpoint_due_time=10**6, save_delta_checkpoints_secs=10**5)
    (tmp_path / "whole").mkdir()
    assert program.train(tmp_path / "whole", len(seen)) == seen
    assert all(seen[at] == straight[at] for at in range(min(LAST, len(seen))))
