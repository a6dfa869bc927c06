"""Deltas by hand: Saver.save(save_delta=True), chains, max_to_keep, kills, other file systems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoint_program
import numpy as np
import pytest
import tensorflow as tf
from checkpoint_program import Program
from version_support import Killer, flip, killed

import mxrec
import mxrec.tf as mx
from mx_rec.util.initialize import init, terminate_config_initializer
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import files
from mxrec.checkpoints import manifest as manifests
from mxrec.tf import saver_state, table_checkpoint


@pytest.fixture
def library() -> Iterator[None]:
    checkpoint_program.start()
    yield
    terminate_config_initializer()


pytestmark = pytest.mark.usefixtures("library")


def save(program: Program, directory: str | Path, delta: bool = True, **options: Any) -> str:
    return program.save(
        os.path.join(directory, "model"),
        options.pop("saver", None),
        global_step=program.step,
        is_incremental_checkpoint=True,
        save_delta=delta,
        **options,
    )


def assert_same(found: Any, wanted: Any) -> None:
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def fresh() -> Program:
    """A program on empty tables, as in a new process."""
    checkpoint_program.start()
    return Program()


def make_chain(
    program: Program, directory: str | Path, last: int, full: tuple[int, ...] = (1,)
) -> dict[int, Any]:
    wanted = {}
    for step in range(1, last + 1):
        program.train(step, step)
        save(program, directory, step not in full)
        wanted[step] = program.state()
    return wanted


def sparse(directory: str | Path) -> dict[str, str]:
    """Name and kind of all version directories."""
    return {
        path.name: manifests.read(str(path)).kind
        for path in Path(directory).iterdir()
        if path.name.startswith("sparse-")
    }


def test_every_step_of_a_chain_is_a_whole_model(tmp_path: Path) -> None:
    wanted = make_chain(Program(), tmp_path, 6, full=(1, 4))
    assert [(v.step, v.kind, v.parent) for v in mxrec.versions(tmp_path)] == [
        (1, "full", None),
        (2, "delta", 1),
        (3, "delta", 2),
        (4, "full", None),
        (5, "delta", 4),
        (6, "delta", 5),
    ]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model-6")
    for step in (6, 2, 3, 5, 1, 4):
        program = fresh()
        program.restore(tmp_path / f"model-{step}")
        assert_same(program.state(), wanted[step])


def test_the_next_delta_follows_what_was_restored(tmp_path: Path) -> None:
    program = Program()
    wanted = make_chain(program, tmp_path, 4)
    program.restore(tmp_path / "model-2")
    program.train(9, 9)
    program.save(tmp_path / "model", global_step=9, save_delta=True)
    # init has not asked for incremental checkpoints, so nothing was counted since the restore.
    assert sparse(tmp_path)["sparse-model-9"] == "full"
    terminate_config_initializer()
    init(
        use_dynamic_expansion=True,
        is_incremental_checkpoint=True,
        save_checkpoint_due_time=1000,
        save_delta_checkpoints_secs=999,
    )
    program = Program()
    program.restore(tmp_path / "model-2")
    program.train(3, 3)
    save(program, tmp_path)  # takes the place of the version that step 4 builds on
    assert manifests.read(str(tmp_path / "sparse-model-3")).parent.step == 2
    assert_same(program.state(), wanted[3])
    for step in (4, 3):
        again = Program() if step == 4 else program
        again.restore(tmp_path / f"model-{step}")
        assert_same(again.state(), wanted[step])


def test_a_delta_without_a_parent_is_full(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    save(program, tmp_path / "a")
    program.train(2, 2)
    save(program, tmp_path / "b")
    for step, kind in ((3, "delta"), (4, "full")):
        program.train(step, step)
        if kind == "full":
            shutil.rmtree(tmp_path / "b" / "sparse-model-3")
        save(program, tmp_path / "b")
    assert sparse(tmp_path / "a") == {"sparse-model-1": "full"}
    assert sparse(tmp_path / "b") == {"sparse-model-2": "full", "sparse-model-4": "full"}


def test_saving_under_one_name(tmp_path: Path) -> None:
    program = Program()
    for step in (1, 2):
        program.train(step, step)
        program.save(tmp_path / "model", save_delta=True)
        assert sparse(tmp_path) == {"sparse-model": "full"}  # it cannot build on what it replaces
    wanted = program.state()
    again = fresh()
    again.restore(tmp_path / "model")
    assert_same(again.state(), wanted)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"sharded": True},
        {"pad_step_number": True},
        {"save_relative_paths": True},
        {"write_version": tf.compat.v1.train.SaverDef.V1},
        {"write_version": tf.compat.v1.train.SaverDef.V1, "sharded": True},
    ],
)
def test_savers_of_all_kinds(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    program = Program()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(max_to_keep=1, **kwargs)
    for step, full in ((1, True), (2, False), (3, True), (4, False)):
        program.train(step, step)
        path = save(program, tmp_path, not full, saver=saver)
    wanted = program.state()
    assert path == tf.train.latest_checkpoint(str(tmp_path))
    kept = sorted(name.rpartition("-")[2].lstrip("0") for name in sparse(tmp_path))
    assert kept == ["3", "4"] and not list(tmp_path.glob("model-*1*.index"))
    assert not [p.name for p in tmp_path.iterdir() if "tmp" in p.name]
    checkpoint_program.start()
    program = Program()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(**kwargs)
    program.restore(path, saver)
    assert_same(program.state(), wanted)


def test_plain_saves_are_full_and_count_nothing(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    program.save(tmp_path / "model", global_step=1)
    program.train(2, 2)
    program.save(tmp_path / "model", global_step=2, save_delta=True)
    assert set(sparse(tmp_path).values()) == {"full"}


def test_tables_without_a_saver(tmp_path: Path) -> None:
    program = Program()
    for step in (1, 2):
        program.train(step, step)
        mx.save_tables(
            tmp_path / f"m-{step}", step, is_incremental_checkpoint=True, save_delta=step > 1
        )
    assert sparse(tmp_path) == {"sparse-m-1": "full", "sparse-m-2": "delta"}
    wanted = {k: v for k, v in program.state().items() if k != "dense"}
    program = fresh()
    assert mx.restore_tables(tmp_path / "m-2") == 2
    assert_same({k: v for k, v in program.state().items() if k != "dense"}, wanted)


def test_export_of_a_delta(tmp_path: Path) -> None:
    wanted = make_chain(Program(), tmp_path, 3)[3]
    written = mx.export(model_dir=tmp_path)
    with np.load(written["user"]) as archive:
        order = np.argsort(archive["keys"])
        np.testing.assert_array_equal(archive["keys"][order], wanted["user/keys"])
        np.testing.assert_array_equal(archive["values"][order], wanted["user/values"])


# --- Housekeeping ---------------------------------------------------------------------------------


def test_max_to_keep_counts_full_checkpoints(tmp_path: Path) -> None:
    wanted = make_chain(Program(max_to_keep=2), tmp_path, 8, full=(1, 3, 6))
    assert set(sparse(tmp_path)) == {f"sparse-model-{step}" for step in range(3, 9)}
    index = {p.name for p in tmp_path.glob("*.index")}
    assert index == {f"model-{step}.index" for step in range(3, 9)}
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert len(state.all_model_checkpoint_paths) == 6
    # Another process goes on with the list.
    program = fresh()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(max_to_keep=2)
    program.restore(tmp_path / "model-8", saver)
    saver.recover_last_checkpoints(state.all_model_checkpoint_paths)
    assert_same(program.state(), wanted[8])
    program.train(9, 9)
    save(program, tmp_path, delta=False, saver=saver)
    assert set(sparse(tmp_path)) == {f"sparse-model-{step}" for step in range(6, 10)}


def test_what_long_chains_go_back_to_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a Saver that has just been told of them, as after a restart."""
    program = Program(max_to_keep=9)
    make_chain(program, tmp_path, 12, full=(1, 7))
    paths = [str(tmp_path / f"model-{step}") for step in range(1, 13)]
    chains._known.clear()
    read: list[str] = []
    read_manifest = manifests.read
    monkeypatch.setattr(manifests, "read", lambda path: read.append(path) or read_manifest(path))
    saver = tf.compat.v1.train.Saver([tf.Variable(1.0)])
    roots = saver_state._roots_of(saver, paths)
    assert [roots[path] for path in paths] == [
        str(tmp_path / f"sparse-model-{1 if step < 7 else 7}") for step in range(1, 13)
    ]
    assert len(read) == len(set(read)) == 12
    # The instant of a save waits for nothing that was read before.
    program.train(13, 13)
    read.clear()
    save(program, tmp_path)
    assert not [path for path in read if not path.endswith("-13")]


def test_what_is_kept_by_the_hour_keeps_its_deltas(tmp_path: Path) -> None:
    program = Program()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1e-9)
    for step in range(1, 5):
        program.train(step, step)
        save(program, tmp_path, delta=step % 2 == 0, saver=saver)
    assert set(sparse(tmp_path)) == {f"sparse-model-{step}" for step in range(1, 5)}


def test_what_another_savers_delta_needs_stays(tmp_path: Path) -> None:
    program = Program()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(max_to_keep=1)
    program.train(1, 1)
    save(program, tmp_path, delta=False, saver=saver)
    program.train(2, 2)
    save(program, tmp_path, write_state=False)  # known to nobody
    wanted = program.state()
    for step in (3, 4):
        program.train(step, step)
        save(program, tmp_path, delta=False, saver=saver)
    assert set(sparse(tmp_path)) == {f"sparse-model-{step}" for step in (1, 2, 4)}
    shutil.move(tmp_path / "sparse-model-2", tmp_path.parent / "sparse-model-2")
    program.train(5, 5)
    save(program, tmp_path, delta=False, saver=saver)
    assert set(sparse(tmp_path)) == {"sparse-model-5"}
    assert len(wanted)


# --- Damage, kills --------------------------------------------------------------------------------


def test_a_damaged_link_is_named_with_the_newest_checkpoint_that_restores(tmp_path: Path) -> None:
    make_chain(Program(), tmp_path, 3)
    damaged = max((tmp_path / "sparse-model-2" / "user").glob("data-*"))
    flip(damaged)
    program = fresh()
    program.train(1, 1)
    before = program.state()
    with pytest.raises(mxrec.DataLossError) as caught:
        program.restore(tmp_path / "model-3")
    assert str(damaged) in str(caught.value)
    assert "newest version that restores is step 1" in str(caught.value)
    assert_same(program.state(), before)


@pytest.mark.parametrize(
    ("replaces", "stride"),
    [
        (True, 7),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_killed_before_any_operation(tmp_path: Path, replaces: bool, stride: int) -> None:
    """`replaces`: under one name, as Savers without a global step do."""

    def save_one(program: Program, directory: Path) -> None:
        if replaces:
            program.save(directory / "model")
        else:
            save(program, directory)

    def prepare(directory: Path) -> tuple[Program, dict[int, Any]]:
        program = fresh()
        wanted = {}
        for step in (1, 2):
            program.train(step, step)
            save_one(program, directory)
            wanted[step] = program.state()
        program.train(3, 3)
        wanted[3] = program.state()
        return program, wanted

    program, _ = prepare(tmp_path / "count")
    with files.watched(killer := Killer()):
        save_one(program, tmp_path / "count")
    names = [name for name, _ in killer.operations]
    assert {"dense", "table", "write", "sync", "rename", "state"} <= set(names)
    seen = set()
    for at in range(1, len(names) + 1, stride):
        directory = tmp_path / str(at)
        program, wanted = prepare(directory)
        with killed(at):
            save_one(program, directory)
        path = tf.train.latest_checkpoint(str(directory))
        for shards in (False, True):
            program = fresh()
            program.restore(path)
            found = program.state()
            step = int(found["user/optimizer_step"])
            assert_same(found, wanted[step])
            seen.add(step)
            if shards:
                program.train(step + 1, step + 1)
                save_one(program, directory)
                assert not list(directory.glob("*.tmp-*"))
        shutil.rmtree(directory)
    assert seen == {2, 3}


class Failing:
    """Fails an operation on disk and some after it."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.left = at
        self.times = times
        self.names: list[str] = []

    def __call__(self, operation: str, path: str) -> None:
        self.names.append(operation)
        self.left -= 1
        if -self.times < self.left <= 0:
            raise OSError(28, "No space left on device", path)


@pytest.mark.parametrize("how", ["reused", "full", "delta"])
def test_an_error_at_any_operation_changes_nothing(tmp_path: Path, how: str) -> None:
    """Up to the last one that the checkpoint needs; what is removed later is no error."""

    def save_one() -> None:
        if how == "reused":
            program.save(tmp_path / "model")
        else:
            save(program, tmp_path, how == "delta")

    program = Program(max_to_keep=1)
    for step in (1, 2):
        program.train(step, step)
        save_one()
    latest = tf.train.latest_checkpoint(str(tmp_path))
    state = (tmp_path / "checkpoint").read_bytes()
    at = failed = 0
    while True:
        at += 1
        program.train(2 + at, 2 + at)
        before = {p.name for p in tmp_path.iterdir()}
        with files.watched(failing := Failing(at)):
            try:
                save_one()
                break
            except OSError as error:
                assert "No space left" in str(error)
                failed += 1
        assert {p.name for p in tmp_path.iterdir()} == before
        assert (tmp_path / "checkpoint").read_bytes() == state
        assert tf.train.latest_checkpoint(str(tmp_path)) == latest
    # `checkpoint` has its name, and the directory is synced: nothing fails from then on.
    assert failed == at - 1 and failing.names[at - 3 : at - 1] == ["rename", "sync"]
    assert "state" in failing.names[:at]
    for more in range(1, len(failing.names) - at + 1):
        program.train(2 + at + more, 2 + at + more)
        with files.watched(Failing(at + more)):
            save_one()
    wanted = program.state()
    program = fresh()
    program.restore(tf.train.latest_checkpoint(str(tmp_path)))
    assert_same(program.state(), wanted)


@pytest.mark.parametrize(
    "how", ["delta", *(pytest.param(how, marks=pytest.mark.slow) for how in ("reused", "full"))]
)
def test_a_disk_that_fails_from_an_operation_on(tmp_path: Path, how: str) -> None:
    """Nothing can be put back then: what `checkpoint` names is whole all the same."""

    def save_one(directory: Path) -> None:
        if how == "reused":
            program.save(directory / "model")
        else:
            save(program, directory, how == "delta")

    def prepare(directory: Path) -> None:
        for step in (1, 2):
            program.train(step, step)
            if step == 2:
                states.append(program.state())
            else:
                save_one(directory)
                states[:] = [program.state()]

    states: list[Any] = []
    program = fresh()
    prepare(tmp_path / "count")
    with files.watched(killer := Killer()):
        save_one(tmp_path / "count")
    names = [name for name, _ in killer.operations]
    first = names.index("state")  # the operations before are those of a kill
    for at in range(first, len(names)):
        program = fresh()
        directory = tmp_path / str(at)
        prepare(directory)
        done = at >= first + names[first:].index("rename") + 2
        with files.watched(Failing(at + 1, 1000)):
            if done:
                save_one(directory)
            else:
                with pytest.raises(OSError, match="No space left") as caught:
                    save_one(directory)
        stays = names[at] == "sync" and names[at - 1] == "rename"
        if not done and stays:
            assert "is whole and stays in its place" in "".join(caught.value.__notes__)
        program = fresh()
        program.restore(tf.train.latest_checkpoint(str(directory)))
        # What has taken a name again cannot give it back on such a disk; it is whole.
        assert_same(program.state(), states[done or stays or how == "reused"])
        program.train(9, 9)
        wanted = program.state()
        program.step = 9
        save_one(directory)
        program = fresh()
        program.restore(tf.train.latest_checkpoint(str(directory)))
        assert_same(program.state(), wanted)


# --- File systems of TensorFlow's -----------------------------------------------------------------


@pytest.fixture(params=["ram", "file"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    directory = f"ram://mxrec/{tmp_path.name}"  # no brackets, which are patterns
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
    tf.io.gfile.makedirs(directory)
    return directory


def test_other_file_systems(elsewhere: str, tmp_path: Path) -> None:
    tf.io.gfile.makedirs(elsewhere)
    wanted = make_chain(Program(max_to_keep=1), elsewhere, 5, full=(1, 4))
    there = {name.rstrip("/") for name in tf.io.gfile.listdir(elsewhere)}
    assert {n for n in there if n.startswith("sparse")} == {"sparse-model-4", "sparse-model-5"}
    assert table_checkpoint.read_manifest(f"{elsewhere}/sparse-model-5").kind == "delta"
    path = tf.train.latest_checkpoint(elsewhere)
    assert path == f"{elsewhere}/model-5"
    for step in (5, 4):
        program = fresh()
        program.restore(f"{elsewhere}/model-{step}")
        assert_same(program.state(), wanted[step])
    written = mx.export(["user"], model_dir=elsewhere)
    assert tf.io.gfile.exists(written["user"])
    # A version without its manifest is incomplete, one with damage is an error.
    data = next(
        f"{elsewhere}/sparse-model-4/user/{name}"
        for name in tf.io.gfile.listdir(f"{elsewhere}/sparse-model-4/user")
        if name.startswith("data-")
    )
    content = bytearray(tf.io.gfile.GFile(data, "rb").read())
    content[len(content) // 2] ^= 1
    with tf.io.gfile.GFile(data, "wb") as file:
        file.write(bytes(content))
    program = fresh()
    with pytest.raises(
        mxrec.DataLossError, match=r"sparse-model-4.*has versions of the steps 4, 5"
    ):
        program.restore(path)
    tf.io.gfile.remove(f"{elsewhere}/sparse-model-4/checkpoint-manifest.json")
    with pytest.raises(FileNotFoundError, match="missing or incomplete"):
        program.restore(f"{elsewhere}/model-4")
    with pytest.raises(mxrec.DataLossError, match="sparse-model-5 cannot be restored"):
        program.restore(path)


def test_replacing_on_another_file_system(elsewhere: str) -> None:
    tf.io.gfile.makedirs(elsewhere)
    program = Program()
    for step in (1, 2):
        program.train(step, step)
        path = program.save(f"{elsewhere}/model")
    wanted = program.state()
    program = fresh()
    program.restore(path)
    assert_same(program.state(), wanted)
