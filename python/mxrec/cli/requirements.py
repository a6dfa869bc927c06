"""What the commands need beyond the package itself, and what to say when it is missing."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


class MissingRequirement(RuntimeError):
    """A needed package is missing or unsuitable; the message says what to install."""


def require_estimator() -> None:
    """Checks for a TensorFlow that has ``tf.estimator``.

    Raises:
        MissingRequirement: when TensorFlow is missing, too new or fails to load.
    """
    if find_spec("tensorflow") is None:
        raise MissingRequirement(
            "TensorFlow is not installed. Install it: pip install 'mxrec[tensorflow]'"
        )
    installed = _installed_version("tensorflow", "tensorflow-cpu", "tensorflow-intel")
    major, minor = (int(part) for part in installed.split(".")[:2])
    if (major, minor) > (2, 15):
        raise MissingRequirement(
            f"TensorFlow {installed} has no tf.estimator; the last release with it is 2.15. "
            "Install it with Python 3.11 or older: pip install 'tensorflow-cpu==2.15.1' 'numpy<2'"
        )
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingRequirement(f"TensorFlow {installed} does not load: {error}") from error


def require_plotting() -> None:
    """Checks for matplotlib.

    Raises:
        MissingRequirement: when it is missing.
    """
    if find_spec("matplotlib") is None:
        raise MissingRequirement(
            "matplotlib is not installed. Install it: pip install 'mxrec[cli]', or pass --no-plot"
        )


def _installed_version(*distributions: str) -> str:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return str(importlib.import_module("tensorflow").__version__)
