"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.variables import get_dense_and_sparse_variable

__all__ = ["get_dense_and_sparse_variable"]
