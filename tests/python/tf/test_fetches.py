"""Tensors that sessions fetch and feed in the place of others."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mxrec.tf import first_run
from mxrec.tf.fetches import resolve, substitute

v1 = tf.compat.v1


def test_fetches_and_feeds_of_every_structure():
    with tf.Graph().as_default() as graph, v1.Session() as session:
        old, new, other = (
            tf.constant(value, name=name) for value, name in ((1, "a"), (2, "b"), (3, "c"))
        )
        double = new * 2
        substitute(graph, old, new)
        assert session.run(old) == 2
        assert session.run({"x": (old, [other, old])}) == {"x": (2, [3, 2])}
        assert session.run([double, old], {old: 5}) == [10, 5]
        assert session.run(other, {other: 7}) == 7
        assert session.run("a:0") == 1  # a name is what it says
        substitute(graph, new, other)
        assert resolve(old) is other and session.run([old, new]) == [3, 3]
        substitute(graph, other, other)
        assert session.run(old) == 3


def test_other_graphs_and_other_kinds_of_fetches_stay():
    with tf.Graph().as_default() as graph:
        substitute(graph, tf.constant(1), tf.constant(2))
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.int64, [None])
        sparse = tf.sparse.from_dense(x)
        nothing = tf.no_op()
        values = session.run([x, sparse, nothing, x.op.name + ":0"], {x: [0, 4]})
        np.testing.assert_array_equal(values[1].values, [4])
        np.testing.assert_array_equal(values[3], [0, 4])
        assert values[2] is None
        with pytest.raises((TypeError, RuntimeError, ValueError)):
            session.run(tf.Graph().as_default)


@pytest.mark.parametrize("way", ["run", "callable"])
def test_the_first_run_is_noted(way):
    with tf.Graph().as_default() as graph:
        first_run.check_not_run(graph, "f")
        with v1.Session() as session:
            first_run.check_not_run(graph, "f")
            x = tf.constant(1)
            session.make_callable(x)() if way == "callable" else session.run(x)
        with pytest.raises(RuntimeError, match=r"^f must be called before the first run"):
            first_run.check_not_run(graph, "f")
    first_run.check_not_run(tf.Graph(), "f")
