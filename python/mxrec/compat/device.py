"""``npu_device``: the accelerator as a device of TensorFlow 2; everything stays on the CPU."""

from __future__ import annotations

from typing import Any

from mxrec.compat.plugin import set_device_sat_mode
from mxrec.compat.scopes import keep_dtype_scope, npu_recompute_scope
from mxrec.tf.validation import INT32_MAX, check_int

__all__ = [
    "global_options",
    "keep_dtype_scope",
    "npu_recompute_scope",
    "npu_run_context",
    "open",
    "set_device_sat_mode",
    "set_npu_loop_size",
]


class Options:
    """Options of the accelerator: kept, and without effect on the CPU.

    An attribute that was not set is another set of options, and an empty one is false.
    """

    def __bool__(self) -> bool:
        return bool(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        options = Options()
        self.__dict__[name] = options
        return options


class Device:
    """The device that ``open`` returns."""

    workers_num = 1
    worker_id = 0

    def as_default(self) -> Device:
        """Would have TensorFlow place ops on the accelerator; they stay where they are."""
        return self

    def name(self) -> str:
        """Returns the name of the device that ops run on."""
        return "/job:localhost/replica:0/task:0/device:CPU:0"


_options = Options()


def global_options() -> Options:
    """Returns the options of the process."""
    return _options


def open(device_id: int | None = None) -> Device:
    """Returns the device.

    Args:
        device_id: accepted.
    """
    del device_id
    return Device()


def set_npu_loop_size(loop_size: int) -> None:
    """Accepts how many steps the accelerator would run per call of a ``tf.function``.

    A function with a loop over an iterator runs as often as the loop says in any case.

    Args:
        loop_size: [1, 2^31 - 1].

    Raises:
        ValueError: it is out of its range.
    """
    check_int("loop_size", loop_size, 1, INT32_MAX)


class npu_run_context:
    """A scope with options; they have no effect on the CPU."""

    def __init__(self, options: Any = None) -> None:
        self.options = options

    def __enter__(self) -> npu_run_context:
        return self

    def __exit__(self, *exception: Any) -> None:
        del exception
