"""``npu_bridge.estimator.npu.npu_hook``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mxrec.tf.estimator import npu_hooks_append
from mxrec.tf.validation import INT32_MAX, check_int

__all__ = [
    "NPUBroadcastGlobalVariablesHook",
    "NPUCheckpointSaverHook",
    "NPUOutputTensorHook",
    "NpuEmptyHook",
    "SetIterationsVarHook",
    "npu_hooks_append",
]

_v1 = tf.compat.v1


class NpuEmptyHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """Does nothing."""


class NPUBroadcastGlobalVariablesHook(NpuEmptyHook):
    """Would give all ranks the variables of one; there is one rank.

    Args:
        root_rank: the rank that has the values: 0.
        index: of this rank: 0.

    Raises:
        ValueError: ``root_rank`` is not 0.
    """

    def __init__(self, root_rank: int = 0, index: int = 0) -> None:
        check_int("root_rank", root_rank, 0, 0)
        del index


class SetIterationsVarHook(NpuEmptyHook):
    """Would set how many steps the accelerator runs per call of an Estimator; the CPU runs one.

    Args:
        iterations_per_loop: steps, 1 or more.
    """

    def __init__(self, iterations_per_loop: int = 1) -> None:
        check_int("iterations_per_loop", iterations_per_loop, 1, INT32_MAX)


class NPUCheckpointSaverHook(tf.compat.v1.train.CheckpointSaverHook):  # type: ignore[misc]
    """``tf.compat.v1.train.CheckpointSaverHook`` under the accelerator's name; covers tables."""


class NPUOutputTensorHook(NpuEmptyHook):
    """Hands the values of tensors to a function.

    Args:
        tensors: by name, tensors or names of tensors.
        dependencies: ops and tensors that are to have run before the tensors are read.
        output_fn: takes the list of the values since the last call: a dict by name for each run.
        output_every_n_steps: runs between calls, 1 or more; what is left over comes at the end.

    Raises:
        TypeError: ``tensors`` is no dict or ``output_fn`` is no function.
        ValueError: ``output_every_n_steps`` is out of its range.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any],
        dependencies: Any = None,
        output_fn: Callable[[list[dict[str, Any]]], Any] | None = None,
        output_every_n_steps: int = 1,
    ) -> None:
        if not isinstance(tensors, Mapping) or not callable(output_fn):
            raise TypeError(
                "NPUOutputTensorHook needs tensors, a dict of tensors by name, and output_fn, a "
                f"function of the list of their values; got {tensors!r} and {output_fn!r}."
            )
        self._every = check_int("output_every_n_steps", output_every_n_steps, 1, INT32_MAX)
        self._output = output_fn
        self._values: list[dict[str, Any]] = []
        self._tensors = dict(tensors)
        if dependencies is not None:
            many = isinstance(dependencies, (list, tuple))
            with tf.control_dependencies(dependencies if many else [dependencies]):
                self._tensors = {name: tf.identity(each) for name, each in tensors.items()}

    def before_run(self, run_context: Any) -> Any:
        """Asks for the tensors."""
        del run_context
        return _v1.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Keeps their values, and hands them over where it is time."""
        del run_context
        self._values.append(run_values.results)
        if len(self._values) >= self._every:
            self._hand_over()

    def end(self, session: Any) -> None:
        """Hands over what is left."""
        del session
        if self._values:
            self._hand_over()

    def _hand_over(self) -> None:
        values, self._values = self._values, []
        self._output(values)
