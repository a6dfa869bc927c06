"""Saving and loading through the public table."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from contents import assert_identical, contents

import mxrec
from mxrec import _mxrec


def filled(rng, optimizer=None, **options):
    table = mxrec.Table(
        "users", 6, optimizer=optimizer, initializer=mxrec.Normal(0.1, 0.3), seed=11, **options
    )
    for _ in range(4):
        keys = rng.integers(-(2**62), 2**62, 2000)
        table.lookup(keys)
        if optimizer is not None:
            table.apply_gradients(keys, rng.normal(size=(2000, 6)).astype(np.float32))
    return table


@pytest.mark.parametrize(
    "optimizer",
    [
        None,
        mxrec.SGD(0.03, 0.01),
        mxrec.Momentum(0.03, 0.7, use_nesterov=True),
        mxrec.Adagrad(0.03, 0.2),
        mxrec.Ftrl(0.03, l1_regularization_strength=0.001),
        mxrec.LazyAdam(0.003, 0.8, 0.95, 1e-7),
    ],
    ids=repr,
)
def test_load_restores_everything(optimizer, rng, tmp_path):
    table = filled(rng, optimizer, memory_rows=100_000, num_shards=4)
    table.save(tmp_path / "saved")
    for num_shards in (None, 1, 64):
        loaded = mxrec.Table.load(tmp_path / "saved", num_shards=num_shards)
        assert loaded.name == "users" and loaded.dim == 6 and loaded.seed == 11
        assert loaded.memory_rows == 100_000
        assert loaded.optimizer == optimizer and loaded.initializer == table.initializer
        assert_identical(table, loaded)
        if num_shards is not None:
            assert loaded.num_shards == num_shards
    # Both go on alike: Adam's powers and the seed are restored, too.
    keys = rng.integers(0, 100, 300)
    np.testing.assert_array_equal(table.lookup(keys), loaded.lookup(keys))
    if optimizer is not None:
        grads = rng.normal(size=(300, 6)).astype(np.float32)
        table.apply_gradients(keys, grads)
        loaded.apply_gradients(keys, grads)
    assert_identical(table, loaded)


def test_load_in_a_new_process(rng, tmp_path):
    table = filled(rng, mxrec.Adagrad())
    table.save(tmp_path / "saved")
    code = (
        "import sys, mxrec, hashlib, numpy as np\n"
        "t = mxrec.Table.load(sys.argv[1])\n"
        "k = np.sort(t.keys())\n"
        "print(hashlib.sha256(k.tobytes() + t.lookup(k, train=False).tobytes()).hexdigest())"
    )
    import hashlib

    keys = np.sort(table.keys())
    expected = hashlib.sha256(keys.tobytes() + table.lookup(keys, train=False).tobytes())
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected.hexdigest()


def test_save_replaces_and_empty_tables(rng, tmp_path):
    table = mxrec.Table("t", 3)
    table.save(str(tmp_path / "saved"))
    assert len(mxrec.Table.load(tmp_path / "saved")) == 0
    table.lookup(np.arange(10))
    table.save(tmp_path / "saved")
    assert_identical(table, mxrec.Table.load(tmp_path / "saved"))
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mxrec.Table.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="num_shards"):
        mxrec.Table.load(tmp_path / "nowhere", num_shards=0)


def test_no_parent_to_save_in(tmp_path):
    with pytest.raises(OSError, match="no/parent"):
        mxrec.Table("t", 3).save(tmp_path / "no" / "parent" / "saved")


def test_damaged_and_truncated_files(rng, tmp_path):
    table = filled(rng, mxrec.Adagrad())
    table.save(tmp_path / "saved")
    other = mxrec.Table("other", 6, optimizer=mxrec.Adagrad())
    other.lookup(np.arange(7))
    before = contents(other)
    files = sorted(path for path in Path(tmp_path / "saved").rglob("*") if path.is_file())
    assert files
    for path in files:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 0x10
        for content in (bytes(damaged), whole[:-1], whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(mxrec.DataLossError, match=path.name) as caught:
                mxrec.Table.load(tmp_path / "saved")
            assert isinstance(caught.value, OSError)
            with pytest.raises(mxrec.DataLossError):
                other._engine.restore(str(tmp_path / "saved"))
        path.write_bytes(whole)
    for x, y in zip(before, contents(other), strict=True):
        np.testing.assert_array_equal(x, y)
    assert_identical(table, mxrec.Table.load(tmp_path / "saved"))


def test_checkpoint_info(rng, tmp_path):
    table = filled(rng, mxrec.LazyAdam())
    saved = table._engine.save(str(tmp_path / "saved"), step=77)
    info = _mxrec.read_checkpoint_info(str(tmp_path / "saved"))
    assert info == saved
    assert info["step"] == 77 and info["rows"] == len(table) and info["optimizer_step"] == 4
    assert len(info["uid"]) == 32 and info["name"] == "users" and info["memory_rows"] is None
    assert info["optimizer"] == mxrec.LazyAdam().to_options()


def test_close_waits_for_a_save(rng, tmp_path):
    table = mxrec.Table("t", 64)
    keys = np.arange(300_000)
    rows = table.lookup(keys)
    for attempt in range(5):
        path = tmp_path / f"save-{attempt}"
        saver = threading.Thread(target=table.save, args=(path,))
        saver.start()
        while saver.is_alive() and not any(tmp_path.glob(f"{path.name}.tmp-*/data-*")):
            pass
        began = saver.is_alive()
        if began:
            table.close()
            assert path.is_dir(), "close() returned while the save was being written"
        saver.join()
        loaded = mxrec.Table.load(path)
        np.testing.assert_array_equal(loaded.lookup(keys, train=False), rows)
        if began:
            return
    pytest.fail("no save was caught while it was being written")
