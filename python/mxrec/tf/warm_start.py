"""Keeps ``tf.compat.v1.train.warm_start`` from passing over embedding tables in silence.

Dense variables warm-start as ever. Tables cannot yet: selecting one is an error that says so.
Estimators (plain ones and NPUEstimator) come through here with their ``warm_start_from``.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import tensorflow as tf

from mxrec.tf.table import tables_of_graph
from mxrec.tf.unsupported import not_delivered

_INSTALLED = "_mxrec_checks_tables"


def install() -> None:
    """Wraps ``tf.compat.v1.train.warm_start`` for the whole process. Idempotent."""
    module = tf.compat.v1.train
    if getattr(module.warm_start, _INSTALLED, False):
        return
    module.warm_start = _checking(module.warm_start)


def selected_tables(vars_to_warm_start: Any, table_names: list[str]) -> list[str]:
    """Names of the tables that ``vars_to_warm_start`` selects, by TensorFlow's rules.

    Args:
        vars_to_warm_start: None, a regular expression, or a list of expressions or variables.
        table_names: the tables of the graph.
    """
    if vars_to_warm_start is None:
        return []
    single = isinstance(vars_to_warm_start, (str, bytes))
    patterns = [vars_to_warm_start] if single else list(vars_to_warm_start)
    expressions = [tf.compat.as_text(p) for p in patterns if isinstance(p, (str, bytes))]
    return [name for name in table_names if any(re.match(e, name) for e in expressions)]


def refuse_lists(ckpt_to_initialize_from: Any) -> None:
    """Raises NotImplementedError if several checkpoints are given.

    Args:
        ckpt_to_initialize_from: as in ``tf.estimator.WarmStartSettings``.
    """
    if isinstance(ckpt_to_initialize_from, (list, tuple)):
        raise not_delivered(
            "warm start from several checkpoints",
            f"ckpt_to_initialize_from={ckpt_to_initialize_from!r}",
            "name one path",
        )


def _checking(warm_start: Any) -> Any:
    @functools.wraps(warm_start)
    def checked_warm_start(
        ckpt_to_initialize_from: Any,
        vars_to_warm_start: Any = ".*",
        var_name_to_vocab_info: Any = None,
        var_name_to_prev_var_name: Any = None,
    ) -> Any:
        refuse_lists(ckpt_to_initialize_from)
        names = [t.table_name for t in tables_of_graph(tf.compat.v1.get_default_graph())]
        selected = selected_tables(vars_to_warm_start, names)
        selected += [n for n in names if n in (var_name_to_prev_var_name or {})]
        if selected:
            raise not_delivered(
                "warm start of tables",
                f"vars_to_warm_start={vars_to_warm_start!r} selects the embedding table "
                f"{', '.join(map(repr, dict.fromkeys(selected)))}",
                "select dense variables only (a regular expression or a list), or restore the "
                "whole checkpoint",
            )
        return warm_start(
            ckpt_to_initialize_from,
            vars_to_warm_start,
            var_name_to_vocab_info,
            var_name_to_prev_var_name,
        )

    setattr(checked_warm_start, _INSTALLED, True)
    return checked_warm_start
