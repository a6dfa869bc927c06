"""Life cycle and settings of the library in a process: init, terminate, ConfigInitializer."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

from mxrec import _mxrec
from mxrec.checkpoints import saving
from mxrec.runtime import DEFAULT_GATHER_MODE, set_gather_mode
from mxrec.tf import constants, graph_state, grouping
from mxrec.tf.host_pipeline_ops import import_host_pipeline_ops
from mxrec.tf.log import forget_warnings, logger
from mxrec.tf.rewrite import targets
from mxrec.tf.validation import INT32_MAX, check_bool, check_choice, check_int, check_str, unknown

_STEPS = ("max_steps", "train_steps", "eval_steps", "save_steps")
_FLAGS = {
    "if_load": False,
    "use_dynamic": True,
    "use_dynamic_expansion": False,
    "bind_cpu": True,
    "use_mpi": True,
    "use_hot": True,
    "use_lccl": False,
    "group_lookups": True,
    "is_incremental_checkpoint": False,
}
_INTERVALS = ("save_checkpoint_due_time", "save_delta_checkpoints_secs")
_SAVE_FAILURES = ("raise", "continue")


class TrainParamsConfig:
    """Settings of the training graphs."""

    def __init__(self) -> None:
        self._collection = constants.ASCEND_GLOBAL_HASHTABLE_COLLECTION

    @property
    def ascend_global_hashtable_collection(self) -> str:
        """Name of the graph collection that holds the sparse variables of new tables."""
        return self._collection

    @ascend_global_hashtable_collection.setter
    def ascend_global_hashtable_collection(self, name: str) -> None:
        self._collection = check_str("ascend_global_hashtable_collection", name)

    def get_initializer(self, is_training: bool) -> Any:
        """Returns the initializer of the rewritten iterator: ``mxrec.tf.get_initializer``."""
        return targets.get_initializer(is_training)

    def get_target_batch(self, is_training: bool) -> Any:
        """Returns the batch of the rewritten iterator of the default graph.

        Args:
            is_training: of the iterator that feeds training lookups; False: other lookups.
        """
        return targets.get_target_batch(is_training)


@dataclasses.dataclass
class ConfigInitializer:
    """What ``init`` was given. There is one at a time, from ``init`` to ``terminate...``."""

    max_steps: int
    train_steps: int
    eval_steps: int
    save_steps: int
    if_load: bool
    use_dynamic: bool
    use_dynamic_expansion: bool
    bind_cpu: bool
    use_mpi: bool
    use_hot: bool
    use_lccl: bool
    group_lookups: bool
    is_incremental_checkpoint: bool
    save_checkpoint_due_time: int | None
    save_delta_checkpoints_secs: int | None
    restore_model_version: int | None
    recent_key_count_threshold: int
    on_save_failure: str
    train_params_config: TrainParamsConfig = dataclasses.field(default_factory=TrainParamsConfig)

    @property
    def timestamp_specs(self) -> list[Any]:
        """FeatureSpecs with is_timestamp=True, in the order in which they came."""
        return _timestamp_specs

    @property
    def host_pipeline_ops(self) -> ModuleType:
        """The module with ``set_threshold`` and ``return_timestamp``."""
        return import_host_pipeline_ops()

    @staticmethod
    def get_instance() -> ConfigInitializer:
        """Returns the settings.

        Raises:
            RuntimeError: ``init`` has not been called.
        """
        if _instance is None:
            raise RuntimeError(
                "mxrec is not initialized; call init(...) before anything else, and again after "
                "terminate_config_initializer()."
            )
        return _instance


_instance: ConfigInitializer | None = None


def is_initialized() -> bool:
    """Returns whether ``init`` was called, and ``terminate_config_initializer`` not since."""
    return _instance is not None


def current() -> ConfigInitializer | None:
    """Returns the settings; None outside of ``init`` and ``terminate_config_initializer``."""
    return _instance


def init(**kwargs: Any) -> None:
    """Initializes the library.

    Args:
        **kwargs: ``max_steps``, ``train_steps``, ``eval_steps``, ``save_steps`` (-1: until the data
            ends; the first three not all 0), ``if_load``, ``use_dynamic`` (True: the number of
            different ids may differ from step to step; False: training lookups with
            ``send_count`` have that many), ``use_dynamic_expansion`` (True: tables grow without
            limit in memory; False: they have the rows that their sizes say;
            docs/dynamic-shape-and-expansion.md has both), ``bind_cpu``, ``use_mpi``,
            ``use_hot`` (True: tables keep copies of the rows that are read most; speed only,
            results are the same), ``use_lccl``,
            ``group_lookups`` (True: what a step looks up in all tables, and what it updates, is
            one op each; ``Session.partial_run`` needs False; see ``mxrec.tf.grouping``),
            ``is_incremental_checkpoint`` (True: Estimator and MonitoredTrainingSession save full
            checkpoints every ``save_checkpoint_due_time`` seconds and deltas every
            ``save_delta_checkpoints_secs``; docs/incremental-checkpoints.md),
            ``restore_model_version`` (the step that is restored instead of the newest; None: the
            newest), ``recent_key_count_threshold`` (keys that were seen less often since the last
            save are left out of a delta), ``on_save_failure`` ("raise": a timed save that fails
            ends training; "continue": it is a warning, and the next one makes up for it). Others
            are ignored with a warning.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range.
        RuntimeError: the library is initialized.
    """
    global _instance
    if _instance is not None:
        raise RuntimeError(
            "init was called before; call terminate_config_initializer() first to start again."
        )
    settings = _checked(dict(kwargs))
    _mxrec.set_thread_binding(settings["bind_cpu"])
    _instance = ConfigInitializer(**settings)
    if settings["group_lookups"]:
        grouping.install()


def _checked(kwargs: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        name: check_int(name, kwargs.pop(name, -1), -1, INT32_MAX) for name in _STEPS
    }
    if all(settings[name] == 0 for name in _STEPS[:3]):
        raise ValueError(
            "max_steps, train_steps and eval_steps must not all be 0; use -1 to run until the "
            "data ends."
        )
    for name, default in _FLAGS.items():
        settings[name] = check_bool(name, kwargs.pop(name, default))
    for name in _INTERVALS:
        value = kwargs.pop(name, None)
        settings[name] = None if value is None else check_int(name, value, 1, INT32_MAX)
    version = kwargs.pop("restore_model_version", None)
    settings["restore_model_version"] = (
        None if version is None else check_int("restore_model_version", version, 0, INT32_MAX)
    )
    settings["recent_key_count_threshold"] = check_int(
        "recent_key_count_threshold", kwargs.pop("recent_key_count_threshold", 0), 0, INT32_MAX
    )
    settings["on_save_failure"] = check_choice(
        "on_save_failure", kwargs.pop("on_save_failure", "raise"), _SAVE_FAILURES
    )
    if settings["is_incremental_checkpoint"]:
        _check_intervals(settings)
    if kwargs:
        logger.warning("init: unknown arguments are ignored: %s", unknown(kwargs, list(settings)))
    return settings


def _check_intervals(settings: dict[str, Any]) -> None:
    for name in _INTERVALS:
        if settings[name] is None:
            raise ValueError(
                f"{name} must be given with is_incremental_checkpoint=True, in [1, {INT32_MAX}] "
                "seconds."
            )
    full, delta = (settings[name] for name in _INTERVALS)
    if delta >= full:
        raise ValueError(
            f"save_delta_checkpoints_secs must be less than save_checkpoint_due_time={full}, got "
            f"{delta}."
        )


# A script may make its FeatureSpecs before init, and use them again after terminate and another
# init. Those that came between two starts belong together: each keeps the list of timestamps among
# them, which count from when one of them is used.
_timestamp_specs: list[Any] = []


def note_spec(spec: Any) -> list[Any]:
    """Notes a new FeatureSpec.

    Returns:
        The timestamps among the FeatureSpecs that it belongs to; see ``use_specs``.
    """
    if spec.is_timestamp:
        _timestamp_specs.append(spec)
    return _timestamp_specs


def use_specs(together: list[Any]) -> None:
    """Says that the script uses FeatureSpecs, perhaps ones of before ``terminate...``.

    Args:
        together: what ``note_spec`` returned; these are timestamps of batches from now on.
    """
    if together is not _timestamp_specs:
        _timestamp_specs.extend(spec for spec in together if spec not in _timestamp_specs)


def terminate_config_initializer() -> None:
    """Releases every table, the worker threads and their binding, and takes back the gather mode.

    Idempotent; ``init`` works again afterwards. The number of threads is the user's and stays:
    calls that want them, of ``mxrec.Table`` too, start them again.
    """
    global _instance, _timestamp_specs
    from mxrec.tf import restore_version, table  # they need this module

    with saving.turn():  # a save that is under way comes first
        table.release_all()
    restore_version.forget()
    graph_state.next_epoch()
    forget_warnings()
    set_gather_mode(DEFAULT_GATHER_MODE)
    if _instance is not None:
        _instance = None
        _timestamp_specs = []  # not before init, for which they may have been made
        _mxrec.set_thread_binding(False)
        _mxrec.end_threads()


def get_use_dynamic_expansion() -> bool:
    """Returns whether tables grow without limit."""
    return ConfigInitializer.get_instance().use_dynamic_expansion


def set_if_load(if_load: bool) -> None:
    """Says whether a trained model is loaded.

    Args:
        if_load: the new setting.
    """
    ConfigInitializer.get_instance().if_load = check_bool("if_load", if_load)


def clear_channel(is_train_channel: bool = False) -> None:
    """Empties the queue of prepared batches; there is none between input and step here.

    Args:
        is_train_channel: the training queue instead of the evaluation queue.
    """
    check_bool("is_train_channel", is_train_channel)


def get_host_pipeline_ops() -> ModuleType:
    """Returns the module with ``set_threshold`` and ``return_timestamp``."""
    return import_host_pipeline_ops()
