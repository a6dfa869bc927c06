"""Which tables and dense variables ``vars_to_warm_start`` selects.

Dense variables are selected by TensorFlow's own function. A table is selected by its name, by a
regular expression that matches from the name's beginning, or as an object.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.training import warm_starting_util

from mxrec.tf.table import SparseTable, table_of_proxy

_KEYS = tf.compat.v1.GraphKeys
_MOST_NAMES = 20  # of what there is, in a message


@dataclasses.dataclass
class Selection:
    """What one source is to warm-start.

    Attributes:
        tables: in the order of the graph.
        variables: by name; the parts of a partitioned variable together.
        problems: why it cannot be.
    """

    tables: list[SparseTable] = dataclasses.field(default_factory=list)
    variables: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


def select(
    vars_to_warm_start: Any, tables: Sequence[SparseTable], vocabularies: Any = ()
) -> Selection:
    """Selects tables of the graph, and variables of the default graph.

    Args:
        vars_to_warm_start: None, a str, or a list of str or of variables, tables, and sparse
            variables.
        tables: of the graph.
        vocabularies: names of variables with a vocabulary; with None these alone are selected.
    """
    selected = Selection()
    if vars_to_warm_start is None:
        all_of_them = _variables(None)
        selected.variables = {n: v for n, v in all_of_them.items() if n in vocabularies}
        return selected
    if isinstance(vars_to_warm_start, (str, bytes)):
        pattern = tf.compat.as_text(vars_to_warm_start)
        _match(pattern, tables, pattern, _KEYS.TRAINABLE_VARIABLES, selected)
        return selected
    if not isinstance(vars_to_warm_start, (list, tuple)):
        selected.problems.append(
            f"vars_to_warm_start must be a str or a list of str or of variables, got "
            f"{vars_to_warm_start!r} ({type(vars_to_warm_start).__name__})"
        )
        return selected
    names = [item for item in vars_to_warm_start if isinstance(item, (str, bytes))]
    if names and len(names) < len(vars_to_warm_start):
        selected.problems.append(
            "vars_to_warm_start is a list of names and of objects; give names alone, or variables "
            "and tables alone"
        )
    elif names:
        for name in map(tf.compat.as_text, names):
            _match(name, tables, [name], _KEYS.GLOBAL_VARIABLES, selected)
    else:
        _take(vars_to_warm_start, tables, selected)
    selected.tables = [table for table in tables if table in selected.tables]
    return selected


def _match(
    pattern: str, tables: Sequence[SparseTable], scope: Any, collection: str, selected: Selection
) -> None:
    try:
        found = _matching_tables(pattern, tables)
        variables = _variables(scope)
    except re.error as error:
        selected.problems.append(
            f"vars_to_warm_start: {pattern!r} is neither a name nor a regular expression ({error})"
        )
        return
    if not found and not variables:
        selected.problems.append(
            f"vars_to_warm_start: {pattern!r} matches nothing; there are the tables "
            f"{listed(table.table_name for table in tables)} and the variables "
            f"{listed(_names_in(collection))}"
        )
    selected.tables += [table for table in found if table not in selected.tables]
    selected.variables.update(variables)


def _matching_tables(pattern: str, tables: Sequence[SparseTable]) -> list[SparseTable]:
    named = [table for table in tables if table.table_name == pattern]
    # A pattern means what checkpoints hold; whoever means another table names it.
    return named or [t for t in tables if t.is_save and re.match(pattern, t.table_name)]


def _take(items: Sequence[Any], tables: Sequence[SparseTable], selected: Selection) -> None:
    variables = []
    for item in items:
        table = item if isinstance(item, SparseTable) else table_of_proxy(item)
        if table is None:
            variables.append(item)
        elif table in tables:
            selected.tables.append(table)
        else:
            selected.problems.append(
                f"vars_to_warm_start: the table {table.table_name!r} is none of this graph; there "
                f"are {listed(t.table_name for t in tables)}"
            )
    try:
        selected.variables = warm_starting_util._get_grouped_variables(variables)
    except (TypeError, ValueError) as error:
        selected.problems.append(f"vars_to_warm_start: {error}")


def _variables(scope: Any) -> dict[str, list[Any]]:
    if tf.executing_eagerly():  # there are no collections
        return {}
    return dict(warm_starting_util._get_grouped_variables(scope))


def _names_in(collection: str) -> list[str]:
    if tf.executing_eagerly():
        return []
    return [variable.op.name for variable in tf.compat.v1.get_collection(collection)]


def listed(names: Any) -> str:
    """Some of the names, for a message."""
    quoted = [repr(name) for name in sorted(names)]
    if len(quoted) > _MOST_NAMES:
        quoted[_MOST_NAMES:] = [f"{len(quoted) - _MOST_NAMES} more"]
    return ", ".join(quoted) or "(none)"
