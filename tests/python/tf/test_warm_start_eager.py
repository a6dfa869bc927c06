"""mxrec.warm_start without graphs, and from checkpoints that such programs write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from table_rows import rows_of
from warm_start_sources import DIM, make_table, make_variables, save

import mxrec
import mxrec.tf as mx


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    yield
    mx.terminate_config_initializer()


def start() -> None:
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)


def test_variables_and_tables_have_their_values_at_once(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    saved = save(
        tmp_path / "model.ckpt-1",
        {"user": np.arange(20), "item": np.arange(-5, 5)},
        {"w": [2, DIM], "b": [2]},
        rng,
    )
    start()
    user, item = make_table("user"), make_table("item")
    b = tf.Variable(np.zeros(2, np.float32), name="b")
    kernel = tf.Variable(np.zeros((2, DIM), np.float32), name="kernel")
    entries = mxrec.warm_start(None, saved.prefix)
    assert [entry.name for entry in entries] == ["user", "item"], "there are no collections"
    entries = mxrec.warm_start(None, saved.prefix, [b, kernel, user], None, {"kernel": "w"})
    assert [entry.name for entry in entries] == ["user", "b", "kernel"]
    np.testing.assert_array_equal(b.numpy(), saved.dense["b"])
    np.testing.assert_array_equal(kernel.numpy(), saved.dense["w"])

    @tf.function
    def read() -> Any:
        return mx.sparse_lookup(user, tf.constant([3, 77], tf.int64), is_train=False)

    row = np.frombuffer(saved.tables["user"][3][0], np.float32)
    np.testing.assert_array_equal(read(), [row, np.zeros(DIM)])
    assert rows_of(item.engine) == saved.tables["item"]


@pytest.mark.parametrize("eager", [False, True])
def test_an_object_based_checkpoint(tmp_path: Path, rng: np.random.Generator, eager: bool) -> None:
    w = tf.Variable(rng.normal(size=(2, DIM)).astype(np.float32), name="w")
    emb = tf.Variable(rng.normal(size=(5, DIM)).astype(np.float32), name="emb")
    prefix = tf.train.Checkpoint(w=w, emb=emb).write(str(tmp_path / "objects"))
    names = {"user": "emb/.ATTRIBUTES/VARIABLE_VALUE"}
    start()
    if eager:
        table = make_table("user")
        new = tf.Variable(np.zeros((2, DIM), np.float32), name="w")
        mxrec.warm_start(None, prefix, [new, table], None, names)
        found = new.numpy()
    else:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            table = make_table("user")
            variables = make_variables({"w": [2, DIM]}, rng)
            mxrec.warm_start(session, prefix, ".*", None, names)
            found = session.run(variables["w"])
    np.testing.assert_array_equal(found, w.numpy())
    np.testing.assert_array_equal(table.engine.lookup(np.arange(5), train=False), emb.numpy())
