"""init(use_hot=...): whether tables keep copies of their hot rows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx


def make():
    with tf.Graph().as_default():
        return mx.create_table(tf.int64, 4, "t", tf.compat.v1.zeros_initializer())


@pytest.mark.parametrize("use_hot", [True, False])
def test_tables_follow_init(start, use_hot):
    start(use_hot=use_hot, use_dynamic_expansion=True)
    engine = make().engine
    keys = np.arange(65_536) % 100
    for _ in range(12):
        engine.lookup(keys)
    stats = engine.stats()
    for name in ("hot_rows", "hot_hits", "bytes_hot"):
        assert (stats[name] > 0) is use_hot, name
    assert engine.use_hot is use_hot


def test_another_graph_gets_the_same_table(start):
    start(use_hot=False, use_dynamic_expansion=True)
    assert make().engine == make().engine
    start(use_dynamic_expansion=True)
    assert make().engine.use_hot is True
