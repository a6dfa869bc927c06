"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf import hccl_ops, npu_ops

__all__ = ["hccl_ops", "npu_ops"]
