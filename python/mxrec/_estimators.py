"""Plain Estimators take lists of checkpoints to warm-start from, also in programs without mxrec.tf.

``import mxrec`` neither needs nor imports TensorFlow. So this waits for the module of the
Estimators, and has ``mxrec.tf`` imported by the first one that is given such a list.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

_MODULE = "tensorflow_estimator.python.estimator.estimator"


class _Watch:
    """A finder that finds nothing, and sees the module of the Estimators come."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        """Returns None: the other finders are to find the module."""
        del path, target
        if fullname == _MODULE:
            _cover_lists()


def install() -> None:
    """Has Estimators take lists, whether they are imported before or after. Idempotent."""
    if _MODULE in sys.modules:
        _cover_lists()
    elif _Watch not in sys.meta_path:
        sys.meta_path.insert(0, _Watch)


def _cover_lists() -> None:
    """Wraps ``tf.compat.v1.train.warm_start``, unless mxrec.tf does, or has done, so itself."""
    if "mxrec.tf" in sys.modules:
        return
    # The packages around the module of the Estimators have imported it.
    train = importlib.import_module("tensorflow").compat.v1.train
    train.warm_start = _covering_lists(train, train.warm_start)


def _covering_lists(train: Any, plain: Any) -> Any:
    @functools.wraps(plain)
    def warm_start(ckpt_to_initialize_from: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(ckpt_to_initialize_from, (list, tuple)):
            importlib.import_module("mxrec.tf")  # wraps this function by one that takes lists
            return train.warm_start(ckpt_to_initialize_from, *args, **kwargs)
        return plain(ckpt_to_initialize_from, *args, **kwargs)

    return warm_start
