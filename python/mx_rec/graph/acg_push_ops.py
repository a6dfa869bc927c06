"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.unsupported import ACGPushOpsToDatasetHook

__all__ = ["ACGPushOpsToDatasetHook"]
