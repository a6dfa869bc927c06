"""Embedding tables that grow, for recommendation models.

This is the interface for numpy arrays; it needs no TensorFlow. ``mxrec.tf`` puts the same tables
into TensorFlow programs.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mxrec import _estimators
from mxrec._fields import integer
from mxrec._mxrec import num_threads
from mxrec._mxrec import set_num_threads as _set_num_threads
from mxrec._mxrec import version as _version
from mxrec.admission import Admission, Eviction
from mxrec.checkpoints.catalog import Version
from mxrec.checkpoints.numbered import Save, prune, restore, save, versions
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
from mxrec.tiers import TierFigures, tier_advice, tier_figures

if TYPE_CHECKING:
    from mxrec.tf.warm_start import WarmStartPath as WarmStartPath
    from mxrec.tf.warm_start import warm_start as warm_start

__version__: str = _version()

_estimators.install()

# Need TensorFlow, which is imported when one of them is asked for; so they are not in __all__.
_OF_TENSORFLOW = {"WarmStartPath": "mxrec.tf.warm_start", "warm_start": "mxrec.tf.warm_start"}

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
    "Save",
    "Table",
    "TierFigures",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "Version",
    "Zeros",
    "__version__",
    "gather_mode",
    "num_threads",
    "prune",
    "restore",
    "save",
    "set_gather_mode",
    "set_num_threads",
    "stats",
    "tier_advice",
    "tier_figures",
    "versions",
]


if not TYPE_CHECKING:  # type checkers would take any name for one of the module

    def __getattr__(name: str) -> Any:
        if name not in _OF_TENSORFLOW:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_OF_TENSORFLOW[name]), name)


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
