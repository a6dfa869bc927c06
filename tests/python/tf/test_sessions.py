"""Whether a session has run a graph."""

from __future__ import annotations

import pytest
import tensorflow as tf

from mxrec.tf import sessions

v1 = tf.compat.v1


@pytest.mark.parametrize("way", ["run", "callable"])
def test_the_first_run_is_noted(way):
    with tf.Graph().as_default() as graph:
        sessions.check_not_run(graph, "f")
        with v1.Session() as session:
            sessions.check_not_run(graph, "f")
            x = tf.constant(1)
            session.make_callable(x)() if way == "callable" else session.run(x)
        with pytest.raises(RuntimeError, match=r"^f must be called before the first run"):
            sessions.check_not_run(graph, "f")
    sessions.check_not_run(tf.Graph(), "f")
