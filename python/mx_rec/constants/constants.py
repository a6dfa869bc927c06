"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.constants import (
    ASCEND_SPARSE_LOOKUP_ID_OFFSET,
    ASCEND_SPARSE_LOOKUP_LOCAL_EMB,
    ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS,
    ASCEND_TIMESTAMP,
    LIBREC_EOS_OPS_SO,
    LIBREC_TF_REC_V1_CPU_SO,
    ApplyGradientsStrategy,
    BaseEnum,
    CacheModeEnum,
)

__all__ = [
    "ASCEND_SPARSE_LOOKUP_ID_OFFSET",
    "ASCEND_SPARSE_LOOKUP_LOCAL_EMB",
    "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS",
    "ASCEND_TIMESTAMP",
    "LIBREC_EOS_OPS_SO",
    "LIBREC_TF_REC_V1_CPU_SO",
    "ApplyGradientsStrategy",
    "BaseEnum",
    "CacheModeEnum",
]
