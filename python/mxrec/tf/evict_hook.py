"""EvictHook."""

from __future__ import annotations

import dataclasses
import time
import weakref
from typing import Any

import tensorflow as tf

from mxrec.tf import eviction_notice, graph_state, timestamps
from mxrec.tf.log import warn_once
from mxrec.tf.ops import library
from mxrec.tf.table import SparseTable, tables_of_graph
from mxrec.tf.validation import INT32_MAX, check_bool, check_float, check_int


@dataclasses.dataclass
class _Training:
    """What the hook does in one graph."""

    evict: list[Any]  # ops
    global_step: Any  # None: it does not matter
    last_time: float
    last_step: int = 0


class EvictHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """Triggers eviction while training, in Estimators and monitored sessions.

    At a trigger every table of the graph that has an ``eviction_threshold`` (or another rule of
    eviction) loses what is too old. Memory is freed little by little by the training lookups that
    follow. In a graph without training lookups the hook does nothing; one hook may be given to
    training and evaluation alike. A session that trains a table with such a rule and has no enabled
    hook gets a warning.

    Args:
        evict_enable: False: the hook does nothing.
        evict_time_interval: seconds between triggers, by the wall clock, in (0, 2^31).
        evict_step_interval: triggers when the global step has reached or passed another multiple
            of this, in [1, 2^31); None: by time alone.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range; from ``begin``: no table that is trained has a rule
            of eviction, a lookup of one that evicts by age has no timestamps although some feature
            is a timestamp, or ``evict_step_interval`` is given and the graph has no global step.
    """

    def __init__(
        self,
        evict_enable: bool = False,
        evict_time_interval: float = 86400,
        evict_step_interval: int | None = None,
    ) -> None:
        self._enabled = check_bool("evict_enable", evict_enable)
        self._seconds = check_float(
            "evict_time_interval", evict_time_interval, 0.0, float(INT32_MAX), open_low=True
        )
        self._steps = (
            None
            if evict_step_interval is None
            else check_int("evict_step_interval", evict_step_interval, 1, INT32_MAX)
        )
        # By graph: train_and_evaluate evaluates in the middle of training.
        self._trainings: weakref.WeakKeyDictionary[Any, _Training] = weakref.WeakKeyDictionary()

    def begin(self) -> None:
        """Adds the ops that evict to the graph."""
        graph = tf.compat.v1.get_default_graph()
        eviction_notice.note_hook(graph, self._enabled)
        trained = graph_state.state_of(graph).trained
        if not self._enabled or not trained:
            if self._enabled and not graph_state.state_of(graph).tables:
                warn_once(
                    ("EvictHook", id(graph)),
                    "EvictHook(evict_enable=True): the graph of this session has no table, so "
                    "nothing is evicted. Create and look up tables in the graph that the session "
                    "runs.",
                )
            return
        timestamps.bind_late(graph)
        tables = [
            table
            for table in tables_of_graph(graph)
            if table.table_name in trained and table.evicts
        ]
        if not tables:
            raise ValueError(
                "EvictHook(evict_enable=True): none of the trained tables "
                f"{', '.join(map(repr, sorted(trained)))} has a rule of eviction; give a lookup an "
                "eviction_threshold, or leave the hook out."
            )
        for table in tables:
            timestamps.check_bound(graph, table)
        global_step = None
        if self._steps is not None:
            global_step = tf.compat.v1.train.get_global_step()
            if global_step is None:
                raise ValueError(
                    f"EvictHook(evict_step_interval={self._steps}) needs a global step; call "
                    "tf.compat.v1.train.get_or_create_global_step(), or evict by time."
                )
        ops = [evict_op(table, budget=0) for table in tables]
        self._trainings[graph] = _Training(ops, global_step, time.monotonic())

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Takes down where training starts."""
        del coord
        training = self._trainings.get(session.graph)
        if training is not None and training.global_step is not None:
            training.last_step = int(session.run(training.global_step))

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step, where that counts."""
        training = self._trainings.get(run_context.session.graph)
        if training is None or training.global_step is None:
            return None
        return tf.compat.v1.train.SessionRunArgs(training.global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Triggers eviction where it is due."""
        session = run_context.session
        training = self._trainings.get(session.graph)
        if training is None:
            return
        due = time.monotonic() - training.last_time >= self._seconds
        if self._may_be_due(training, run_values):
            step = int(session.run(training.global_step))
            assert self._steps is not None
            # By the step itself, not by where the session began: training that goes on from a
            # checkpoint evicts when uninterrupted training does.
            due = due or step // self._steps > training.last_step // self._steps
            training.last_step = step
        if due:
            training.last_time = time.monotonic()
            session.run(training.evict)

    def _may_be_due(self, training: _Training, run_values: Any) -> bool:
        if self._steps is None:
            return False
        # The step may have been read before this run counted itself. A run that counts several
        # steps may be noticed by the run after it.
        step = int(run_values.results) + 1
        return step // self._steps > training.last_step // self._steps


def evict_op(table: SparseTable, now: Any = None, budget: Any = None) -> Any:
    """Returns the rows that a call of ``MxrecEvict`` frees: int64 scalar tensor."""
    nothing = tf.zeros([0], tf.int64)
    return library.mxrec_evict(
        table=table.nodes().handle,
        now=nothing if now is None else tf.cast(now, tf.int64),
        budget=nothing if budget is None else tf.cast(budget, tf.int64),
    )
