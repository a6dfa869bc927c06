"""Generated impressions in Criteo's format with a planted click signal.

Impressions come in chunks of a fixed size; each chunk depends on the seed and its own number only,
so any part of the stream can be generated again, in any process, without what came before it.

Keys of a slot follow a Zipf law over a vocabulary that grows with every impression. A part of the
draws of a growing slot falls on its newest keys, as fresh items do in a real feed. The click
probability is a logistic function of effects of single keys, of pairs of keys and of the numeric
values, so the Bayes AUC is known.

Time goes on by a second every 100 impressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mxrec.cli.criteo import CATEGORIES, INTEGERS, MISSING, CriteoChunk, to_hex

CHUNK_ROWS = 65_536
IMPRESSIONS_PER_SECOND = 100
START_TIME = 1_700_000_000
_PAIR_DIM = 3
_PAIRS = ((0, 1), (4, 7), (5, 13))
_FRESH_SHARE = 0.08
_FRESH_WINDOW = 0.02
_INTERCEPT = -1.5
_MISSING_NUMERIC = (0.4, 0.0, 0.2, 0.2, 0.02, 0.2, 0.04, 0.0, 0.04, 0.4, 0.04, 0.6, 0.2)


class Slot(NamedTuple):
    """How the keys of one categorical slot are drawn.

    Attributes:
        initial: keys in the vocabulary at the first impression.
        growth: new keys per impression.
        exponent: exponent of the Zipf law; 0 is uniform.
        effect: standard deviation of the keys' effects on the log odds.
        missing: share of empty fields.
    """

    initial: int
    growth: float
    exponent: float
    effect: float
    missing: float


# Like the public Criteo set: a few keys in some slots, vocabularies that keep growing in others.
SLOTS = (
    Slot(1_400, 0.0, 1.05, 0.35, 0.0),
    Slot(550, 0.0, 1.05, 0.35, 0.0),
    Slot(20_000, 0.12, 1.10, 0.25, 0.03),
    Slot(15_000, 0.06, 1.10, 0.25, 0.03),
    Slot(300, 0.0, 1.05, 0.30, 0.0),
    Slot(24, 0.0, 0.8, 0.30, 0.1),
    Slot(9_000, 0.001, 1.05, 0.25, 0.0),
    Slot(630, 0.0, 1.05, 0.30, 0.0),
    Slot(3, 0.0, 0.5, 0.30, 0.0),
    Slot(12_000, 0.010, 1.10, 0.25, 0.0),
    Slot(5_000, 0.0, 1.05, 0.25, 0.0),
    Slot(20_000, 0.10, 1.10, 0.25, 0.03),
    Slot(3_100, 0.0, 1.05, 0.30, 0.0),
    Slot(27, 0.0, 0.8, 0.30, 0.0),
    Slot(9_000, 0.002, 1.05, 0.25, 0.0),
    Slot(18_000, 0.08, 1.10, 0.25, 0.03),
    Slot(10, 0.0, 0.6, 0.30, 0.0),
    Slot(4_600, 0.0, 1.05, 0.25, 0.0),
    Slot(2_000, 0.0, 1.05, 0.25, 0.4),
    Slot(4, 0.0, 0.5, 0.30, 0.4),
    Slot(20_000, 0.09, 1.10, 0.25, 0.03),
    Slot(18, 0.0, 0.8, 0.25, 0.7),
    Slot(15, 0.0, 0.8, 0.30, 0.0),
    Slot(15_000, 0.015, 1.10, 0.25, 0.03),
    Slot(100, 0.0, 0.9, 0.30, 0.4),
    Slot(12_000, 0.008, 1.10, 0.25, 0.4),
)


@dataclass(frozen=True)
class SyntheticChunk:
    """Generated impressions and the truth behind them.

    Attributes:
        rows: the impressions in Criteo's format.
        probabilities: float64 [n], the true click probabilities.
        timestamps: int64 [n], when they happened, in seconds.
    """

    rows: CriteoChunk
    probabilities: npt.NDArray[np.float64]
    timestamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def _unit_normals(hashes: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Nearly normal numbers of mean 0 and variance 1 from hashes (Irwin-Hall sum of four bytes)."""
    octets = hashes.view(np.uint8).reshape(*hashes.shape, 4)
    total = octets.sum(axis=-1, dtype=np.int32)
    scale = np.float32(np.sqrt(3.0) / 256.0)
    normals: npt.NDArray[np.float32] = (total.astype(np.float32) - np.float32(510.0)) * scale
    return normals


def _mix32(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A bijection of 32-bit words, so ranks never share a code (MurmurHash3's finalizer)."""
    mixed = words ^ (words >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


class CriteoSynthetic:
    """A deterministic, endless stream of impressions.

    Attributes:
        seed: chooses the stream; equal seeds give equal streams.
    """

    def __init__(self, seed: int = 0) -> None:
        """Plants the signal.

        Args:
            seed: [0, 2^32 - 1].

        Raises:
            ValueError: when ``seed`` is out of range.
        """
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}; it must be in [0, {2**32 - 1}]")
        self.seed = seed
        truth = np.random.default_rng([seed, 1])
        self._salts = truth.integers(0, 2**32, size=CATEGORIES, dtype=np.uint32)
        self._pair_salts = truth.integers(0, 2**32, size=(CATEGORIES, _PAIR_DIM), dtype=np.uint32)
        self._numeric_weights = truth.normal(0.0, 0.12, size=INTEGERS)
        self._numeric_bends = truth.normal(0.0, 0.06, size=INTEGERS)
        self._log_means = truth.uniform(0.5, 4.0, size=INTEGERS)
        self._log_scales = truth.uniform(0.5, 1.5, size=INTEGERS)

    def chunk(self, index: int) -> SyntheticChunk:
        """Generates one chunk.

        Args:
            index: number of the chunk, from 0; it starts at impression index * CHUNK_ROWS.

        Returns:
            The chunk of exactly ``CHUNK_ROWS`` impressions.

        Raises:
            ValueError: when ``index`` is negative.
        """
        if index < 0:
            raise ValueError(f"index is {index}; it must be at least 0")
        rng = np.random.default_rng([self.seed, 2, index])
        time = np.arange(index * CHUNK_ROWS, (index + 1) * CHUNK_ROWS, dtype=np.float64)
        codes = np.empty((CATEGORIES, CHUNK_ROWS), dtype=np.uint32)
        odds = np.full(CHUNK_ROWS, _INTERCEPT)
        absent = np.empty((CATEGORIES, CHUNK_ROWS), dtype=bool)
        for number, slot in enumerate(SLOTS):
            ranks = self._draw_ranks(rng, slot, time)
            codes[number] = _mix32(ranks ^ self._salts[number])
            absent[number] = rng.random(CHUNK_ROWS, dtype=np.float32) < slot.missing
            # A second mix keeps the effect independent of the code that the reader sees.
            effect = _unit_normals(_mix32(codes[number] + np.uint32(0x9E3779B9))) * np.float32(
                slot.effect
            )
            odds += np.where(absent[number], np.float32(0.0), effect)
        self._add_pairs(codes, absent, odds)
        integers = self._draw_integers(rng, odds)
        probabilities = 1.0 / (1.0 + np.exp(-odds))
        labels = (rng.random(CHUNK_ROWS) < probabilities).astype(np.uint8)
        categories = to_hex(np.ascontiguousarray(codes.T))
        categories[absent.T] = b""
        seconds = np.arange(index * CHUNK_ROWS, (index + 1) * CHUNK_ROWS) // IMPRESSIONS_PER_SECOND
        return SyntheticChunk(
            CriteoChunk(labels, integers, categories), probabilities, START_TIME + seconds
        )

    @staticmethod
    def _draw_ranks(
        rng: np.random.Generator, slot: Slot, time: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.uint32]:
        """Ranks over the vocabulary of each moment, by the inverse of a continuous Zipf law."""
        size = slot.initial + slot.growth * time if slot.growth else float(slot.initial)
        uniform = rng.random(len(time))
        power = 1.0 - slot.exponent
        ranks = np.power(1.0 + uniform * (np.power(size + 1.0, power) - 1.0), 1.0 / power)
        ranks = np.minimum(np.floor(ranks), np.floor(size))
        if slot.growth:
            fresh = np.flatnonzero(rng.random(len(time), dtype=np.float32) < _FRESH_SHARE)
            now = slot.initial + slot.growth * time[fresh]
            age = rng.random(len(fresh)) ** 3 * _FRESH_WINDOW
            ranks[fresh] = np.floor(now * (1.0 - age))
        return ranks.astype(np.uint32)

    def _add_pairs(
        self,
        codes: npt.NDArray[np.uint32],
        absent: npt.NDArray[np.bool_],
        odds: npt.NDArray[np.float64],
    ) -> None:
        """Adds effects of pairs of keys: dot products of latent vectors, as a DLRM can learn."""
        scale = np.float32(0.3 / np.sqrt(_PAIR_DIM))
        for left, right in _PAIRS:
            product = np.zeros(odds.shape, dtype=np.float32)
            for axis in range(_PAIR_DIM):
                first = _unit_normals(_mix32(codes[left] ^ self._pair_salts[left, axis]))
                product += first * _unit_normals(
                    _mix32(codes[right] ^ self._pair_salts[right, axis])
                )
            odds += np.where(absent[left] | absent[right], np.float32(0.0), product * scale)

    def _draw_integers(
        self, rng: np.random.Generator, odds: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """Heavy-tailed counts; adds their effects to ``odds``."""
        normals = rng.standard_normal((len(odds), INTEGERS), dtype=np.float32)
        absent = rng.random((len(odds), INTEGERS), dtype=np.float32) < np.asarray(
            _MISSING_NUMERIC, dtype=np.float32
        )
        effects = normals * self._numeric_weights + (normals**2 - 1.0) * self._numeric_bends
        odds += np.where(absent, 0.0, effects).sum(axis=1)
        logs = normals * self._log_scales + self._log_means
        counts: npt.NDArray[np.int32] = np.exp(logs).astype(np.int32)
        counts[absent] = MISSING
        return counts
