"""Saver.save and Saver.restore cover the tables of the session's graph."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoint_program
import numpy as np
import pytest
import tensorflow as tf
from checkpoint_program import Program

import mxrec
import mxrec.tf as mx
from mx_rec.saver.sparse import export
from mx_rec.util.initialize import terminate_config_initializer
from mxrec.tf import table_checkpoint


@pytest.fixture
def library() -> Iterator[None]:
    checkpoint_program.start()
    yield
    terminate_config_initializer()


def assert_same(found: Any, wanted: Any) -> None:
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def save(program: Program, directory: Path) -> str:
    path = program.save(str(directory / "model"), global_step=program.step)
    assert isinstance(path, str)
    return path


def damage(table_directory: str | Path) -> Path:
    """Flips a byte in the middle of the largest file."""
    path = max(Path(table_directory).rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


def entries(directory: Path) -> set[str]:
    return {p.name for p in directory.iterdir()}


# --- What comes back ------------------------------------------------------------------------------


def test_training_goes_on_bit_identically_in_a_new_process(tmp_path: Path) -> None:
    for phase in ("first", "second"):
        subprocess.run(
            [sys.executable, checkpoint_program.__file__, str(tmp_path), phase],
            check=True,
            timeout=180,
        )
    with np.load(tmp_path / "saved.npz") as saved, np.load(tmp_path / "restored.npz") as restored:
        assert len(saved["user/keys"]) and saved["user/slots"].any()
        assert saved["user/optimizer_step"] == checkpoint_program.SAVED_STEP
        assert_same(restored, saved)
    with np.load(tmp_path / "first.npz") as first, np.load(tmp_path / "second.npz") as second:
        assert first["user/optimizer_step"] == checkpoint_program.LAST_STEP
        assert_same(second, first)


@pytest.mark.usefixtures("library")
def test_restore_replaces_later_state(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 2)
    path = save(program, tmp_path)
    wanted = program.state()
    program.train(3, 5)
    program.restore(path)
    assert_same(program.state(), wanted)


@pytest.mark.usefixtures("library")
def test_another_graph_on_the_same_tables_restores_slots(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 3)
    path = save(program, tmp_path)
    wanted = program.state()
    checkpoint_program.start()
    again = Program()
    again.restore(path)
    assert_same(again.state(), wanted)


@pytest.mark.parametrize("shards", [1, 4, 64])
def test_restores_to_other_shard_counts(tmp_path: Path, shards: int) -> None:
    class Held:
        table_name = "t"

        def __init__(self, num_shards: int):
            optimizer = mxrec._mxrec.OptimizerOptions("LazyAdam")
            self.engine = mxrec._mxrec.Table("t", 3, num_shards=num_shards, optimizer=optimizer)

    source, target = Held(2), Held(shards)
    keys = np.arange(1000, dtype=np.int64)
    source.engine.lookup(keys)
    source.engine.apply_gradients(keys, np.ones((1000, 3), np.float32))
    directory = mxrec.tf.save_tables(str(tmp_path / "m"), 7, [source])
    assert directory == str(tmp_path / "sparse-m")
    target.engine.lookup(keys + 500)
    assert mxrec.tf.restore_tables(str(tmp_path / "m"), [target]) == 7
    assert_same(
        checkpoint_program.rows_of(target.engine), checkpoint_program.rows_of(source.engine)
    )


@pytest.mark.usefixtures("library")
def test_unchanged_tables_are_not_read(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 2)
    path = save(program, tmp_path)
    wanted = program.state()
    damage(tmp_path / "sparse-model-2" / "user")
    program.restore(path)
    assert_same(program.state(), wanted)
    program.train(3, 3)
    changed = program.state()
    with pytest.raises(mxrec.DataLossError):
        program.restore(path)
    assert_same(program.state(), changed)


# --- Layout, old checkpoints ----------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_layout_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    program.train(1, 2)
    assert save(program, tmp_path) == str(tmp_path / "model-2")
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model-2")
    sparse = [name for name in entries(tmp_path) if name.startswith("sparse")]
    assert sparse == ["sparse-model-2"]
    manifest = table_checkpoint.read_manifest(str(tmp_path / "sparse-model-2"))
    assert (manifest.step, manifest.dense_step) == (2, 2)
    assert set(manifest.tables) == {"user", "item"}
    for name in ("user", "item"):
        info = mxrec._mxrec.read_checkpoint_info(str(tmp_path / "sparse-model-2" / name))
        assert info["step"] == 2
    monkeypatch.chdir(tmp_path)
    program.train(3, 3)
    assert program.save("relative", global_step=41) == "relative-41"
    assert table_checkpoint.read_manifest("sparse-relative-41").step == 41
    wanted = program.state()
    program.train(4, 4)
    program.restore("./relative-41")
    assert_same(program.state(), wanted)


@pytest.mark.usefixtures("library")
def test_max_to_keep_removes_tables_too(tmp_path: Path) -> None:
    program = Program(max_to_keep=2)
    for step in range(1, 5):
        program.train(step, step)
        save(program, tmp_path)
    names = entries(tmp_path)
    assert {n for n in names if n.startswith("sparse")} == {"sparse-model-3", "sparse-model-4"}
    assert {n for n in names if n.endswith(".index")} == {"model-3.index", "model-4.index"}


@pytest.mark.usefixtures("library")
def test_checkpoints_kept_by_the_hour_keep_their_tables(tmp_path: Path) -> None:
    program = Program()
    with program.graph.as_default():
        saver = tf.compat.v1.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1e-9)
    for step in (1, 2):
        program.train(step, step)
        program.save(tmp_path / "model", saver, global_step=program.step)
    assert {"model-1.index", "sparse-model-1", "sparse-model-2"} <= entries(tmp_path)


@pytest.mark.usefixtures("library")
def test_saving_under_the_same_name_replaces(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    path = program.save(str(tmp_path / "model"))
    program.train(2, 3)
    assert program.save(str(tmp_path / "model")) == path
    wanted = program.state()
    program.train(4, 4)
    program.restore(path)
    assert_same(program.state(), wanted)
    assert {n for n in entries(tmp_path) if n.startswith("sparse")} == {"sparse-model"}


# --- Failures -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_a_failed_dense_save_leaves_no_tables(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    with pytest.raises(ValueError, match="latest_filename"):
        program.save(str(tmp_path / "model"), latest_filename="a/b")
    assert not entries(tmp_path)
    path = program.save(str(tmp_path / "model"))
    wanted = program.state()
    program.train(2, 2)
    with pytest.raises(ValueError, match="latest_filename"):
        program.save(str(tmp_path / "model"), latest_filename="a/b")
    program.restore(path)
    assert_same(program.state(), wanted)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["user", "item"])
def test_damage_changes_neither_tables_nor_variables(tmp_path: Path, name: str) -> None:
    program = Program()
    program.train(1, 2)
    path = save(program, tmp_path)
    program.train(3, 4)
    wanted = program.state()
    damaged = damage(tmp_path / "sparse-model-2" / name)
    with pytest.raises(mxrec.DataLossError, match=damaged.name):
        program.restore(path)
    assert_same(program.state(), wanted)
    assert not [n for n in entries(tmp_path) if ".tmp-" in n]


@pytest.mark.usefixtures("library")
def test_a_failed_dense_restore_puts_the_tables_back(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 2)
    path = save(program, tmp_path)
    program.train(3, 4)
    wanted = program.state()
    with program.graph.as_default():
        extra = tf.compat.v1.get_variable("not_in_the_checkpoint", [], dtype=tf.float32)
        saver = tf.compat.v1.train.Saver([extra])
    with pytest.raises(tf.errors.NotFoundError, match="not_in_the_checkpoint"):
        program.restore(path, saver)
    assert_same(program.state(), wanted)


@pytest.mark.usefixtures("library")
def test_a_checkpoint_without_the_tables_is_refused(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("dense", [checkpoint_program.DIM])
        session.run(variable.initializer)
        path = tf.compat.v1.train.Saver().save(session, str(tmp_path / "plain"))
    assert not [n for n in entries(tmp_path) if n.startswith("sparse")]
    program = Program()
    program.train(1, 1)
    wanted = program.state()
    with pytest.raises(FileNotFoundError, match=r"sparse-plain.*'user', 'item'.*is_save=False"):
        program.restore(path)
    assert_same(program.state(), wanted)
    with pytest.raises(ValueError, match="not a valid checkpoint"):
        program.restore(str(tmp_path / "nothing"))


@pytest.mark.usefixtures("library")
def test_a_missing_table_is_named(tmp_path: Path) -> None:
    program = Program(table_names=("user",))
    program.train(1, 1)
    path = save(program, tmp_path)
    checkpoint_program.start()
    larger = Program(table_names=("user", "shop"))
    with pytest.raises(FileNotFoundError, match="no table 'shop'"):
        larger.restore(path)


@pytest.mark.usefixtures("library")
def test_halves_of_different_steps_are_refused(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    path = save(program, tmp_path)
    program.train(2, 2)
    save(program, tmp_path)
    (tmp_path / "sparse-model-1").rename(tmp_path / "old")
    (tmp_path / "sparse-model-2").rename(tmp_path / "sparse-model-1")
    with pytest.raises(ValueError, match=r"variables are of step 1.*of step 2"):
        program.restore(path)


@pytest.mark.usefixtures("library")
def test_a_crash_between_the_halves_of_a_replacing_save(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 1)
    path = program.save(str(tmp_path / "model"))
    wanted = program.state()
    program.train(2, 2)
    program.save(str(tmp_path / "later" / "model"))
    # What the crash leaves: the old tables set aside, the new ones in place, the dense half old.
    (tmp_path / "sparse-model").rename(tmp_path / "sparse-model.old-host-1")
    shutil.copytree(tmp_path / "later" / "sparse-model", tmp_path / "sparse-model")
    (tmp_path / "sparse-model.tmp-host-2").mkdir()
    program.restore(path)
    assert_same(program.state(), wanted)
    program.train(3, 3)
    program.save(str(tmp_path / "model"))
    assert [n for n in entries(tmp_path) if n.startswith("sparse")] == ["sparse-model"]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("parameter", ["is_incremental_checkpoint", "save_delta"])
def test_the_parameters_of_deltas_are_checked(tmp_path: Path, parameter: str) -> None:
    program = Program()
    assert parameter in inspect.signature(program.saver.save).parameters
    with pytest.raises(TypeError, match=f"{parameter} must be a bool"):
        program.save(str(tmp_path / "m"), **{parameter: 1})
    assert not entries(tmp_path)


# --- Without variables ----------------------------------------------------------------------------


def only_tables(seed: int) -> Any:
    table = mx.create_table(tf.int64, 2, "alone", tf.random_normal_initializer(seed=seed))
    return table, mx.sparse_lookup(table, tf.constant([1, 2, 3], tf.int64))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kwargs", [{}, {"sharded": True, "allow_empty": True, "max_to_keep": 1}])
def test_a_graph_of_tables_only(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table, rows = only_tables(1)
        wanted = session.run(rows)
        saver = tf.compat.v1.train.Saver(**kwargs)
        for step in (1, 2):
            path = saver.save(session, str(tmp_path / "m"), global_step=step)
            assert path == tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / f"m-{step}")
        assert (tmp_path / "sparse-m-2" / "alone").is_dir()
        assert (tmp_path / "sparse-m-1").exists() == (not kwargs)
        table.engine.assign(np.array([1, 2, 3]), np.zeros((3, 2), np.float32))
        saver.restore(session, path)
        np.testing.assert_array_equal(session.run(rows), wanted)


@pytest.mark.usefixtures("library")
def test_a_graph_of_tables_only_restores_a_checkpoint_with_variables(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table, rows = only_tables(1)
        tf.compat.v1.get_variable("dense", [2])
        session.run(tf.compat.v1.global_variables_initializer())
        wanted = session.run(rows)
        path = tf.compat.v1.train.Saver().save(session, str(tmp_path / "m"))
    table.engine.assign(np.array([1, 2, 3]), np.zeros((3, 2), np.float32))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        _, rows = only_tables(1)
        tf.compat.v1.train.Saver().restore(session, path)
        np.testing.assert_array_equal(session.run(rows), wanted)


def test_a_graph_of_nothing_is_refused_as_ever() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match="No variables to save"):
        tf.compat.v1.train.Saver()


# --- Without a Saver ------------------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_save_tables_and_restore_tables(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 2)
    mxrec.tf.save_tables(tmp_path / "eager", step=9)
    wanted = program.state()
    program.train(3, 3)
    assert mxrec.tf.restore_tables(tmp_path / "eager") == 9
    found = program.state()
    del found["dense"], wanted["dense"]
    assert_same(found, wanted)
    with pytest.raises(ValueError, match="step"):
        mxrec.tf.save_tables(tmp_path / "eager", step=-1)
    terminate_config_initializer()
    with pytest.raises(ValueError, match="no table"):
        mxrec.tf.save_tables(tmp_path / "eager")


@pytest.mark.usefixtures("library")
def test_export(tmp_path: Path) -> None:
    program = Program()
    program.train(1, 2)
    save(program, tmp_path)
    written = export(table_list=["item"])
    assert written == {"item": str(tmp_path / "item.npz")}
    written = export()
    assert set(written) == {"user", "item"}
    wanted = program.state()
    with np.load(written["user"]) as archive:
        assert archive["keys"].dtype == np.int64 and archive["values"].dtype == np.float32
        order = np.argsort(archive["keys"])
        np.testing.assert_array_equal(archive["keys"][order], wanted["user/keys"])
        np.testing.assert_array_equal(archive["values"][order], wanted["user/values"])
    with pytest.raises(FileNotFoundError, match="shop"):
        export(table_list=["shop"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        export(model_dir=tmp_path / "empty")


@pytest.mark.usefixtures("library")
def test_paths_that_are_no_prefix_say_which_is(tmp_path: Path) -> None:
    program = Program()
    program.train(2, 1)
    prefix = program.save(str(tmp_path / "model"), global_step=7)
    for path, text in {
        str(tmp_path): f"is a directory, .* the newest there is '{prefix}'",
        f"{prefix}.index": f"is one file of a checkpoint; .* path prefix, '{prefix}'",
        str(tmp_path / "sparse-model-7"): f"the tables of a checkpoint; .* path prefix, '{prefix}'",
    }.items():
        with pytest.raises(FileNotFoundError, match=re.escape(path) + " .*" + text):
            program.restore(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"tf\.train\.latest_checkpoint"):
        program.restore(str(tmp_path / "empty"))
