"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mxrec


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = mxrec.num_threads()
    yield
    if mxrec.num_threads() != before:
        mxrec.set_num_threads(before)
