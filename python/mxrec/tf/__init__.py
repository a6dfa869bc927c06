"""mxrec in TensorFlow: tables, lookups, optimizers, saving. Needs TensorFlow 2.15 to 2.21."""

from typing import TYPE_CHECKING, Any

# Loads the ops, and says which TensorFlow versions work if it cannot; so it comes first.
from mxrec.tf import ops  # isort: skip # noqa: F401

from mxrec.tf import (
    constants,
    eos_map,
    eviction_notice,
    gradients,  # noqa: F401
    hccl_ops,
    incremental_hook,
    npu_ops,
    optimizers,
    precision_mode,
    saver,
    sessions,
)
from mxrec.tf.asc_pipeline import get_asc_insert_func, start_asc_pipeline
from mxrec.tf.communication import get_device_id, get_rank_id, get_rank_size
from mxrec.tf.config import (
    ConfigInitializer,
    clear_channel,
    get_host_pipeline_ops,
    get_use_dynamic_expansion,
    init,
    set_if_load,
    terminate_config_initializer,
)
from mxrec.tf.constants import (
    ASCEND_SPARSE_LOOKUP_ID_OFFSET,
    ASCEND_SPARSE_LOOKUP_LOCAL_EMB,
    ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS,
    ASCEND_TIMESTAMP,
    ApplyGradientsStrategy,
    BaseEnum,
    CacheModeEnum,
)
from mxrec.tf.evict_hook import EvictHook
from mxrec.tf.export import export
from mxrec.tf.feature_spec import FeatureSpec
from mxrec.tf.host_pipeline_ops import import_host_pipeline_ops, return_timestamp, set_threshold
from mxrec.tf.log import logger
from mxrec.tf.lookup import grouped_lookup, sparse_lookup
from mxrec.tf.merge_lookup import do_merge_lookup
from mxrec.tf.rewrite import batches, derivatives, fetches
from mxrec.tf.rewrite.hooks import (
    ACGPushOpsToDatasetHook,
    GraphModifierHook,
    LookupSubgraphSlicerHook,
    OrphanLookupKeySlicerHook,
    modify_graph_and_start_emb_cache,
)
from mxrec.tf.rewrite.targets import get_initializer, get_target_batch
from mxrec.tf.saver import restore_tables, save_tables
from mxrec.tf.serving import builders
from mxrec.tf.serving.export import export_saved_model
from mxrec.tf.summary_hook import TableSummaryHook
from mxrec.tf.table import SparseTable, create_table, registered_tables, tables_of_graph
from mxrec.tf.variables import get_dense_and_sparse_variable
from mxrec.tf.warm_start import WarmStarted, WarmStartPath

if TYPE_CHECKING:
    from mxrec.tf.keras import Embedding, TableSummaryCallback

saver.install()
incremental_hook.install()
precision_mode.install()
sessions.install(fetches.before_run, eviction_notice.before_run)
fetches.install()
derivatives.install()
batches.install()
eos_map.install()
builders.install()

__all__ = [
    "ASCEND_SPARSE_LOOKUP_ID_OFFSET",
    "ASCEND_SPARSE_LOOKUP_LOCAL_EMB",
    "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS",
    "ASCEND_TIMESTAMP",
    "ACGPushOpsToDatasetHook",
    "ApplyGradientsStrategy",
    "BaseEnum",
    "CacheModeEnum",
    "ConfigInitializer",
    "Embedding",
    "EvictHook",
    "FeatureSpec",
    "GraphModifierHook",
    "LookupSubgraphSlicerHook",
    "OrphanLookupKeySlicerHook",
    "SparseTable",
    "TableSummaryCallback",
    "TableSummaryHook",
    "WarmStartPath",
    "WarmStarted",
    "clear_channel",
    "constants",
    "create_table",
    "do_merge_lookup",
    "export",
    "export_saved_model",
    "get_asc_insert_func",
    "get_dense_and_sparse_variable",
    "get_device_id",
    "get_host_pipeline_ops",
    "get_initializer",
    "get_rank_id",
    "get_rank_size",
    "get_target_batch",
    "get_use_dynamic_expansion",
    "grouped_lookup",
    "hccl_ops",
    "import_host_pipeline_ops",
    "init",
    "logger",
    "modify_graph_and_start_emb_cache",
    "npu_ops",
    "optimizers",
    "registered_tables",
    "restore_tables",
    "return_timestamp",
    "save_tables",
    "set_if_load",
    "set_threshold",
    "sparse_lookup",
    "start_asc_pipeline",
    "tables_of_graph",
    "terminate_config_initializer",
]

_OF_KERAS = ("Embedding", "TableSummaryCallback")


def __getattr__(name: str) -> Any:
    # Keras takes seconds to load, and who uses none must not wait for it.
    if name in _OF_KERAS:
        from mxrec.tf import keras

        return getattr(keras, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
