"""Checks of arguments: each returns the value in its plain type or an error that names it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

INT32_MAX = 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def _type_error(name: str, value: Any, wanted: str) -> TypeError:
    return TypeError(f"{name} must be {wanted}, got {value!r} ({type(value).__name__}).")


def unknown(names: Iterable[str], known: Sequence[str]) -> str:
    """Names that are not known, each with the known one that may be meant.

    Args:
        names: that were passed.
        known: that could have been.
    """
    texts = []
    for name in sorted(names):
        meant = difflib.get_close_matches(name, known, 1, 0.8)
        texts.append(f"{name} (did you mean {meant[0]}?)" if meant else name)
    return ", ".join(texts)


def check_bool(name: str, value: Any) -> bool:
    """Returns ``value`` as bool; TypeError if it is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise _type_error(name, value, "a bool")
    return bool(value)


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """Returns ``value`` as int; TypeError if it is none, ValueError outside [low, high]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise _type_error(name, value, "an int")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}.")
    return int(value)


def check_float(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Returns ``value`` as float; TypeError if it is no number, ValueError outside the range.

    Args:
        name: the parameter.
        value: what was passed.
        low: lower bound.
        high: upper bound.
        open_low: the lower bound itself is not allowed.
        open_high: the upper bound itself is not allowed.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise _type_error(name, value, "a number")
    result = float(value)
    above = result > low if open_low else result >= low
    below = result < high if open_high else result <= high
    if not (math.isfinite(result) and above and below):
        left = "(" if open_low or math.isinf(low) else "["
        right = ")" if open_high or math.isinf(high) else "]"
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, got {value!r}.")
    return result


def check_str(name: str, value: Any, max_length: int = 255) -> str:
    """Returns ``value``; TypeError if it is no str, ValueError if empty or too long."""
    if not isinstance(value, str):
        raise _type_error(name, value, "a str")
    if not 1 <= len(value) <= max_length:
        raise ValueError(f"{name} must have 1 to {max_length} characters, got {len(value)}.")
    return value


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Returns ``value``; TypeError if it is no str, ValueError if it is none of ``choices``."""
    if not isinstance(value, str):
        raise _type_error(name, value, "a str")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value
