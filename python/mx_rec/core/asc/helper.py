"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.asc_pipeline import get_asc_insert_func
from mxrec.tf.feature_spec import FeatureSpec

__all__ = ["FeatureSpec", "get_asc_insert_func"]
