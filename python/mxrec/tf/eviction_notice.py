"""A warning where tables have rules of eviction and nothing ever triggers it."""

from __future__ import annotations

from typing import Any

from mxrec.tf import graph_state
from mxrec.tf.access import is_elsewhere
from mxrec.tf.log import warn_once
from mxrec.tf.table import SparseTable

# Runs of a Session that takes no hooks before which nothing is said: who calls ``table.evict()``
# there has not come to it yet in the first ones.
RUNS_BEFORE_NOTICE = 100


def note_hook(graph: Any, enabled: bool) -> None:
    """Remembers that an ``EvictHook`` has begun in a graph.

    Args:
        graph: a tf.Graph.
        enabled: whether the hook triggers anything.
    """
    state = graph_state.state_of(graph)
    state.evict_hook = enabled or bool(state.evict_hook)


def before_run(graph: Any) -> None:
    """Warns, once per process and table, of trained tables from which nothing is evicted.

    In a monitored session all hooks have begun before the first run, which is where the warning
    comes. Any other Session can only be served by ``table.evict()``: there it comes after
    ``RUNS_BEFORE_NOTICE`` runs without a call.

    Args:
        graph: of a session that is about to run it.
    """
    state = graph_state.known_state_of(graph)
    if state is None or state.evict_hook or state.eviction_looked_at or not state.trained:
        return
    state.runs += 1
    # A monitored session finalizes its graph before it runs anything; hardly anyone else does.
    if not graph.finalized and state.runs <= RUNS_BEFORE_NOTICE:
        return
    state.eviction_looked_at = True
    for name in sorted(state.trained):
        table = state.tables[name]
        # In another process the chief may be the only one that has the hook.
        elsewhere = is_elsewhere(state.nodes[name].handle)
        if table.evicts and not table.was_triggered and not elsewhere:
            _warn(table, hook=state.evict_hook is not None)


def _warn(table: SparseTable, hook: bool) -> None:
    options = _options_of(table)
    warn_once(
        ("no trigger of eviction", table.table_name),
        "Table %r has %s, but %s, so its rows leave only when table.evict() is called. Unless your "
        "program calls it, add EvictHook(evict_enable=True, evict_time_interval=SECONDS) to the "
        "hooks of the Estimator or MonitoredTrainingSession, or leave %s out.",
        table.table_name,
        ", ".join(f"{name}={value}" for name, value in options.items()),
        "the EvictHook of its session has evict_enable=False"
        if hook
        else "no EvictHook is among the hooks of its session",
        ", ".join(options),
    )


def _options_of(table: SparseTable) -> dict[str, str]:
    """The rules of eviction in force, by the options that set them."""
    rules = table.engine.eviction
    options = {}
    if rules.max_age >= 0:
        options["eviction_threshold"] = str(rules.max_age)
    if rules.max_rows > 0:
        options["evict_max_rows"] = str(rules.max_rows)
    if rules.min_l2 > 0:
        options["evict_min_l2"] = f"{rules.min_l2:g}"
    return options
