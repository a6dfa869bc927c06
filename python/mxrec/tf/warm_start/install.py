"""Has ``tf.compat.v1.train.warm_start`` cover tables and lists of checkpoints.

Estimators, plain ones and NPUEstimator, come through it with their ``warm_start_from``, at the
first start of a ``model_dir`` alone. Nothing changes for one path in a graph without tables.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from mxrec.tf.warm_start import running
from mxrec.tf.warm_start.settings import sources_of

_INSTALLED = "_mxrec_covers_tables"


def install() -> None:
    """Wraps ``tf.compat.v1.train.warm_start`` for the whole process. Idempotent."""
    module = tf.compat.v1.train
    if not getattr(module.warm_start, _INSTALLED, False):
        module.warm_start = _covering(module.warm_start)


def _covering(dense_warm_start: Any) -> Any:
    @functools.wraps(dense_warm_start)
    def warm_start(
        ckpt_to_initialize_from: Any,
        vars_to_warm_start: Any = ".*",
        var_name_to_vocab_info: Any = None,
        var_name_to_prev_var_name: Any = None,
    ) -> Any:
        settings = (
            ckpt_to_initialize_from,
            vars_to_warm_start,
            var_name_to_vocab_info,
            var_name_to_prev_var_name,
        )
        if not running.tables_here() and not isinstance(ckpt_to_initialize_from, (list, tuple)):
            return dense_warm_start(*settings)
        running.run(sources_of(*settings))
        return None

    setattr(warm_start, _INSTALLED, True)
    return warm_start
