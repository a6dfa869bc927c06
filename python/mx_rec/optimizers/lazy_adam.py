"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.optimizers.lazy_adam import create_hash_optimizer

__all__ = ["create_hash_optimizer"]
