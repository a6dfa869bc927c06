"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.feature_spec import FeatureSpec
from mxrec.tf.unsupported import get_asc_insert_func

__all__ = ["FeatureSpec", "get_asc_insert_func"]
