"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.unsupported import EvictHook

__all__ = ["EvictHook"]
