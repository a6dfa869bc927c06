"""Checks and conversions of parameters."""

import math
import operator
import os

import numpy as np
from numpy.typing import DTypeLike


def finite(owner: object, **values: float) -> None:
    """Checks that hyperparameters are finite numbers.

    Args:
        owner: The object they belong to; its class is named in the message.
        **values: Hyperparameters by name.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is NaN or infinite, also as a float32.
    """
    name = type(owner).__name__
    for parameter, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{name}: {parameter} must be a number, got {value!r}")
        if not math.isfinite(value) or abs(float(value)) > float(np.finfo(np.float32).max):
            raise ValueError(f"{name}: {parameter} must be a finite float32, got {value!r}")


def boolean(parameter: str, value: bool) -> bool:
    """Checks that a parameter is True or False.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{parameter} must be a bool, got {value!r}")
    return bool(value)


def path_text(parameter: str, value: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Gives a path as text that the engine can take.

    Raises:
        TypeError: It is no path.
        ValueError: It is not in UTF-8, or has a null character.
    """
    path = os.fsdecode(value)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{parameter} must be a path in UTF-8, got {path!r}: rename what is not, or name "
            "another directory"
        ) from None
    if "\0" in path:
        raise ValueError(f"{parameter} must be a path without null characters, got {path!r}")
    return path


def shortest(value: float) -> float:
    """Gives the shortest decimal that is the same float32: 0.1 instead of 0.10000000149."""
    return float(str(np.float32(value)))


_VALUE_DTYPES = ("float32", "float16", "bfloat16")


def value_dtype_name(value: DTypeLike) -> str:
    """Gives the name of the type that embeddings are stored as.

    Args:
        value: "float32", "float16", "bfloat16", or a numpy dtype of one of these names.

    Raises:
        TypeError: It is no dtype.
        ValueError: It is another one.
    """
    wanted = "value_dtype must be 'float32', 'float16' or 'bfloat16'"
    if value is None:  # numpy would take it for float64
        raise TypeError(f"{wanted}, got None")
    if isinstance(value, str):
        name = value
    else:
        try:
            name = np.dtype(value).name
        except TypeError as error:
            raise TypeError(f"{wanted}, or a numpy dtype, got {value!r}") from error
    if name not in _VALUE_DTYPES:
        raise ValueError(f"{wanted}, got {name!r}")
    return name


def integer(parameter: str, value: int, low: int, high: int) -> int:
    """Checks that a parameter is an integer in [low, high].

    Raises:
        TypeError: It is no integer.
        ValueError: It is out of the range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{parameter} must be an int, got {value!r}")
    if not low <= number <= high:
        raise ValueError(f"{parameter} must be in [{low}, {high}], got {number}")
    return number
