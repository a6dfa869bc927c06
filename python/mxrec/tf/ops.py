"""Loads the TensorFlow ops of the engine. Importing this module needs TensorFlow.

``library`` has one function per op of bindings/tf.
"""

from __future__ import annotations

import os
from typing import Any

from mxrec.tf.log import logger

_OLDEST, _NEWEST = (2, 15), (2, 21)
_SUPPORTED = "TensorFlow 2.15 to 2.21"
_REMEDY = "Install one: pip install 'tensorflow-cpu>=2.15,<2.22'."

try:
    import tensorflow as tf
except ImportError as error:
    raise ImportError(
        f"mxrec.tf needs {_SUPPORTED}, which is not installed here ({error}); "
        "run, in a checkout of mxrec: pip install '.[tensorflow]'. import mxrec works without it."
    ) from error


LIBRARY_PATH = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_mxrec_tf.so"
)


def _load() -> Any:
    # First the extension module: both share libmxrec_core.so and with it the tables.
    from mxrec import _mxrec  # noqa: F401

    try:
        return tf.load_op_library(LIBRARY_PATH)
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise ImportError(
            f"mxrec's ops ({LIBRARY_PATH}) do not load into TensorFlow {tf.__version__}; supported "
            f"are {_SUPPORTED}. {_REMEDY} The reason: {error}"
        ) from error


def _check_version() -> None:
    version = tuple(int(part) for part in tf.__version__.split(".")[:2])
    if version < _OLDEST:
        raise ImportError(
            f"mxrec.tf needs {_SUPPORTED}; this is TensorFlow {tf.__version__}, which is too old. "
            f"{_REMEDY}"
        )
    if version > _NEWEST:
        logger.warning(
            "TensorFlow %s is newer than mxrec is tested with, which is %s. Should something fail, "
            "install one of these: pip install 'tensorflow-cpu>=2.15,<2.22'.",
            tf.__version__,
            _SUPPORTED,
        )


_check_version()
library = _load()
