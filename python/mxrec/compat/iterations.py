"""``npu_bridge.estimator.npu.util``: several training steps in one ``Session.run``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from mxrec.tf.sessions import base_session
from mxrec.tf.validation import INT32_MAX, check_int

__all__ = [
    "IterationPerLoop",
    "npu_compile",
    "set_graph_exec_config",
    "set_iteration_per_loop",
    "variable_initializer_in_host",
]

_LOOPS = "_mxrec_iterations_per_loop"  # of a graph: the number of iterations, by name of the op
_INSTALLED = "_mxrec_runs_loops"


def set_iteration_per_loop(sess: Any, train_op: Any, iterations_per_loop: int = 1) -> Any:
    """Returns an op that trains so many steps each time that a Session runs it.

    What is fetched beside it is computed in the last of the steps. Feeds are the same in all.

    Args:
        sess: the Session; the op works in every Session of its graph.
        train_op: the op of one step.
        iterations_per_loop: steps, [1, 2^31 - 1].

    Raises:
        TypeError: ``train_op`` is no op, or ``iterations_per_loop`` no int.
        ValueError: ``iterations_per_loop`` is out of its range.
    """
    del sess
    loop = IterationPerLoop()
    op = loop.create_iteration_per_loop_var(train_op)
    loop.load_iteration_per_loop_var(None, iterations_per_loop)
    return op


class IterationPerLoop:
    """The same in two calls: the op first, the number of steps once there is a Session."""

    def __init__(self) -> None:
        self._op: Any = None

    def create_iteration_per_loop_var(self, train_op: Any) -> Any:
        """Returns the op that trains several steps.

        Args:
            train_op: the op of one step.

        Raises:
            TypeError: it is no op.
        """
        if not isinstance(train_op, tf.Operation):
            raise TypeError(
                f"train_op must be a tf.Operation, such as tf.group(...) returns, got {train_op!r} "
                f"({type(train_op).__name__})."
            )
        _install()
        with train_op.graph.as_default(), tf.control_dependencies(None):
            self._op = tf.no_op(name="IterationOp")
        # Not tf.group: it marks train_op, about which TensorFlow complains once a Session has run.
        self._op._add_control_input(train_op)
        return self._op

    def load_iteration_per_loop_var(self, sess: Any, iterations_per_loop: int = 1) -> None:
        """Sets the number of steps.

        Args:
            sess: the Session; the op works in every Session of its graph.
            iterations_per_loop: steps, [1, 2^31 - 1].

        Raises:
            RuntimeError: there is no op yet.
            TypeError: it is no int.
            ValueError: it is out of its range.
        """
        del sess
        steps = check_int("iterations_per_loop", iterations_per_loop, 1, INT32_MAX)
        if self._op is None:
            raise RuntimeError(
                "load_iteration_per_loop_var: call create_iteration_per_loop_var(train_op) first."
            )
        graph = self._op.graph
        loops: dict[str, int] = getattr(graph, _LOOPS, {})
        setattr(graph, _LOOPS, {**loops, self._op.name: steps})


def variable_initializer_in_host(var_list: Any) -> Any:
    """Returns the op that initializes variables."""
    return tf.compat.v1.variables_initializer(var_list, name="var_in_host")


def npu_compile(sess: Any, *fetches: Any) -> None:
    """Runs fetches once, as the accelerator does to compile them."""
    sess.run(fetches)


def set_graph_exec_config(fetch: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns a fetch as it is; shapes may differ from run to run in any case."""
    del args, kwargs
    return fetch


def _install() -> None:
    """Has Sessions run the ops of the loops. Idempotent."""
    session_class = base_session()
    if hasattr(session_class, _INSTALLED):
        return
    session_class.run = _looping(session_class.run)
    setattr(session_class, _INSTALLED, True)


def _looping(plain: Any) -> Any:
    @functools.wraps(plain)
    def run(
        self: Any,
        fetches: Any,
        feed_dict: Any = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        loops: dict[str, int] = getattr(self.graph, _LOOPS, {})
        if loops:
            names = {getattr(leaf, "name", leaf) for leaf in _leaves(fetches)}
            for name in sorted(names & loops.keys()):
                op = self.graph.get_operation_by_name(name)
                for _ in range(loops[name] - 1):
                    plain(self, op, feed_dict)
        return plain(self, fetches, feed_dict, options, run_metadata)

    return run


def _leaves(fetches: Any) -> Iterator[Any]:
    if isinstance(fetches, dict):
        fetches = list(fetches.values())
    if isinstance(fetches, (list, tuple)):
        for each in fetches:
            yield from _leaves(each)
    elif isinstance(fetches, (tf.Operation, str)):
        yield fetches
