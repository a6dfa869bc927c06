"""Scripts of TensorFlow 1: their ``import tensorflow`` means ``tensorflow.compat.v1``."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from typing import Any


def install(directory: str) -> None:
    """Gives the modules below a directory TensorFlow 1, for the rest of the process.

    ``import tensorflow`` and ``from tensorflow import name`` there mean ``tensorflow.compat.v1``;
    everybody else's do not. TensorFlow behaves as version 1: graphs and Sessions, no eager
    execution.

    Args:
        directory: of the script.
    """
    import tensorflow.compat.v1 as tensorflow1

    tensorflow1.disable_v2_behavior()
    plain_import = builtins.__import__
    root = os.path.join(os.path.realpath(directory), "")

    def __import__(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if name == "tensorflow" and level == 0 and _is_below(root, globals):
            return tensorflow1
        return plain_import(name, globals, locals, fromlist or (), level)

    builtins.__import__ = __import__


def _is_below(root: str, importer: Mapping[str, Any] | None) -> bool:
    file = (importer or {}).get("__file__")
    if not isinstance(file, str):
        return False
    parts = os.path.relpath(os.path.realpath(file), root).split(os.sep)
    return parts[0] != os.pardir and "site-packages" not in parts
