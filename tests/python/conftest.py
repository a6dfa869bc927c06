"""Options and fixtures of all Python tests: one seed, printed and replayable."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest

DEFAULT_SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=int(os.environ.get("MXREC_TEST_SEED", DEFAULT_SEED)),
        help="seed of the random tests (default: $MXREC_TEST_SEED, else %(default)s)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"mxrec: random tests use --seed {config.getoption('seed')}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed mixed with the test's name, so that tests do not depend on their order."""
    return zlib.crc32(f"{request.config.getoption('seed')}:{request.node.nodeid}".encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A generator of the test's own."""
    return np.random.default_rng(seed)
