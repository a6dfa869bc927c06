"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.lookup import sparse_lookup
from mxrec.tf.table import create_table

__all__ = ["create_table", "sparse_lookup"]
