"""The accelerator's Estimator, run configuration and hook list, on plain ``tf.estimator``.

Needs a TensorFlow with ``tf.estimator`` (2.15 or earlier) as soon as ``NPUEstimator`` or
``NPURunConfig`` is used; importing this module works on all.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mxrec.tf import precision_mode
from mxrec.tf.log import logger
from mxrec.tf.summary_hook import GovernedTableSummaryHook, TableSummaryHook
from mxrec.tf.warm_start import check_settings

# Options of the accelerator that existing scripts pass. They are kept, and all but
# op_precision_mode mean nothing on the CPU; any other name that RunConfig does not know is kept as
# well, with a warning, because it is likely misspelt.
ACCELERATOR_OPTIONS = frozenset(
    """
    HCCL_algorithm accelerate_train_mode aicore_num all_tensor_not_empty aoe_config_file aoe_mode
    atomic_clean_policy auto_multistream_parallel_mode auto_tune_mode buffer_optimize
    compress_weight_conf customize_dtypes deterministic device_type distribute_config dump_config
    dynamic_dims dynamic_graph_execute_mode dynamic_input dynamic_inputs_shape_range
    dynamic_node_type enable_compress_weight enable_data_pre_proc enable_exception_dump
    enable_reduce_precision enable_scope_fusion_passes enable_small_channel es_cluster_config
    event_sync_timeout execute_times experimental_config export_compile_stat external_weight
    frozen_variable fusion_switch_file graph_compiler_cache_dir graph_max_parallel_model_num
    graph_memory_max_size graph_memory_optimize_config graph_run_mode hcom_multi_mode
    hcom_parallel horovod_mode input_batch_cpy input_fusion_size input_shape
    is_tailing_optimization iterations_per_loop jit_compile local_device_list local_rank_id
    logical_device_cluster_deploy_mode logical_device_id memory_config memory_optimization_policy
    mix_compile_mode model_deploy_config model_deploy_devicelist model_deploy_mode modify_mixlist
    oo_constant_folding oo_level op_compiler_cache_dir op_compiler_cache_mode op_debug_config
    op_debug_level op_execute_timeout op_precision_mode op_select_implmode op_tune_mode
    op_wait_timeout optypelist_for_implmode precision_mode precision_mode_v2 profiling_config
    quant_dumpable session_device_id static_memory_policy stream_max_parallel_num
    stream_sync_timeout topo_sorting_mode variable_format_optimize variable_location
    variable_memory_max_size work_path
    """.split()  # noqa: SIM905
)


class DumpConfig:
    """What the accelerator would dump of each operator; kept, and without effect on the CPU."""

    def __init__(
        self,
        enable_dump: bool = False,
        dump_path: str | None = None,
        dump_step: str | None = None,
        dump_mode: str = "output",
        enable_dump_debug: bool = False,
        dump_debug_mode: str = "all",
        dump_data: str = "tensor",
        dump_layer: str | None = None,
    ) -> None:
        self.enable_dump = enable_dump
        self.dump_path = dump_path
        self.dump_step = dump_step
        self.dump_mode = dump_mode
        self.enable_dump_debug = enable_dump_debug
        self.dump_debug_mode = dump_debug_mode
        self.dump_data = dump_data
        self.dump_layer = dump_layer


def npu_hooks_append(
    hooks_list: Sequence[Any] | None = None, is_tailing_optimization: bool = False
) -> list[Any]:
    """Returns the list of hooks, an empty one for None; there is no hook to add on the CPU.

    Args:
        hooks_list: the session run hooks of the script.
        is_tailing_optimization: accepted for the accelerator's sake.

    Raises:
        TypeError: an element is no ``SessionRunHook``.
    """
    del is_tailing_optimization
    hooks = hooks_list if isinstance(hooks_list, list) else list(hooks_list or ())
    for hook in hooks:
        if not isinstance(hook, tf.compat.v1.train.SessionRunHook):
            raise TypeError(
                f"hooks_list must hold tf.compat.v1.train.SessionRunHook objects, got {hook!r} "
                f"({type(hook).__name__})."
            )
    return hooks


def require_estimator(user: str) -> Any:
    """Returns ``tf.estimator``.

    Args:
        user: what needs it, for the message.

    Raises:
        ImportError: this TensorFlow has none.
    """
    estimator = getattr(tf, "estimator", None)
    if estimator is None:
        raise ImportError(
            f"{user} needs tf.estimator, which TensorFlow has up to version 2.15; this is "
            f"TensorFlow {tf.__version__}. Install tensorflow==2.15.1 (Python 3.11 or earlier, "
            "numpy<2), or train in a Session."
        )
    return estimator


class _MissingEstimator:
    """Stands in for a class that this TensorFlow has no base for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        require_estimator(type(self).__name__)


_ESTIMATOR = getattr(tf, "estimator", None)
_EstimatorBase: Any = _ESTIMATOR.Estimator if _ESTIMATOR else _MissingEstimator
_RunConfigBase: Any = _ESTIMATOR.RunConfig if _ESTIMATOR else _MissingEstimator


class NPURunConfig(_RunConfigBase):  # type: ignore[misc]
    """A ``tf.estimator.RunConfig`` that keeps the accelerator's options.

    Every option reads as an attribute (``config.precision_mode``), survives ``replace`` and
    ``copy.deepcopy``, and is listed in ``accelerator_options``.
    """

    def __init__(
        self,
        iterations_per_loop: int = 1,
        profiling_config: Any = None,
        model_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Args of ``RunConfig`` by name, and any of ``ACCELERATOR_OPTIONS``.

        Args:
            iterations_per_loop: steps that the accelerator would run per call; 1 or more. The CPU
                runs one.
            profiling_config: kept.
            model_dir: as in ``RunConfig``.
            **kwargs: other arguments of ``RunConfig``, and options to keep. ``op_precision_mode``,
                the path of an ``op_impl_mode.ini``, takes effect when the Estimator makes its
                Sessions (docs/gather-modes.md); the others have no effect on the CPU.

        Raises:
            ImportError: this TensorFlow has no ``tf.estimator``.
            ValueError: an argument is out of its range, or the file of ``op_precision_mode`` has a
                line that is not valid.
        """
        require_estimator("NPURunConfig")
        if isinstance(iterations_per_loop, bool) or not isinstance(iterations_per_loop, int):
            raise TypeError(
                f"iterations_per_loop must be an int, got {iterations_per_loop!r} "
                f"({type(iterations_per_loop).__name__})."
            )
        if iterations_per_loop < 1:
            raise ValueError(f"iterations_per_loop must be >= 1, got {iterations_per_loop}.")
        own = _run_config_parameters()
        base = {name: value for name, value in kwargs.items() if name in own}
        options = {name: value for name, value in kwargs.items() if name not in own}
        options.update(iterations_per_loop=iterations_per_loop, profiling_config=profiling_config)
        # Before the base class: it may call replace.
        self._accelerator_options: dict[str, Any] = {}
        self._named_session_config: tuple[Any, Any, Any] = (None, None, None)
        self._keep(options)
        super().__init__(model_dir=model_dir, **base)

    @property
    def accelerator_options(self) -> dict[str, Any]:
        """The options beyond those of ``RunConfig``, by name."""
        return dict(self._accelerator_options)

    @property
    def session_config(self) -> Any:
        """The ``ConfigProto`` of Sessions; with ``op_precision_mode``, a copy that names the file.

        None until an Estimator fills in its default, as in ``RunConfig``.
        """
        given = super().session_config
        path = self._accelerator_options.get(precision_mode.OPTION)
        if given is None or not path:
            return given
        # One copy for each: distribution strategies write into the object that they read here.
        source, named, copy = self._named_session_config
        if source is not given or named != path:
            copy = precision_mode.with_path(given, path)
            self._named_session_config = (given, path, copy)
        return copy

    def __getattr__(self, name: str) -> Any:
        # Reached for names that are not there: the options. copy.deepcopy asks before any is set.
        options = self.__dict__.get("_accelerator_options", {})
        if name in options:
            return options[name]
        if name in ACCELERATOR_OPTIONS:
            return None
        raise AttributeError(f"{type(self).__name__} has no option {name!r}.")

    def replace(self, **kwargs: Any) -> Any:
        """A copy with some values replaced, those of the accelerator included.

        Args:
            **kwargs: as in ``RunConfig.replace``, and options to keep.
        """
        own = _run_config_parameters()
        result = super().replace(**{n: v for n, v in kwargs.items() if n in own})
        result._keep({n: v for n, v in kwargs.items() if n not in own})
        return result

    def _keep(self, options: dict[str, Any]) -> None:
        unknown = sorted(options.keys() - ACCELERATOR_OPTIONS)
        if unknown:
            logger.warning(
                "NPURunConfig: unknown options %s are kept and have no effect.", ", ".join(unknown)
            )
        if options.get(precision_mode.OPTION):
            precision_mode.check(options[precision_mode.OPTION])
        self._accelerator_options.update(options)


class _SummarizingEstimator(_EstimatorBase):  # type: ignore[misc]
    """Adds summaries of tables to training.

    A class of its own: TensorFlow refuses instances of a class that itself overrides ``train``.
    """

    def train(
        self,
        input_fn: Any,
        hooks: Sequence[Any] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Any = None,
    ) -> Any:
        """Trains, as ``tf.estimator.Estimator.train`` does.

        Tables with admission or eviction write summaries every ``save_summary_steps`` of the
        configuration (``mxrec.tf.TableSummaryHook``), unless ``hooks`` has such a hook.

        Args:
            input_fn: as there, and so are the others.
            hooks: session run hooks.
            steps: steps to train.
            max_steps: total steps.
            saving_listeners: called around checkpoints.

        Returns:
            The estimator.
        """
        hooks = list(hooks or ())
        steps_between = self.config.save_summary_steps
        has_one = any(isinstance(hook, TableSummaryHook) for hook in hooks)
        if steps_between and self.config.is_chief and not has_one:
            hooks.append(GovernedTableSummaryHook(steps_between, self.model_dir))
        return super().train(input_fn, hooks, steps, max_steps, saving_listeners)


class NPUEstimator(_SummarizingEstimator):
    """A ``tf.estimator.Estimator`` under the name that accelerator scripts use.

    While it trains, tables with admission or eviction write summaries
    (``mxrec.tf.TableSummaryHook``).
    """

    def __init__(
        self,
        model_fn: Any = None,
        model_dir: str | None = None,
        config: Any = None,
        params: dict[str, Any] | None = None,
        job_start_file: str = "",
        warm_start_from: Any = None,
    ) -> None:
        """Args of ``tf.estimator.Estimator``.

        Args:
            model_fn: the model function.
            model_dir: directory of checkpoints and events.
            config: a ``RunConfig`` or ``NPURunConfig``.
            params: passed to ``model_fn``.
            job_start_file: accepted for the accelerator's sake.
            warm_start_from: a path or ``tf.estimator.WarmStartSettings``, whose elements may be
                parallel lists; for tables and dense variables, at the first start of ``model_dir``
                (docs/warm-start.md).

        Raises:
            ImportError: this TensorFlow has no ``tf.estimator``.
            TypeError: an element of ``warm_start_from`` has the wrong type.
            ValueError: its lists differ in length; when training starts, if the warm start cannot
                be: the message lists every reason.
        """
        require_estimator("NPUEstimator")
        del job_start_file
        check_settings(warm_start_from)
        super().__init__(
            model_fn=model_fn,
            model_dir=model_dir,
            config=config,
            params=params,
            warm_start_from=warm_start_from,
        )


def _run_config_parameters() -> frozenset[str]:
    """Names of ``RunConfig.__init__``'s parameters."""
    return frozenset(inspect.signature(_RunConfigBase.__init__).parameters) - {"self"}
