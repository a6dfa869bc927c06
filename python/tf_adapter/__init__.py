"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.estimator import DumpConfig, NPUEstimator, NPURunConfig, npu_hooks_append

__all__ = ["DumpConfig", "NPUEstimator", "NPURunConfig", "npu_hooks_append"]
