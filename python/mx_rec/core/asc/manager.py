"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.asc_pipeline import start_asc_pipeline

__all__ = ["start_asc_pipeline"]
