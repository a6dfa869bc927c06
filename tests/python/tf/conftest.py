"""Fixtures of the TensorFlow tests."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    """``mxrec.tf.init``; everything is released after the test."""
    import mxrec.tf as mx

    def initialize(**kwargs: Any) -> None:
        mx.terminate_config_initializer()
        mx.init(**kwargs)

    mx.terminate_config_initializer()
    yield initialize
    mx.terminate_config_initializer()
