"""Warm start: tables and dense variables begin with what other models have learnt.

``settings`` reads what the user asks for, ``checkpoints`` what a source holds, ``selection`` and
``plan`` say what goes where and check it, ``running`` does it, ``install`` has
``tf.compat.v1.train.warm_start``, and with it every Estimator, do it.
"""

from mxrec.tf.warm_start.install import install
from mxrec.tf.warm_start.report import WarmStarted
from mxrec.tf.warm_start.running import warm_start
from mxrec.tf.warm_start.settings import WarmStartPath, check_settings

__all__ = ["WarmStartPath", "WarmStarted", "check_settings", "install", "warm_start"]
