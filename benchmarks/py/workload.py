"""What every side of the comparison is given: keys of fixed seeds, scrambled over int64.

A key's popularity follows a bounded Zipf law: rank r of n is drawn with density proportional to
r**-alpha (Devroye, Non-Uniform Random Variate Generation, III.2: inversion of the continuous law,
rounded down). Ranks are scrambled, so that popular keys are neighbours neither in value nor in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
ALPHA = 1.05


@dataclass(frozen=True)
class Config:
    """Sizes of one comparison; the defaults are those of docs/benchmarks.md."""

    rows: int = 5_000_000
    dim: int = 32
    batch: int = 65_536
    lookup_batches: int = 60
    step_rows: int = 2_000_000
    step_dim: int = 16
    step_batch: int = 4_096
    slots: int = 26
    steps: int = 40
    warmup_steps: int = 5

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def scramble(ranks: Keys) -> Keys:
    """Bijective finaliser of SplitMix64 (Steele et al., 2014), shifted to non-negative keys."""
    bits = ranks.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(1)).astype(np.int64)


def zipf_ranks(rows: int, size: int, rng: np.random.Generator) -> Keys:
    """Ranks in [0, rows), rank 0 the most popular."""
    exponent = 1.0 - ALPHA
    draws = (1.0 + rng.random(size) * (float(rows) ** exponent - 1.0)) ** (1.0 / exponent)
    return np.clip(draws.astype(np.int64), 1, rows) - 1


def keys_of(ranks: Keys) -> Keys:
    return scramble(ranks + 1)


def static_rows_of(ranks: Keys, rows: int) -> Keys:
    """Rows of a static variable, spread out: popular rows are no neighbours there either."""
    return (ranks * 2_654_435_761) % rows


def lookup_ranks(config: Config, distribution: str) -> list[Keys]:
    """Batches of a lookup benchmark; distribution: "zipf" or "uniform"."""
    rng = np.random.default_rng(1)
    if distribution == "zipf":
        draw = lambda: zipf_ranks(config.rows, config.batch, rng)  # noqa: E731
    elif distribution == "uniform":
        draw = lambda: rng.integers(0, config.rows, config.batch)  # noqa: E731
    else:
        raise ValueError(f"distribution={distribution!r}: expected 'zipf' or 'uniform'")
    return [draw() for _ in range(config.lookup_batches)]


def all_keys(config: Config) -> Iterator[Keys]:
    """Every key once, in batches."""
    for start in range(0, config.rows, config.batch):
        yield keys_of(np.arange(start, min(start + config.batch, config.rows)))


def step_ranks(config: Config) -> list[Keys]:
    """Ids of the training steps, warm-up included: each [step_batch, slots]."""
    rng = np.random.default_rng(7)
    shape = (config.step_batch, config.slots)
    count = config.steps + config.warmup_steps
    return [
        zipf_ranks(config.step_rows, shape[0] * shape[1], rng).reshape(shape) for _ in range(count)
    ]


def step_labels(config: Config) -> NDArray[np.float32]:
    rng = np.random.default_rng(8)
    return rng.integers(0, 2, (config.step_batch, 1)).astype(np.float32)
