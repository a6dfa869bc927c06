"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.optimizers.lazy_adam_by_addr import create_hash_optimizer_by_address

__all__ = ["create_hash_optimizer_by_address"]
