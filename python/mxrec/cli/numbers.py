"""Numbers on the command line, checked against their range."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def integer(name: str, low: int, high: int) -> Callable[[str], int]:
    """A parser of integers in [low, high]; underscores may group digits."""

    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{name} is {text!r}; it must be an integer in [{low}, {high}]"
            ) from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{name} is {value}; it must be in [{low}, {high}]")
        return value

    return parse


def real(name: str, low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers between low and high, both excluded."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{name} is {text!r}; it must be a number") from None
        if not low < value < high:
            raise argparse.ArgumentTypeError(
                f"{name} is {value}; it must be between {low} and {high}, both excluded"
            )
        return value

    return parse
