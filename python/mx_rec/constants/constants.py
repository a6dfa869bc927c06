"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.constants import (
    ASCEND_SPARSE_LOOKUP_ID_OFFSET,
    ASCEND_SPARSE_LOOKUP_LOCAL_EMB,
    ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS,
    ASCEND_TIMESTAMP,
    ApplyGradientsStrategy,
    BaseEnum,
    CacheModeEnum,
)

__all__ = [
    "ASCEND_SPARSE_LOOKUP_ID_OFFSET",
    "ASCEND_SPARSE_LOOKUP_LOCAL_EMB",
    "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS",
    "ASCEND_TIMESTAMP",
    "ApplyGradientsStrategy",
    "BaseEnum",
    "CacheModeEnum",
]
