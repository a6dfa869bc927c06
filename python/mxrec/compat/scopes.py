"""``npu_bridge.estimator.npu.npu_scope``: hints to the accelerator's compiler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = [
    "disable_autofuse",
    "keep_dtype_scope",
    "keep_tensor_scope",
    "npu_mem_type_scope",
    "npu_recompute_scope",
    "npu_stage_scope",
    "npu_variable_scope",
    "npu_weight_prefetch_scope",
    "op_specified_engine_scope",
    "subgraph_multi_dims_scope",
    "without_npu_compile_scope",
]


@contextlib.contextmanager
def _no_hint(*args: Any, **kwargs: Any) -> Iterator[None]:
    """A scope that changes nothing: the hint is for the accelerator's compiler."""
    del args, kwargs
    yield


disable_autofuse = _no_hint
keep_dtype_scope = _no_hint
keep_tensor_scope = _no_hint
npu_mem_type_scope = _no_hint
npu_recompute_scope = _no_hint
npu_stage_scope = _no_hint
npu_variable_scope = _no_hint
npu_weight_prefetch_scope = _no_hint
op_specified_engine_scope = _no_hint
subgraph_multi_dims_scope = _no_hint
without_npu_compile_scope = _no_hint
