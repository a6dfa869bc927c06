"""Restoring checkpoints whose tables another program has written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mxrec
import mxrec.tf as mx

v1 = tf.compat.v1


@pytest.fixture
def foreign(tmp_path: Path) -> str:
    """Prefix of a checkpoint of TensorFlow, with tables beside it as the original writes them."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", initializer=1.0)
        session.run(v1.global_variables_initializer())
        prefix: str = v1.train.Saver().save(session, str(tmp_path / "model"), global_step=7)
    (tmp_path / "sparse-model-7" / "user").mkdir(parents=True)
    (tmp_path / "sparse-model-7" / "user" / "slice_0.data").write_bytes(b"rows")
    return prefix


def check(error: Exception, prefix: str) -> None:
    message = str(error)
    directory = os.path.join(os.path.dirname(prefix), "sparse-model-7")
    wanted = (prefix, f"{directory} was not written by mxrec", "no checkpoint-manifest.json")
    more = ("what is there is 'user'", "original mxRec", "assign()")
    assert not [text for text in (*wanted, *more) if text not in message], message
    assert "incomplete" not in message


def test_saver(start: Any, foreign: str) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = mx.create_table(tf.int64, 2, "user", v1.ones_initializer())
        weight = v1.get_variable("w", initializer=2.0)
        session.run([v1.global_variables_initializer(), mx.sparse_lookup(table, [5])])
        with pytest.raises(FileNotFoundError) as caught:
            v1.train.Saver().restore(session, foreign)
        check(caught.value, foreign)
        assert table.size() == 1 and session.run(weight) == 2.0


def test_restore_tables(start: Any, foreign: str) -> None:
    start()
    table = mx.create_table(tf.int64, 2, "user", v1.ones_initializer())
    with pytest.raises(FileNotFoundError) as caught:
        mx.restore_tables(foreign)
    check(caught.value, foreign)
    assert table.size() == 0


def test_remote(start: Any, foreign: str) -> None:
    """Of a file system that TensorFlow knows: ``file://`` stands for the others."""
    start()
    mx.create_table(tf.int64, 2, "user", v1.ones_initializer())
    with pytest.raises(FileNotFoundError) as caught:
        mx.restore_tables("file://" + foreign)
    check(caught.value, "file://" + foreign)


def test_warm_start(start: Any, foreign: str) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = mx.create_table(tf.int64, 2, "user", v1.ones_initializer())
        with pytest.raises(ValueError, match="cannot begin") as caught:
            mxrec.warm_start(session, foreign, "user")
        check(caught.value, foreign)
        assert table.size() == 0


def test_dense_variables_of_a_foreign_checkpoint_load(start: Any, foreign: str) -> None:
    """What the first message of a missing half advises."""
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        mx.create_table(tf.int64, 2, "user", v1.ones_initializer())
        weight = v1.get_variable("w", initializer=2.0)
        v1.train.init_from_checkpoint(foreign, {"w": "w"})
        session.run(v1.global_variables_initializer())
        np.testing.assert_equal(session.run(weight), 1.0)
