"""``hccl.split.api``: how gradients are cut for the exchange between ranks; with one, nothing."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["set_split_strategy_by_idx", "set_split_strategy_by_size"]


def set_split_strategy_by_idx(idxList: Sequence[int], group: str = "hccl_world_group") -> None:
    """Accepts positions at which gradients would be cut."""
    del idxList, group


def set_split_strategy_by_size(
    dataSizeList: Sequence[float], group: str = "hccl_world_group"
) -> None:
    """Accepts percentages by which gradients would be cut."""
    del dataSizeList, group
