"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.host_pipeline_ops import import_host_pipeline_ops

__all__ = ["import_host_pipeline_ops"]
