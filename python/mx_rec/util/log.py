"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.log import logger

__all__ = ["logger"]
