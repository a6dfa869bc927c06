"""``op_precision_mode``: which kernel gathers rows, as the accelerator's scripts choose it.

A script names an ``op_impl_mode.ini`` in the ``ConfigProto`` of its Session,

    custom_op = session_config.graph_options.rewrite_options.custom_optimizers.add()
    custom_op.parameter_map["op_precision_mode"].s = tf.compat.as_bytes("op_impl_mode.ini")

and the file holds lines such as ``GatherV2=high_performance``. After ``install()`` every Session
that is created with such a config sets the mode of the process, those of Estimator and
MonitoredSession included. The other entries of the accelerator's ``parameter_map`` mean nothing on
the CPU. TensorFlow itself passes over custom optimizers that it does not know.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mxrec.runtime import DEFAULT_GATHER_MODE, GATHER_MODES, set_gather_mode
from mxrec.tf.log import logger, warn_once
from mxrec.tf.sessions import base_session

OPTION = "op_precision_mode"
OPERATORS = ("GatherV2",)

_SECTION = "[ByOpType]"  # the one that may stand above lines of operators
_INSTALLED = "_mxrec_reads_precision_mode"


def install() -> None:
    """Wraps the constructor of Sessions for the whole process. Idempotent."""
    session_class = base_session()
    if getattr(session_class, _INSTALLED, False):
        return
    session_class.__init__ = _reading_init(session_class.__init__)
    setattr(session_class, _INSTALLED, True)


def read_modes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Reads an ``op_impl_mode.ini``.

    A line is ``operator=mode``. Spaces around its parts, empty lines, a line ``[ByOpType]``, and
    comments after ``#`` or ``;``, on lines of their own or behind a space, do not matter.

    Args:
        path: the file; a relative path starts at the working directory.

    Returns:
        The mode of each operator that the file names.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: a line is malformed, names an unknown operator or mode, or contradicts an
            earlier one. The message has the file and the number of the line.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        lines = file.read().removeprefix(b"\xef\xbb\xbf").splitlines()
    modes: dict[str, str] = {}
    for number, raw in enumerate(lines, 1):
        try:
            entry = _entry(raw)
            if entry is None:
                continue
            operator, mode = entry
            if modes.setdefault(operator, mode) != mode:
                raise ValueError(
                    f"{operator} has the mode {modes[operator]} above, and {mode} here"
                )
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}.") from None
    return modes


def check(path: Any) -> None:
    """Checks a file that is to be applied later, and warns, once, if it is not there.

    Args:
        path: as given by the user.

    Raises:
        TypeError: ``path`` is no path.
        OSError, ValueError: as ``read_modes``.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{OPTION} must be the path of an op_impl_mode.ini, got {path!r} "
            f"({type(path).__name__})."
        )
    _mode_of_file(os.fsdecode(path))


def apply(paths: Sequence[str]) -> None:
    """Sets the gather mode of the process as files say; of several the last one counts.

    Args:
        paths: files; a relative path starts at the working directory. One that is not there stands
            for the default mode. None at all: the mode stays.

    Raises:
        OSError, ValueError: as ``read_modes``; the mode stays as it was.
    """
    modes = [_mode_of_file(path) for path in paths]
    if modes:
        set_gather_mode(modes[-1])
        logger.debug("%s=%r: GatherV2 runs in mode %s.", OPTION, paths[-1], modes[-1])


def paths_in(config: Any) -> list[str]:
    """The files that a Session's config names, in order.

    Args:
        config: a ``tf.compat.v1.ConfigProto`` or None.

    Raises:
        ValueError: an ``op_precision_mode`` is no bytes.
    """
    if config is None:
        return []
    paths = []
    for optimizer in config.graph_options.rewrite_options.custom_optimizers:
        if OPTION not in optimizer.parameter_map:
            continue
        value = optimizer.parameter_map[OPTION]
        kind = value.WhichOneof("value")
        if kind not in (None, "s"):
            raise ValueError(
                f'parameter_map["{OPTION}"] must hold the path of an op_impl_mode.ini in its field '
                f"s, got the field {kind}. Set "
                f'parameter_map["{OPTION}"].s = tf.compat.as_bytes("op_impl_mode.ini").'
            )
        if value.s:
            paths.append(os.fsdecode(value.s))
    return paths


def with_path(config: Any, path: str | bytes | os.PathLike[str]) -> Any:
    """A copy of a Session's config that names a file, after those that it names already.

    Args:
        config: a ``tf.compat.v1.ConfigProto``; it is not changed.
        path: the file.
    """
    copy = tf.compat.v1.ConfigProto()
    copy.CopyFrom(config)
    optimizer = copy.graph_options.rewrite_options.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    optimizer.parameter_map[OPTION].s = os.fsencode(path)
    return copy


def _entry(raw: bytes) -> tuple[str, str] | None:
    """Operator and mode of a line; None: it has none."""
    try:
        line = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{raw!r} is no UTF-8 text") from None
    for mark in ("#", ";"):
        before, found, _ = f" {line}".partition(f" {mark}")
        line = before.strip() if found else line
    if not line or line == _SECTION:
        return None
    operator, equals, mode = (part.strip() for part in line.partition("="))
    if not (operator and equals and mode):
        raise ValueError(
            f"{line!r} is malformed; a line must be operator=mode, for example "
            f"GatherV2={DEFAULT_GATHER_MODE}"
        )
    if operator not in OPERATORS:
        raise ValueError(
            f"unknown operator {operator!r}; it must be one of: {', '.join(OPERATORS)}"
        )
    if mode not in GATHER_MODES:
        raise ValueError(
            f"unknown mode {mode!r} of {operator}; it must be one of: {', '.join(GATHER_MODES)}"
        )
    return operator, mode


def _mode_of_file(path: str) -> str:
    try:
        return read_modes(path).get("GatherV2", DEFAULT_GATHER_MODE)
    except FileNotFoundError:
        absolute = os.path.abspath(path)
        warn_once(
            (OPTION, absolute),
            "%s names %s, which is not there (%s); GatherV2 runs in its default mode, %s.",
            OPTION,
            path,
            absolute,
            DEFAULT_GATHER_MODE,
        )
        return DEFAULT_GATHER_MODE


def _reading_init(plain_init: Any) -> Any:
    @functools.wraps(plain_init)
    def __init__(self: Any, target: Any = "", graph: Any = None, config: Any = None) -> None:
        plain_init(self, target, graph, config)
        try:
            apply(paths_in(config))
        except Exception:
            self.close()
            raise

    return __init__
