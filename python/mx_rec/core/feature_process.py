"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.evict_hook import EvictHook

__all__ = ["EvictHook"]
