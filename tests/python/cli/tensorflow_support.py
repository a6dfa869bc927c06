"""Which TensorFlow is installed, found out without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest


def has_tensorflow() -> bool:
    return _tensorflow() is not None


def has_estimator() -> bool:
    found = _tensorflow()
    return found is not None and found <= (2, 15)


def _tensorflow() -> tuple[int, ...] | None:
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return tuple(map(int, version(name).split(".")[:2]))
        except PackageNotFoundError:
            continue
    return None


needs_tensorflow = pytest.mark.skipif(not has_tensorflow(), reason="needs TensorFlow")
