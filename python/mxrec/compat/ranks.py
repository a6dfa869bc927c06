"""``hccl.manage.api``: ranks and groups. A training process is the only rank of its only group."""

from __future__ import annotations

from mxrec.tf.communication import get_rank_id as _rank_id
from mxrec.tf.communication import get_rank_size as _rank_size
from mxrec.tf.validation import check_int

__all__ = [
    "create_group",
    "destroy_group",
    "get_group_rank_from_world_rank",
    "get_local_rank_id",
    "get_local_rank_size",
    "get_rank_id",
    "get_rank_size",
    "get_world_rank_from_group_rank",
]

_WORLD = "hccl_world_group"


def create_group(group: str, rank_num: int, rank_ids: list[int]) -> None:
    """Accepts a group of this one rank.

    Args:
        group: its name.
        rank_num: number of ranks in it: 1.
        rank_ids: the ranks: [0].

    Raises:
        ValueError: the group has another rank than 0.
    """
    if rank_num != 1 or list(rank_ids) != [0]:
        raise ValueError(
            f"create_group({group!r}): there is one rank, 0; got rank_num={rank_num}, "
            f"rank_ids={rank_ids!r}."
        )


def destroy_group(group: str) -> None:
    """Does nothing: groups hold nothing.

    Args:
        group: its name.
    """
    del group


def get_rank_size(group: str = _WORLD) -> int:
    """Returns the number of ranks in a group."""
    del group
    return _rank_size()


def get_local_rank_size(group: str = _WORLD) -> int:
    """Returns the number of ranks in a group that are on this machine."""
    return get_rank_size(group)


def get_rank_id(group: str = _WORLD) -> int:
    """Returns the number of this rank in a group."""
    del group
    return _rank_id()


def get_local_rank_id(group: str = _WORLD) -> int:
    """Returns the number of this rank among those of this machine."""
    return get_rank_id(group)


def get_world_rank_from_group_rank(group: str, group_rank_id: int) -> int:
    """Returns the rank in the world of a rank in a group."""
    del group
    return check_int("group_rank_id", group_rank_id, 0, get_rank_size() - 1)


def get_group_rank_from_world_rank(world_rank_id: int, group: str) -> int:
    """Returns the rank in a group of a rank in the world."""
    del group
    return check_int("world_rank_id", world_rank_id, 0, get_rank_size() - 1)
