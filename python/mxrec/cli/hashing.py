"""Stable 64-bit keys for categorical strings, computed for whole arrays at once.

The same bytes give the same key in every process, on every machine and in arrays of every item
width. Keys have no reserved values: an empty string is a key like any other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WORD = 8
_SEED = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def mix64(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spreads the bits of each word over all 64 bits (the finalizer of SplitMix64, a bijection).

    Args:
        words: uint64 array of any shape.

    Returns:
        A new uint64 array of the same shape.
    """
    mixed = words ^ (words >> np.uint64(30))
    mixed *= _MULTIPLY_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MULTIPLY_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_bytes(values: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
    """Hashes an array of byte strings.

    Args:
        values: array of any shape with a NumPy ``S`` dtype.

    Returns:
        int64 keys of the same shape.

    Raises:
        TypeError: when ``values`` does not have an ``S`` dtype.
    """
    if values.dtype.kind != "S":
        raise TypeError(f"values has dtype {values.dtype}; hash_bytes takes byte strings (dtype S)")
    width = max(_WORD, -(-values.dtype.itemsize // _WORD) * _WORD)
    padded = np.ascontiguousarray(values.astype(f"S{width}", copy=False))
    # Little-endian on purpose: the key must not depend on the machine.
    words = padded.view("<u8").reshape(*values.shape, width // _WORD).astype(np.uint64, copy=False)
    state = mix64(words[..., 0] + _SEED)
    for position in range(1, words.shape[-1]):
        word = words[..., position]
        # Zero words are padding: skipping them makes the key independent of the array's item width.
        state = np.where(word == 0, state, mix64((state ^ word) + _SEED))
    keys: npt.NDArray[np.int64] = state.view(np.int64)
    return keys
