"""Embedding tables that grow, for recommendation models.

This is the interface for numpy arrays; it needs no TensorFlow. ``mxrec.tf`` puts the same tables
into TensorFlow programs.
"""

from mxrec._fields import integer
from mxrec._mxrec import num_threads
from mxrec._mxrec import set_num_threads as _set_num_threads
from mxrec._mxrec import version as _version
from mxrec.admission import Admission, Eviction
from mxrec.errors import CapacityError, DataLossError
from mxrec.initializers import (
    Constant,
    Initializer,
    Normal,
    Ones,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    Zeros,
)
from mxrec.optimizers import SGD, Adagrad, Ftrl, LazyAdam, Momentum, Optimizer
from mxrec.runtime import gather_mode, set_gather_mode, stats
from mxrec.table import ApplyResult, Table

__version__: str = _version()

__all__ = [
    "SGD",
    "Adagrad",
    "Admission",
    "ApplyResult",
    "CapacityError",
    "Constant",
    "DataLossError",
    "Eviction",
    "Ftrl",
    "Initializer",
    "LazyAdam",
    "Momentum",
    "Normal",
    "Ones",
    "Optimizer",
    "Table",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "Zeros",
    "__version__",
    "gather_mode",
    "num_threads",
    "set_gather_mode",
    "set_num_threads",
    "stats",
]


def set_num_threads(n: int) -> None:
    """Sets how many threads work on a batch, for all tables of this process.

    Results do not depend on it. The default is the number of processors that this process may use.

    Args:
        n: In [1, 1024]; the calling thread counts.

    Raises:
        TypeError: ``n`` is no integer.
        ValueError: ``n`` is out of its range.
    """
    _set_num_threads(integer("n", n, 1, 1024))
