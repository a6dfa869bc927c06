"""``npu_bridge.estimator.npu.npu_config``: run configuration and session configs."""

from __future__ import annotations

from enum import Enum
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from mxrec.tf.estimator import DumpConfig, NPURunConfig

__all__ = [
    "DumpConfig",
    "DynamicInputConfig",
    "ExperimentalConfig",
    "MemoryConfig",
    "NPURunConfig",
    "NpuExecutePlacement",
    "ProfilingConfig",
    "npu_config_proto",
    "npu_graph_options",
    "npu_optimizer_options",
    "npu_run_config_init",
    "npu_session_config_init",
]

_OPTIMIZER = "NpuOptimizer"
_v1 = tf.compat.v1


class _KeptOptions:
    """Options of the accelerator: kept as attributes, and without effect on the CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.__dict__.update(kwargs)


class ProfilingConfig(_KeptOptions):
    """What the accelerator would profile; use TensorFlow's profiler on the CPU."""


class DynamicInputConfig(_KeptOptions):
    """Shapes that the accelerator would compile for; all shapes work on the CPU."""


class MemoryConfig(_KeptOptions):
    """Memory of the accelerator."""


class ExperimentalConfig(_KeptOptions):
    """Experimental options of the accelerator."""


class NpuExecutePlacement(Enum):
    """Cores of the accelerator that an op would run on."""

    ALL = "all"
    CUBE = "cube"
    VECTOR = "vector"


def npu_config_proto(config_proto: Any = None) -> Any:
    """Returns the config of a Session as accelerator scripts want it; given ones are changed.

    Args:
        config_proto: a ``tf.compat.v1.ConfigProto``; anything else stands for a new one.
    """
    config = config_proto if isinstance(config_proto, _v1.ConfigProto) else _v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    if all(optimizer.name != _OPTIMIZER for optimizer in rewrite.custom_optimizers):
        rewrite.custom_optimizers.add().name = _OPTIMIZER
    config.allow_soft_placement = True
    config.log_device_placement = False
    rewrite.remapping = rewriter_config_pb2.RewriterConfig.OFF
    npu_optimizer_options(config.graph_options.optimizer_options)
    return config


def npu_session_config_init(session_config: Any = None) -> Any:
    """Returns ``npu_config_proto(session_config)``."""
    return npu_config_proto(session_config)


def npu_graph_options(graph_options: Any = None) -> Any:
    """Returns ``tf.compat.v1.GraphOptions`` without just-in-time compilation."""
    known = isinstance(graph_options, _v1.GraphOptions)
    options = graph_options if known else _v1.GraphOptions()
    npu_optimizer_options(options.optimizer_options)
    return options


def npu_optimizer_options(optimizer_options: Any = None) -> Any:
    """Returns ``tf.compat.v1.OptimizerOptions`` without just-in-time compilation."""
    known = isinstance(optimizer_options, _v1.OptimizerOptions)
    options = optimizer_options if known else _v1.OptimizerOptions()
    options.global_jit_level = _v1.OptimizerOptions.OFF
    return options


def npu_run_config_init(run_config: Any = None) -> Any:
    """Returns a copy of a run configuration whose Sessions have ``npu_config_proto``'s config.

    Args:
        run_config: a ``tf.estimator.RunConfig``; None: a new ``NPURunConfig``.

    Raises:
        ImportError: this TensorFlow has no ``tf.estimator``.
    """
    config = NPURunConfig() if run_config is None else run_config
    return config.replace(session_config=npu_config_proto(config.session_config))
