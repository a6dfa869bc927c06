"""Fixtures of the contract tests, which need TensorFlow."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    """``init``; everything is released after the test."""
    from mx_rec.util.initialize import init, terminate_config_initializer

    def initialize(**kwargs: Any) -> None:
        terminate_config_initializer()
        init(**kwargs)

    terminate_config_initializer()
    yield initialize
    terminate_config_initializer()
