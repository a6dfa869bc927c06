"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.merge_lookup import do_merge_lookup

__all__ = ["do_merge_lookup"]
