"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.export import export

__all__ = ["export"]
