"""Import paths only; the contents come from ``mxrec.tf``."""

from mxrec.tf.communication import get_rank_id, get_rank_size
from mxrec.tf.config import (
    ConfigInitializer,
    clear_channel,
    get_host_pipeline_ops,
    get_use_dynamic_expansion,
    init,
    set_if_load,
    terminate_config_initializer,
)
from mxrec.tf.rewrite.targets import get_initializer

__all__ = [
    "ConfigInitializer",
    "clear_channel",
    "get_host_pipeline_ops",
    "get_initializer",
    "get_rank_id",
    "get_rank_size",
    "get_use_dynamic_expansion",
    "init",
    "set_if_load",
    "terminate_config_initializer",
]
