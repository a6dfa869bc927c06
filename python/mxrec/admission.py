"""Which keys get a row, and which rows go again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mxrec import _mxrec
from mxrec._fields import finite, integer, shortest

__all__ = ["MAX_THRESHOLD", "Admission", "Eviction"]

MAX_THRESHOLD = 2**31 - 1
_MAX_SKETCH_THRESHOLD = 15
_MAX_EXPECTED_KEYS = 2**36


@dataclass(frozen=True)
class Admission:
    """A key gets a row once it was seen often enough in training.

    A key that is not admitted has no row, reads zeros and gets no gradient. Its count grows with
    every occurrence in a training lookup, the batch at hand included; evaluation does not count.

    Attributes:
        threshold: The count that admits, in [1, 2**31 - 1]. 0: by the threshold and the counts that
            a restore brings; counts do not grow. Without a restore no key is admitted.
        coefficient: What an occurrence counts, in [1, 2**31 - 1].
        mode: "exact" keeps a count for every key, some 29 bytes each. "sketch" shares 4-bit
            counters among keys, 3.6 bytes for each expected key: a key may be admitted early
            (docs/admission-and-eviction.md gives the bound), and counts of long ago fade. Its
            threshold is at most 15.
        expected_keys: Distinct keys that a sketch is sized for, in [1, 2**36]. With more of them
            counts fade sooner and more keys are admitted early.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of its range.
    """

    threshold: int
    coefficient: int = 1
    mode: Literal["exact", "sketch"] = "exact"
    expected_keys: int = 4_194_304

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str):
            raise TypeError(f"mode must be 'exact' or 'sketch', got {self.mode!r}")
        if self.mode not in ("exact", "sketch"):
            raise ValueError(f"mode must be 'exact' or 'sketch', got {self.mode!r}")
        integer("threshold", self.threshold, 0, MAX_THRESHOLD)
        if self.mode == "sketch" and self.threshold > _MAX_SKETCH_THRESHOLD:
            raise ValueError(
                f"threshold must be in [0, {_MAX_SKETCH_THRESHOLD}] with mode='sketch', whose "
                f"counters have 4 bits, got {self.threshold}; use mode='exact' for more"
            )
        integer("coefficient", self.coefficient, 1, MAX_THRESHOLD)
        integer("expected_keys", self.expected_keys, 1, _MAX_EXPECTED_KEYS)

    def to_options(self) -> _mxrec.AdmissionOptions:
        """The same for the engine."""
        return _mxrec.AdmissionOptions(
            self.threshold,
            coefficient=self.coefficient,
            mode=self.mode,
            expected_keys=self.expected_keys,
        )

    @staticmethod
    def from_options(options: _mxrec.AdmissionOptions) -> Admission | None:
        """The same from the engine; None: admission is off."""
        if options.threshold < 0:
            return None
        mode: Literal["exact", "sketch"] = "sketch" if options.mode == "sketch" else "exact"
        return Admission(options.threshold, options.coefficient, mode, options.expected_keys)


@dataclass(frozen=True)
class Eviction:
    """Rules by which ``evict`` removes rows.

    Attributes:
        max_age: Seconds, at least 0: a key goes when the table's time is so much later than its
            last training use or more; None: however old. Rows that training never used stay.
        max_rows: At least 1: beyond so many rows the least frequently used go, of equally frequent
            ones those that come first in the order of the hashes of their keys. None: however many.
        min_l2: Above 0: rows whose embedding has a smaller L2 norm go; None: none.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of its range, or there is no rule.
    """

    max_age: int | None = None
    max_rows: int | None = None
    min_l2: float | None = None

    def __post_init__(self) -> None:
        if self.max_age is not None:
            integer("max_age", self.max_age, 0, 2**62)
        if self.max_rows is not None:
            integer("max_rows", self.max_rows, 1, 2**62)
        if self.min_l2 is not None:
            finite(self, min_l2=self.min_l2)
            if self.min_l2 <= 0:
                raise ValueError(f"Eviction: min_l2 must be above 0, got {self.min_l2!r}")
        if self.max_age is None and self.max_rows is None and self.min_l2 is None:
            raise ValueError("Eviction: give max_age, max_rows or min_l2; there is no rule")

    def to_options(self) -> _mxrec.EvictionOptions:
        """The same for the engine."""
        return _mxrec.EvictionOptions(
            max_age=-1 if self.max_age is None else self.max_age,
            max_rows=self.max_rows or 0,
            min_l2=self.min_l2 or 0.0,
        )

    @staticmethod
    def from_options(options: _mxrec.EvictionOptions) -> Eviction | None:
        """The same from the engine; None: there are no rules."""
        max_age = None if options.max_age < 0 else options.max_age
        max_rows = options.max_rows or None
        min_l2 = shortest(options.min_l2) if options.min_l2 > 0 else None
        if max_age is None and max_rows is None and min_l2 is None:
            return None
        return Eviction(max_age, max_rows, min_l2)
