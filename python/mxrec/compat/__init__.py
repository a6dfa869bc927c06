"""Names of the accelerator's own packages, for scripts that import them.

Scripts written for the accelerator import ``npu_bridge``, ``npu_device``, ``hccl`` and ``mpi4py``
beside ``mx_rec``: for dropout, hooks, optimizer wrappers, session configs and ranks. Where these
packages are not installed, ``install()`` makes the imports work, and ``python -m mxrec.run
script.py`` does so without a line in the script. What has a meaning on one process without an
accelerator does what stock TensorFlow does; what has none raises an error that says so where it is
used (docs/compat.md).
"""

from __future__ import annotations

from mxrec.compat.finder import install, uninstall

__all__ = ["install", "uninstall"]
