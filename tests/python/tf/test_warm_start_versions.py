"""Warm starts from deltas, from versions that mxrec.save wrote, and from remote file systems."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from table_rows import Rows, rows_of
from warm_start_sources import DIM, bind, fill, make_table, make_variables

import mxrec
import mxrec.tf as mx
from mxrec.tf.log import logger


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    start()
    yield
    mx.terminate_config_initializer()


def start() -> None:
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)


def save_chain(prefix: str, rng: np.random.Generator) -> tuple[list[str], list[Rows], list[Any]]:
    """A full checkpoint and two deltas, with what table and variable were then."""
    paths, rows, values = [], [], []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table = make_table("user")
        bind(table, "Adagrad")
        (variable,) = make_variables({"b": [2]}, rng).values()
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        for step in range(3):
            fill(table, np.arange(10 * step, 10 * step + 15), rng)
            table.engine.erase(np.arange(10 * step, 10 * step + 3))
            variable.load(rng.normal(size=2).astype(np.float32), session)
            options = {"save_delta": True} if step else {"is_incremental_checkpoint": True}
            paths.append(str(saver.save(session, prefix, step, **options)))
            rows.append(rows_of(table.engine))
            values.append(session.run(variable))
    start()
    return paths, rows, values


@pytest.mark.parametrize("remote", [False, True])
def test_a_delta_is_what_its_chain_amounts_to(
    tmp_path: Path, rng: np.random.Generator, remote: bool
) -> None:
    directory = f"file://{tmp_path}/there" if remote else str(tmp_path)
    tf.io.gfile.makedirs(directory)
    paths, rows, values = save_chain(f"{directory}/model.ckpt", rng)
    for path, wanted, value in [*zip(paths, rows, values, strict=True), (directory, rows[2], 0)]:
        start()
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            table = make_table("user")
            (variable,) = make_variables({"b": [2]}, rng).values()
            session.run(tf.compat.v1.global_variables_initializer())
            entries = mxrec.warm_start(session, path)
            assert rows_of(table.engine) == wanted
            assert [entry.rows for entry in entries] == [len(wanted), 2]
            if path != directory:
                np.testing.assert_array_equal(session.run(variable), value)


def test_a_merge_keeps_rows_whose_keys_the_source_has_lost(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    paths, rows, _ = save_chain(str(tmp_path / "model.ckpt"), rng)
    with tf.Graph().as_default():
        table = make_table("user")
        bind(table, "Adagrad")
        fill(table, [0, 1, 21, 25, 99], rng)
        own = rows_of(table.engine)
        assert not {0, 1, 21, 99} & rows[2].keys()
        mxrec.warm_start(None, paths[2], "user", mode="merge")
    assert rows_of(table.engine) == own | rows[2]


def test_the_rows_of_a_superseded_delta_are_not_those_that_changed(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger.name)
    paths, rows, _ = save_chain(str(tmp_path / "model.ckpt"), rng)
    with tf.Graph().as_default():
        make_table("user")
        found = mxrec.warm_start(None, [paths[2], paths[0], paths[2]], "user")
    assert [entry.rows for entry in found] == [None, len(rows[0]), len(rows[2])]
    (report,) = (r.getMessage() for r in caplog.records if "Warm start:" in r.getMessage())
    assert report.splitlines()[2].split()[4:] == ["-", "kept", "superseded"]


def test_a_chain_with_a_gap_is_one_of_the_reasons(tmp_path: Path, rng: np.random.Generator) -> None:
    paths, _, _ = save_chain(str(tmp_path / "model.ckpt"), rng)
    shutil.rmtree(tmp_path / "sparse-model.ckpt-1")
    with tf.Graph().as_default():
        table = make_table("user")
        with pytest.raises(ValueError, match=r"cannot begin:\n- ckpt.*builds on step 1 in .*missi"):
            mxrec.warm_start(None, paths[2], "user")
        mxrec.warm_start(None, paths[0], "user")
    assert table.size() > 0


def test_a_chain_that_ends_with_more_rows_than_a_table_holds(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    paths, rows, _ = save_chain(str(tmp_path / "model.ckpt"), rng)
    mx.terminate_config_initializer()
    mx.init()
    with tf.Graph().as_default():
        table = make_table("user", device_vocabulary_size=len(rows[2]) - 1)
        with pytest.raises(mxrec.CapacityError, match="'user' is full"):
            mxrec.warm_start(None, paths[2], "user")
        assert table.size() == 0


def test_versions_of_the_numpy_level(tmp_path: Path, rng: np.random.Generator) -> None:
    with mxrec.Table("user", DIM, optimizer=mxrec.Adagrad(0.1)) as source:
        for step in range(2):
            keys = np.arange(5 * step, 5 * step + 8)
            source.assign(keys, rng.normal(size=(8, DIM)).astype(np.float32))
            saved = mxrec.save(source, tmp_path, step=step, delta=step > 0)
        wanted = rows_of(source._engine)
    for path in (tmp_path, saved.path):
        start()
        with tf.Graph().as_default():
            table = make_table("user")
            mxrec.warm_start(None, path, "user")
            assert rows_of(table.engine) == wanted
