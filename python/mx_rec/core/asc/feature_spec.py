"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.feature_spec import FeatureSpec

__all__ = ["FeatureSpec"]
