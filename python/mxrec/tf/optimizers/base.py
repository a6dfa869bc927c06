"""What the optimizers have in common: grouping of gradients by table, one update per key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from mxrec import _mxrec
from mxrec.tf import graph_state, timestamps
from mxrec.tf.log import warn_once
from mxrec.tf.ops import library
from mxrec.tf.optimizers.targets import Update, update_for
from mxrec.tf.table import SparseTable
from mxrec.tf.validation import check_bool, check_float, check_str
from mxrec.tf.variables import all_sparse_variables

MAX_LEARNING_RATE = 10.0


# TensorFlow is untyped.
class SparseOptimizer(tf.compat.v1.train.Optimizer):  # type: ignore[misc]
    """Optimizer of embedding tables. The update runs in the engine, once per unique key and step.

    Args:
        kind: the engine's name of the update.
        learning_rate: a number in [0, 10] (of a tensor only that it is finite and not negative can
            be checked, when the step runs), a scalar tensor or variable, a callable without
            arguments that returns one, or a Keras learning rate schedule.
        name: name of the optimizer and scope of its ops.
        use_locking: accepted; updates are always consistent.
        **hyperparameters: further fields of the engine's options.
    """

    def __init__(
        self,
        kind: str,
        learning_rate: Any,
        name: str,
        use_locking: bool = False,
        **hyperparameters: Any,
    ) -> None:
        super().__init__(check_bool("use_locking", use_locking), check_str("name", name))
        self._learning_rate = _checked_rate(learning_rate)
        if isinstance(self._learning_rate, float):
            hyperparameters["learning_rate"] = self._learning_rate
        self._hyperparameters = hyperparameters
        self._options = _mxrec.OptimizerOptions(kind, **hyperparameters)

    @property
    def options(self) -> Any:
        """The engine's options: the kind and the hyperparameters."""
        return self._options

    @property
    def learning_rate(self) -> Any:
        """The learning rate as it was given."""
        return self._learning_rate

    @property
    def _lr(self) -> Any:
        """The learning rate, by the name that ``tf.compat.v1.train.AdamOptimizer`` has for it.

        Programs scale it before they apply gradients (``opt._lr = opt._lr / loss_scale``). What a
        callable returns is a tensor or number; a schedule is as it was given. Assignment changes
        the updates that are built, or in eager mode run, from then on.
        """
        rate = self._learning_rate
        if callable(rate) and not _is_tensor(rate) and not hasattr(rate, "get_config"):
            return rate()
        return rate

    @_lr.setter
    def _lr(self, rate: Any) -> None:
        self._learning_rate = _checked_rate(rate)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those fields of the options that were given."""
        return dict(self._hyperparameters)

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = tf.compat.v1.train.Optimizer.GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Any:
        """Computes gradients and applies them.

        Args:
            loss: scalar tensor; in eager mode a callable that returns one.
            global_step: variable that counts the steps.
            var_list: sparse variables; default: those of all tables of the graph.
            gate_gradients: as in ``tf.compat.v1.train.Optimizer``.
            aggregation_method: as there.
            colocate_gradients_with_ops: as there.
            name: of the returned operation.
            grad_loss: gradient of the loss.

        Returns:
            The operation of one step.
        """
        grads_and_vars = self.compute_gradients(
            loss,
            var_list,
            gate_gradients,
            aggregation_method,
            colocate_gradients_with_ops,
            grad_loss,
        )
        return self.apply_gradients(grads_and_vars, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = tf.compat.v1.train.Optimizer.GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """Returns (gradient, sparse variable) pairs; the arguments are those of ``minimize``."""
        if callable(loss):
            with tf.GradientTape() as tape:
                value = loss()
            variables = all_sparse_variables() if var_list is None else list(var_list)
            return list(zip(tape.gradient(value, variables, grad_loss), variables, strict=True))
        variables = all_sparse_variables() if var_list is None else var_list
        pairs: list[tuple[Any, Any]] = super().compute_gradients(
            loss,
            variables,
            gate_gradients,
            aggregation_method,
            colocate_gradients_with_ops,
            grad_loss,
        )
        return pairs

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Any, Any]], global_step: Any = None, name: Any = None
    ) -> Any:
        """Updates the tables, each row once.

        Args:
            grads_and_vars: pairs of a gradient and a sparse variable, or of a gradient of local
                embeddings and their addresses or unique keys. Pairs whose gradient is None are
                skipped.
            global_step: variable to increment after the update.
            name: of the returned operation.

        Returns:
            The operation of the step; in eager mode None.

        Raises:
            TypeError: ``grads_and_vars`` has something else than pairs, or a pair's second is
                neither a sparse variable nor an int64 tensor.
            ValueError: the table of a tensor cannot be found, or another optimizer of this graph
                updates a table with other hyperparameters; only learning rates may differ.
        """
        if not tf.executing_eagerly():
            timestamps.bind_late(tf.compat.v1.get_default_graph())
        pairs = [pair for pair in _pairs_of(grads_and_vars) if pair[0] is not None]
        if not pairs:
            warn_once(
                ("no gradients", self.get_name()),
                "%s: apply_gradients got no gradient; no table is updated.",
                self.get_name(),
            )
        with tf.compat.v1.name_scope(name or self.get_name()) as scope:
            return _finish(self.update(pairs, global_step), global_step, scope)

    def update(self, grads_and_vars: Iterable[tuple[Any, Any]], step: Any = None) -> list[Any]:
        """Updates the tables as ``apply_gradients`` does, and counts no step.

        Args:
            grads_and_vars: as there, without gradients that are None.
            step: for a learning rate that is a schedule: scalar; None: the global step.

        Returns:
            The operations; in eager mode they have run and there are none.
        """
        groups: dict[str, list[Update]] = {}
        for grad, target in grads_and_vars:
            update = update_for(grad, target)
            groups.setdefault(update.table.table_name, []).append(update)
        if not groups:
            return []
        rate = self._rate_now(step)
        tables = [self._merged(updates) for updates in groups.values()]
        return [op for op in _apply(tables, rate) if op is not None]

    def _merged(self, updates: list[Update]) -> Update:
        """All updates of one table as one; binds the optimizer to the table."""
        table = updates[0].table
        if len({update.by for update in updates}) > 1:
            raise ValueError(
                f"grads_and_vars has both addresses and keys of table {table.table_name!r}; pass "
                "one kind, so that each row is updated once."
            )
        self.bind(table)
        return Update(
            table,
            updates[0].by,
            _concat([update.rows for update in updates]),
            _concat([update.grads for update in updates]),
            any(update.carried_by_user for update in updates),
        )

    def bind(self, table: SparseTable) -> None:
        """Makes this the optimizer that ops of the table use; its rows get the slots for it.

        Raises:
            ValueError: another optimizer of this graph updates the table.
            RuntimeError: the table is trained by one of another kind.
        """
        # An op takes the learning rate as input and all else from the table when it runs: what is
        # bound last rules every op of the graph.
        optimizers = graph_state.state_here().optimizers
        earlier = optimizers.get(table.table_name)
        if earlier is not None and not self._differs_in_rate_only(earlier):
            raise ValueError(
                f"Table {table.table_name!r} is updated by {earlier!r} in this graph and cannot be "
                f"updated by {self._options!r} too; only learning rates may differ. Use equal "
                "hyperparameters, or another graph."
            )
        if not self._differs_in_rate_only(table.engine.optimizer):
            table.engine.bind_optimizer(self._options)
        if not tf.executing_eagerly():  # an eager update has run before the next one binds
            optimizers.setdefault(table.table_name, self._options)

    def _differs_in_rate_only(self, other: Any) -> bool:
        if other.kind != self._options.kind:
            return False
        rate = {"learning_rate": other.learning_rate}
        same: bool = other == _mxrec.OptimizerOptions(
            other.kind, **{**self._hyperparameters, **rate}
        )
        return same

    def _rate_now(self, global_step: Any) -> Any:
        rate = self._learning_rate
        if callable(rate) and not _is_tensor(rate):
            rate = _call_rate(rate, global_step)
        if not _is_tensor(rate):
            rate = check_float("learning_rate", rate, 0.0, MAX_LEARNING_RATE)
        tensor = tf.cast(tf.convert_to_tensor(rate), tf.float32)
        if tensor.shape.rank not in (None, 0):
            raise ValueError(f"learning_rate must be a scalar, got shape {tensor.shape}.")
        return tensor


def _pairs_of(grads_and_vars: Any) -> list[tuple[Any, Any]]:
    wanted = (
        "grads_and_vars must be pairs of a gradient and a sparse variable, such as "
        "list(zip(tf.gradients(loss, sparse_variables), sparse_variables)), got "
    )
    if tf.is_tensor(grads_and_vars) or not isinstance(grads_and_vars, Iterable):
        raise TypeError(f"{wanted}{grads_and_vars!r} ({type(grads_and_vars).__name__}).")
    pairs = []
    for number, pair in enumerate(grads_and_vars):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{wanted}{pair!r} ({type(pair).__name__}) at position {number}.")
        pairs.append((pair[0], pair[1]))
    return pairs


def _is_tensor(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, tf.Variable)


def _checked_rate(rate: Any) -> Any:
    if callable(rate) or _is_tensor(rate):
        return rate
    return check_float("learning_rate", rate, 0.0, MAX_LEARNING_RATE)


def _call_rate(rate: Callable[..., Any], global_step: Any) -> Any:
    if not hasattr(rate, "get_config"):
        return rate()
    step = tf.compat.v1.train.get_global_step() if global_step is None else global_step
    if step is None:
        raise ValueError(
            "learning_rate is a schedule, which needs a step; pass global_step to apply_gradients."
        )
    return rate(tf.convert_to_tensor(step))


def _apply(updates: list[Update], rate: Any) -> list[Any]:
    """Ops of one step of each table: one for all tables, where they can share it."""
    shared: dict[Any, list[Update]] = {}
    for number, update in enumerate(updates):
        alone = update.by == "keys" or not update.table.grouped
        # Tables of several parameter servers are updated where they are.
        place = number if alone else (update.table.nodes().handle.device, update.carried_by_user)
        shared.setdefault(place, []).append(update)
    return [_apply_together(together, rate) for together in shared.values()]


def _apply_together(updates: list[Update], rate: Any) -> Any:
    first = updates[0]
    handles = [update.table.nodes().handle for update in updates]
    if first.by == "keys":
        return library.mxrec_apply_keys(
            table=handles[0], keys=first.rows, grads=first.grads, learning_rate=rate
        )
    stale = "reject" if first.carried_by_user else "fall_back"
    if len(updates) == 1:
        return library.mxrec_apply_addresses(
            table=handles[0],
            addresses=first.rows,
            grads=first.grads,
            learning_rate=rate,
            stale=stale,
        )
    return library.mxrec_grouped_apply_addresses(
        tables=handles,
        addresses=[update.rows for update in updates],
        grads=[update.grads for update in updates],
        learning_rates=[rate] * len(updates),
        stale=stale,
    )


def _concat(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)


def _finish(applied: list[Any], global_step: Any, scope: str) -> Any:
    if tf.executing_eagerly():
        if global_step is not None:
            global_step.assign_add(tf.ones([], global_step.dtype))
        return None
    if global_step is None:
        train_op = tf.group(*applied, name=scope)
    else:
        with tf.control_dependencies(applied):
            one = tf.ones([], global_step.dtype)
            train_op = tf.compat.v1.assign_add(global_step, one, name=scope)
            train_op = getattr(train_op, "op", train_op)
    if not hasattr(tf.compat.v1.get_default_graph(), "outer_graph"):
        train_ops = tf.compat.v1.get_collection_ref(tf.compat.v1.GraphKeys.TRAIN_OP)
        if train_op not in train_ops:
            train_ops.append(train_op)
    return train_op
