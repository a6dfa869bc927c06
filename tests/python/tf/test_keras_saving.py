"""Tables in the weights files of Keras, in tf.train.Checkpoint, and formats that are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents

import mxrec.tf as mx
from mxrec.tf.keras import saving

K = tf.keras
IS_KERAS_3 = hasattr(K, "Operation")


def model(optimizer: str = "adagrad", dim: int = 4, **options: Any) -> Any:
    """Two tables, one in two layers."""
    ids = K.Input((3,), dtype="int64")
    parts = [
        mx.Embedding("user", dim, optimizer=optimizer, **options)(ids),
        mx.Embedding("user", layer_name="again")(ids),
        mx.Embedding("item", dim, optimizer=optimizer, **options)(ids),
    ]
    both = K.layers.Concatenate()(parts)
    made = K.Model(ids, K.layers.Dense(1)(K.layers.Flatten()(both)))
    made.compile("adam", "mse")
    return made


def data(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 50, (32, 3)), rng.normal(size=(32, 1)).astype("f")


def train(made: Any, seed: int) -> list[float]:
    ids, y = data(seed)
    losses: list[float] = made.fit(ids, y, batch_size=8, verbose=0, shuffle=False).history["loss"]
    return losses


def state(made: Any) -> list[bytes]:
    """Rows, slots and counts of the tables, and the dense weights."""
    tables = [column for table in saving.tables_of_model(made) for column in contents(table)]
    return [np.asarray(each).tobytes() for each in (*tables, *made.layers[-1].get_weights())]


def anew(**options: Any) -> Any:
    mx.terminate_config_initializer()
    K.backend.clear_session()
    mx.init()
    return model(**options)


FORMATS = ["w.weights.h5"] if IS_KERAS_3 else ["w.weights.h5", "w"]


@pytest.mark.parametrize("name", FORMATS)
def test_weights_hold_the_tables(start, seed, tmp_path, name):
    start()
    made = model()
    train(made, seed)
    saved = state(made)
    made.save_weights(str(tmp_path / name))
    train(made, seed + 1)
    assert state(made) != saved
    made.load_weights(str(tmp_path / name))
    assert state(made) == saved
    step = made.layers[1].table.stats()["optimizer_step"]
    other = anew()
    assert other.layers[1].table.size() == 0
    other.load_weights(str(tmp_path / name))
    assert state(other) == saved
    assert other.layers[1].table.stats()["optimizer_step"] == step


def test_models_are_saved_whole(start, seed, tmp_path):
    start()
    made = model(optimizer="lazy_adam")
    train(made, seed)
    saved = state(made)
    made.save(str(tmp_path / "m.keras"))
    wanted = train(made, seed + 1)
    mx.terminate_config_initializer()
    K.backend.clear_session()
    mx.init()
    loaded = K.models.load_model(str(tmp_path / "m.keras"))
    assert state(loaded) == saved
    assert train(loaded, seed + 1) == wanted  # the dense optimizer's state is there, too


def test_checkpoints_hold_the_tables(start, seed, tmp_path):
    start()
    made = model()
    checkpoint = tf.train.Checkpoint(model=made, optimizer=made.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    states = []
    for number in range(3):
        train(made, seed + number)
        states.append(state(made))
        path = manager.save()
    assert {each.name for each in tmp_path.glob("sparse-*")} == {"sparse-ckpt-2", "sparse-ckpt-3"}
    wanted = train(made, seed)
    checkpoint.restore(manager.checkpoints[0])
    assert state(made) == states[1]
    other = anew()
    checkpoint = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
    checkpoint.restore(path)
    assert state(other) == states[2]
    assert train(other, seed) == wanted


def test_a_checkpoint_appears_whole_or_not_at_all(start, seed, tmp_path, monkeypatch):
    start()
    made = model()
    train(made, seed)
    checkpoint = tf.train.Checkpoint(model=made)
    prefix = str(tmp_path / "c")
    checkpoint.write(prefix)
    saved = state(made)
    train(made, seed)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint._saver, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.write(prefix)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.write(str(tmp_path / "d"))
    assert {each.name for each in tmp_path.glob("sparse-*")} == {"sparse-c"}
    now = state(made)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint._saver, "restore", fail)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.read(prefix)
    assert state(made) == now
    checkpoint.read(prefix)
    assert state(made) == saved
    os.rename(tmp_path / "sparse-c", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="sparse-c is missing"):
        checkpoint.read(prefix)


def test_checkpoints_without_tables_are_as_ever(start, tmp_path):
    start()
    mx.Embedding("t", 2)
    checkpoint = tf.train.Checkpoint(v=tf.Variable(1.0))
    path = checkpoint.write(str(tmp_path / "c"))
    checkpoint.read(path).assert_consumed()
    assert not list(tmp_path.glob("sparse-*"))


def test_tables_that_are_not_saved(start, seed, tmp_path):
    start()
    made = model(is_save=False)
    train(made, seed)
    made.save_weights(str(tmp_path / "w.weights.h5"))
    rows = contents(made.layers[1].table)
    made.load_weights(str(tmp_path / "w.weights.h5"))
    np.testing.assert_array_equal(contents(made.layers[1].table)[0], rows[0])
    other = anew()
    with pytest.raises(ValueError, match="has no rows of table 'user'"):
        other.load_weights(str(tmp_path / "w.weights.h5"))


def damaged(path: Path) -> None:
    """Changes a byte of the last table in a weights file."""
    import h5py

    with h5py.File(path, "r+") as file:
        found: list[Any] = []
        file.visititems(
            lambda name, each: found.append(each) if "data-00000.000000" in name else None
        )
        assert len(found) == 3
        part = found[-1]
        content = part[...]
        content[len(content) // 2] ^= 1
        part[...] = content


def test_a_damaged_file_changes_no_table(start, seed, tmp_path):
    start()
    made = model()
    train(made, seed)
    path = tmp_path / "w.weights.h5"
    made.save_weights(str(path))
    damaged(path)
    train(made, seed)
    before = [contents(table) for table in saving.tables_of_model(made)]
    with pytest.raises((OSError, ValueError), match=r"checksum|damaged|data-00000"):
        made.load_weights(str(path))
    for table, wanted in zip(saving.tables_of_model(made), before, strict=True):
        for mine, theirs in zip(contents(table), wanted, strict=True):
            assert mine.tobytes() == theirs.tobytes()


def test_other_tables_are_refused(start, seed, tmp_path):
    start()
    made = model()
    train(made, seed)
    path = str(tmp_path / "w.weights.h5")
    made.save_weights(path)
    with pytest.raises((RuntimeError, ValueError), match="optimizer"):
        anew(optimizer="lazy_adam").load_weights(path)
    with pytest.raises(
        ValueError, match=r"dim 8, but the checkpoint .*w\.weights\.h5, table 'user'"
    ):
        anew(dim=8).load_weights(path)


def test_formats_that_lose_tables_are_refused(start, tmp_path):
    start()
    made = model()
    old = str(tmp_path / "x.h5")
    calls = [
        (lambda: made.save(old), r"'user', 'item'.*\.keras"),
        (lambda: made.export(str(tmp_path / "e")), "export_saved_model"),
        (lambda: tf.saved_model.save(made, str(tmp_path / "s")), "'user'.*export_saved_model"),
        (lambda: made.load_weights(old), r"\.weights\.h5"),
    ]
    if not IS_KERAS_3:
        calls += [
            (lambda: made.save_weights(old), r"\.weights\.h5"),
            (lambda: made.save_weights(str(tmp_path / "x"), save_format="h5"), r"\.weights\.h5"),
            (lambda: made.save(str(tmp_path / "s")), "export_saved_model"),
            (lambda: made.save(str(tmp_path / "s"), save_format="tf"), "export_saved_model"),
        ]
    for call, text in calls:
        with pytest.raises(ValueError, match=text):
            call()
    assert not list(tmp_path.iterdir())
    plain = K.Sequential([K.Input((2,)), K.layers.Dense(1)])
    plain.save(old)


def test_callbacks_save_and_restore(start, seed, tmp_path):
    start()
    made = model()
    ids, y = data(seed)
    best = str(tmp_path / "{epoch}.weights.h5")
    callbacks = [
        K.callbacks.ModelCheckpoint(best, save_weights_only=True),
        K.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False),
    ]
    made.fit(ids, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    saved = state(made)
    other = anew()
    other.load_weights(best.format(epoch=2))
    assert state(other) == saved
    third = anew()
    again = K.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    third.fit(ids, y, batch_size=8, epochs=2, verbose=0, callbacks=[again])  # both epochs are done
    assert state(third) == saved
