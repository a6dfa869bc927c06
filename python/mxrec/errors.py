"""Exceptions of the engine that Python has no name for.

The others are Python's own: ``ValueError`` for a bad value, ``TypeError`` for a wrong type or
dtype, ``RuntimeError`` for a call at the wrong moment (a closed table), ``FileNotFoundError`` and
``OSError`` for files.
"""

from mxrec._mxrec import CapacityError, DataLossError

__all__ = ["CapacityError", "DataLossError"]
