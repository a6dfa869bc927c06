"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.rewrite.hooks import ACGPushOpsToDatasetHook

__all__ = ["ACGPushOpsToDatasetHook"]
