"""Import paths only; the contents come from ``mxrec.tf``."""

# Scripts write rec_sdk_common.communication.hccl.hccl_info after "import rec_sdk_common".
from rec_sdk_common.communication.hccl import hccl_info as _hccl_info

del _hccl_info
