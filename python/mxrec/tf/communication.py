"""Ranks. A training process is one rank by itself."""

from __future__ import annotations


def get_rank_id() -> int:
    """Returns the number of this rank, from 0."""
    return 0


def get_rank_size() -> int:
    """Returns the number of ranks."""
    return 1


def get_local_rank_size() -> int:
    """Returns the number of ranks on this machine."""
    return 1


def get_device_id() -> int:
    """Returns the number of this rank's device, from 0."""
    return 0
