"""What the commands need beyond the package itself, and what to say when it is missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec


class MissingRequirement(RuntimeError):
    """A needed package is missing or unsuitable; the message says what to install."""


def require_tensorflow() -> None:
    """Checks for TensorFlow.

    Raises:
        MissingRequirement: when TensorFlow is missing or fails to load.
    """
    if find_spec("tensorflow") is None:
        raise MissingRequirement(
            "TensorFlow is not installed. Install it, in a checkout of mxrec: "
            "pip install '.[tensorflow]'"
        )
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingRequirement(f"TensorFlow does not load: {error}") from error


def require_plotting() -> None:
    """Checks for matplotlib.

    Raises:
        MissingRequirement: when it is missing.
    """
    if find_spec("matplotlib") is None:
        raise MissingRequirement(
            "matplotlib is not installed. Install it, in a checkout of mxrec: "
            "pip install '.[cli]'; or pass --no-plot"
        )
