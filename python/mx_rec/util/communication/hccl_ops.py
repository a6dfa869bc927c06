"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.communication import get_device_id, get_local_rank_size, get_rank_id, get_rank_size

__all__ = ["get_device_id", "get_local_rank_size", "get_rank_id", "get_rank_size"]
