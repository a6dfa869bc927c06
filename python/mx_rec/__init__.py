"""Import paths of mxRec scripts; everything below is re-exported from ``mxrec``."""

from mxrec import __version__
from mxrec._mxrec import version

__all__ = ["__version__", "version"]
