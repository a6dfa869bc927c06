"""Loads the TensorFlow ops of the engine. Importing this module needs TensorFlow.

``library`` has one function per op of bindings/tf.
"""

from __future__ import annotations

import os
from typing import Any

_SUPPORTED = "TensorFlow 2.15 to 2.21"

try:
    import tensorflow as tf
except ImportError as error:
    raise ImportError(
        f"mxrec.tf needs {_SUPPORTED}, which is not installed here ({error}); "
        "run: pip install 'mxrec[tensorflow]'. import mxrec works without it."
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
            f"are {_SUPPORTED}. The reason: {error}"
        ) from error


library = _load()
