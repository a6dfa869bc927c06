"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.optimizers.gradient_descent_by_addr import create_hash_optimizer_by_addr

__all__ = ["create_hash_optimizer_by_addr"]
