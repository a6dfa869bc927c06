"""Names that scripts use to find things in TensorFlow's collections, and enumerations."""

from __future__ import annotations

from enum import Enum
from typing import Any

ASCEND_TIMESTAMP = "ASCEND_TIMESTAMP"
ASCEND_SPARSE_LOOKUP_LOCAL_EMB = "ASCEND_SPARSE_LOOKUP_LOCAL_EMB"
ASCEND_SPARSE_LOOKUP_ID_OFFSET = "ASCEND_SPARSE_LOOKUP_ID_OFFSET"
ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS = "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS"
ASCEND_GLOBAL_HASHTABLE_COLLECTION = "ASCEND_GLOBAL_HASHTABLE_COLLECTION"

# Libraries that scripts name to import_host_pipeline_ops(...); all ops are in one here.
LIBREC_EOS_OPS_SO = "libeos_ops.so"
LIBREC_TF_REC_V1_CPU_SO = "libtf_rec_v1_cpu.so"


class BaseEnum(Enum):
    """An enumeration that is looked up by value."""

    @classmethod
    def mapping(cls, value: Any) -> BaseEnum:
        """Returns the member with this value.

        Args:
            value: a member's value.

        Raises:
            KeyError: no member has it.
        """
        for member in cls:
            if member.value == value:
                return member
        known = ", ".join(repr(member.value) for member in cls)
        raise KeyError(f"{cls.__name__} has no value {value!r}; it has {known}")


class ApplyGradientsStrategy(BaseEnum):
    """What becomes of several gradients of one key; both sum them."""

    DIRECT_APPLY = "direct_apply"
    SUM_SAME_ID_GRADIENTS_AND_APPLY = "sum_same_id_gradients_and_apply"


class All2allGradientsOp(BaseEnum):
    """How gradients of several ranks are combined."""

    SUM_GRADIENTS = "sum_gradients"
    SUM_GRADIENTS_AND_DIV_BY_RANKSIZE = "sum_gradients_and_div_by_ranksize"


class CacheModeEnum(BaseEnum):
    """Where the rows of a table are."""

    HBM = "HBM"
    DDR = "DDR"
    SSD = "SSD"
