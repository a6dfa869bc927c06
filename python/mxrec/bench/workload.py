"""What every side is given: keys of fixed seeds, scrambled over int64.

A key's popularity follows a bounded Zipf law: rank r of n is drawn with density proportional to
r**-exponent (Devroye, Non-Uniform Random Variate Generation, III.2: inversion of the continuous
law, rounded down). Ranks are scrambled, so that popular keys are neighbours neither in value nor in
memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]

# Exponents of the laws of keys; 0: uniform.
LAWS = {"zipf 0.8": 0.8, "zipf 1.05": 1.05, "zipf 1.2": 1.2, "uniform": 0.0}
SESSION_LAWS = ("zipf 1.05", "uniform")
TRAINING_LAWS = ("zipf 1.05", "uniform")
STEP_EXPONENT = 1.05

# Names of the cases of each group; a side measures some or all of them.
CASES = {
    "table": (
        *(f"lookup {law}" for law in LAWS),
        *(f"training lookup {law}" for law in TRAINING_LAWS),
        "insert",
        "insert by lookup",
    ),
    "session": tuple(f"session lookup {law}" for law in SESSION_LAWS),
    "step": ("step adagrad", "step adam", "step adagrad, growing from empty"),
}

_ALIGNMENT = 64  # TensorFlow takes arrays in place that start on such a boundary


@dataclass(frozen=True)
class Config:
    """Sizes of one comparison; the defaults are those of docs/benchmarks.md.

    Attributes:
        rows: of the tables of lookups and inserts.
        dim: of those tables.
        batch: keys of a call.
        lookup_batches: distinct batches of a lookup; they are repeated for ``seconds``.
        seconds: the shortest measurement of a throughput.
        step_rows: distinct ids of the training step.
        step_dim: of the training step's table.
        step_batch: examples of a step.
        slots: ids of an example.
        steps: timed steps.
        warmup_steps: steps before them.
    """

    rows: int = 5_000_000
    dim: int = 32
    batch: int = 65_536
    lookup_batches: int = 60
    seconds: float = 0.5
    step_rows: int = 2_000_000
    step_dim: int = 16
    step_batch: int = 4_096
    slots: int = 26
    steps: int = 40
    warmup_steps: int = 5

    def to_dict(self) -> dict[str, int | float]:
        """All fields by name."""
        return asdict(self)


def scramble(ranks: Keys) -> Keys:
    """Bijective finaliser of SplitMix64 (Steele et al., 2014), shifted to non-negative keys."""
    bits = ranks.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(1)).astype(np.int64)


def draw_ranks(exponent: float, rows: int, size: int, rng: np.random.Generator) -> Keys:
    """Ranks in [0, rows), rank 0 the most popular; exponent 0: uniform."""
    if exponent == 0.0:
        return rng.integers(0, rows, size)
    draws = rng.random(size)
    power = 1.0 - exponent
    if math.isclose(power, 0.0, abs_tol=1e-9):
        ranks = np.exp(draws * math.log(rows))
    else:
        ranks = (1.0 + draws * (float(rows) ** power - 1.0)) ** (1.0 / power)
    drawn: Keys = np.clip(ranks.astype(np.int64), 1, rows) - 1
    return drawn


def keys_of(ranks: Keys) -> Keys:
    """The key of each rank."""
    return scramble(ranks + 1)


def static_rows_of(ranks: Keys, rows: int) -> Keys:
    """Rows of a static variable, spread out: popular rows are no neighbours there either."""
    return (ranks * 2_654_435_761) % rows


def lookup_ranks(config: Config, law: str) -> list[Keys]:
    """Batches of a lookup; ``law`` is one of LAWS."""
    rng = np.random.default_rng(1)
    return [
        draw_ranks(LAWS[law], config.rows, config.batch, rng) for _ in range(config.lookup_batches)
    ]


def all_keys(config: Config) -> Iterator[Keys]:
    """Every key once, in batches."""
    for start in range(0, config.rows, config.batch):
        yield keys_of(np.arange(start, min(start + config.batch, config.rows)))


def aligned(keys: Keys) -> Keys:
    """A copy that TensorFlow takes in place when it is fed."""
    items = _ALIGNMENT // keys.itemsize
    room = np.empty(keys.size + items, keys.dtype)
    start = (-room.ctypes.data % _ALIGNMENT) // keys.itemsize
    copy = room[start : start + keys.size].reshape(keys.shape)
    copy[...] = keys
    return copy


def step_ranks(config: Config) -> list[Keys]:
    """Ids of the training steps, warm-up included: each [step_batch, slots]."""
    rng = np.random.default_rng(7)
    shape = (config.step_batch, config.slots)
    return [
        draw_ranks(STEP_EXPONENT, config.step_rows, shape[0] * shape[1], rng).reshape(shape)
        for _ in range(config.steps + config.warmup_steps)
    ]


def step_labels(config: Config) -> NDArray[np.float32]:
    """Labels of one step: [step_batch, 1], 0 or 1."""
    rng = np.random.default_rng(8)
    return rng.integers(0, 2, (config.step_batch, 1)).astype(np.float32)
