"""``npu_device.compat``: TensorFlow 1 programs on TensorFlow 2."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mxrec.compat.config import npu_config_proto

__all__ = ["SessionConfigBuilder", "enable_v1"]


def enable_v1() -> None:
    """Has TensorFlow behave as version 1: graphs, Sessions, its control flow and shapes."""
    tf.compat.v1.disable_v2_behavior()


class SessionConfigBuilder:
    """The config of a Session, and the accelerator's options in it.

    Args:
        config: a ``tf.compat.v1.ConfigProto``, which is changed; None: a new one.

    Attributes:
        session_config: the config.
    """

    def __init__(self, config: Any = None) -> None:
        self.session_config = npu_config_proto(config)

    @property
    def parameter_map(self) -> Any:
        """The accelerator's options in the config."""
        return self.session_config.graph_options.rewrite_options.custom_optimizers[-1].parameter_map
