"""Import paths only; the contents come from ``mxrec.tf``."""

# Scripts write mx_rec.util.communication.hccl_ops after "import mx_rec.util".
from mx_rec.util.communication import hccl_ops as _hccl_ops

del _hccl_ops
