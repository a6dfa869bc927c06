"""``npu_bridge.estimator.npu.npu_plugin``: the accelerator's life cycle and memory."""

from __future__ import annotations

from typing import Any

from mxrec.compat.absent import absent
from mxrec.tf.validation import check_choice

__all__ = [
    "get_rdma_cache",
    "get_var_addr_and_size",
    "init_rdma_pool",
    "is_inf_nan_enabled",
    "malloc_shared_memory",
    "npu_close",
    "npu_resource_init",
    "npu_resource_shutdown",
    "rdma_remote_init",
    "rdma_remote_register",
    "set_device_sat_mode",
]

_PLACE = "npu_bridge.estimator.npu.npu_plugin"


def npu_resource_init(**options: Any) -> None:
    """Accepts the options of the accelerator; there is nothing to start."""
    del options


def npu_resource_shutdown() -> None:
    """Does nothing: nothing was started."""


def npu_close() -> None:
    """Does nothing: nothing was started."""


def set_device_sat_mode(mode: int) -> None:
    """Accepts the mode of overflow; floats of the CPU overflow to infinity, which is mode 1.

    Args:
        mode: 0 (saturate) or 1 (infinity and NaN).

    Raises:
        ValueError: another mode.
    """
    check_choice("mode", str(mode), ("0", "1"))


def is_inf_nan_enabled() -> bool:
    """Returns whether floats overflow to infinity: they do."""
    return True


get_rdma_cache = absent(_PLACE, "get_rdma_cache")
get_var_addr_and_size = absent(_PLACE, "get_var_addr_and_size")
init_rdma_pool = absent(_PLACE, "init_rdma_pool")
malloc_shared_memory = absent(_PLACE, "malloc_shared_memory")
rdma_remote_init = absent(_PLACE, "rdma_remote_init")
rdma_remote_register = absent(_PLACE, "rdma_remote_register")
