"""Random streams of training, eviction, saves and restores through tables and dictionaries."""

from __future__ import annotations

import pytest
from version_streams import Stream


def run(seed, numbers, directory):
    for number in numbers:
        try:
            Stream([seed, number], directory / str(number)).run(40)
        except (AssertionError, OSError) as error:
            error.add_note(f"sequence {number} of --seed {seed}")
            raise


def test_random_streams_equal_the_model(request, tmp_path):
    """10 sequences; --seed replays them."""
    run(request.config.getoption("seed"), range(10), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_500_random_streams_equal_the_model(part, request, tmp_path):
    run(request.config.getoption("seed"), range(part * 50, part * 50 + 50), tmp_path)
