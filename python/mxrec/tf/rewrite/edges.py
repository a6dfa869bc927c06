"""Changes of a graph's edges that take place together or not at all."""

from __future__ import annotations

from typing import Any

from mxrec.tf.rewrite.failing import failing_at


class Edges:
    """A list of changes, in the order in which they take place."""

    def __init__(self) -> None:
        self._data: list[tuple[Any, int, Any]] = []
        self._control: list[tuple[Any, Any, Any]] = []
        # What has been changed: the op, which input (None: the control inputs), and its value.
        self._done: list[tuple[Any, int | None, Any]] = []

    def connect(self, op: Any, place: int, tensor: Any) -> None:
        """Notes that an op shall get another tensor at one of its inputs."""
        self._data.append((op, place, tensor))

    def connect_consumers(self, old: Any, new: Any) -> None:
        """Notes that all ops that take ``old`` shall take ``new``."""
        for op in old.consumers():
            for place, tensor in enumerate(op.inputs):
                if tensor is old:
                    self.connect(op, place, new)

    def reorder(self, old: Any, new: Any) -> None:
        """Notes that the ops that run after op ``old`` shall run after op ``new``."""
        self._control += [(op, old, new) for op in old._control_outputs]

    def apply(self) -> None:
        """Makes the changes that were noted since the last call.

        Raises:
            ValueError: TensorFlow refuses one; the edges are as before all calls.
        """
        try:
            for op, place, tensor in self._data:
                with failing_at(f"op {op.name!r} ({op.type})"):
                    self._replace(op, place, tensor)
            for op, old, new in self._control:
                with failing_at(f"op {op.name!r} ({op.type})"):
                    inputs = [new if each is old else each for each in op.control_inputs]
                    self._done.append((op, None, list(op.control_inputs)))
                    _set_control_inputs(op, inputs)
        except BaseException:  # Ctrl-C, too
            self.undo()
            raise
        self._data.clear()
        self._control.clear()

    def undo(self) -> None:
        """Takes all changes back."""
        while self._done:
            op, place, before = self._done[-1]
            if place is None:
                _set_control_inputs(op, before)
            else:
                op._update_input(place, before)
            self._done.pop()  # once it is done: another call goes on where this one is interrupted

    def _replace(self, op: Any, place: int, tensor: Any) -> None:
        before = op.inputs[place]
        # Beforehand: nothing can come between a change and its note.
        self._done.append((op, place, before))
        try:
            op._update_input(place, tensor)
        except Exception as error:
            raise ValueError(
                f"input {place} of {op.name!r} cannot become {tensor.name!r} instead of "
                f"{before.name!r}: {error}"
            ) from error


def _set_control_inputs(op: Any, inputs: list[Any]) -> None:
    op._remove_all_control_inputs()
    op._add_control_inputs(inputs)
