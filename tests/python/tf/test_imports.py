"""Every import path and name that existing scripts use."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import mxrec

NAMES = {
    "mx_rec": "version __version__",
    "mx_rec.util.initialize": (
        "init terminate_config_initializer ConfigInitializer get_initializer get_rank_id "
        "get_rank_size get_use_dynamic_expansion set_if_load clear_channel get_host_pipeline_ops"
    ),
    "mx_rec.core.embedding": "create_table sparse_lookup",
    "mx_rec.core.asc.feature_spec": "FeatureSpec",
    "mx_rec.core.asc.helper": "get_asc_insert_func FeatureSpec",
    "mx_rec.core.asc.manager": "start_asc_pipeline",
    "mx_rec.core.feature_process": "EvictHook",
    "mx_rec.graph.modifier": (
        "modify_graph_and_start_emb_cache GraphModifierHook LookupSubgraphSlicerHook "
        "OrphanLookupKeySlicerHook"
    ),
    "mx_rec.graph": (
        "modify_graph_and_start_emb_cache GraphModifierHook LookupSubgraphSlicerHook "
        "OrphanLookupKeySlicerHook"
    ),
    "mx_rec.graph.acg_push_ops": "ACGPushOpsToDatasetHook",
    "mx_rec.graph.merge_lookup": "do_merge_lookup",
    "mx_rec.optimizers.gradient_descent": "create_hash_optimizer",
    "mx_rec.optimizers.lazy_adam": "create_hash_optimizer",
    "mx_rec.optimizers.adagrad": "create_hash_optimizer",
    "mx_rec.optimizers.ftrl": "create_hash_optimizer",
    "mx_rec.optimizers.momentum": "create_hash_optimizer",
    "mx_rec.optimizers.gradient_descent_by_addr": "create_hash_optimizer_by_addr",
    "mx_rec.optimizers.lazy_adam_by_addr": "create_hash_optimizer_by_address",
    "mx_rec.optimizers.adagrad_by_addr": "create_hash_optimizer_by_address",
    "mx_rec.util.variable": "get_dense_and_sparse_variable",
    "mx_rec.util.ops": "import_host_pipeline_ops",
    "mx_rec.util.log": "logger",
    "mx_rec.util.tf_version_adapter": "npu_ops hccl_ops",
    "mx_rec.util.communication.hccl_ops": "get_rank_id get_rank_size get_device_id",
    "rec_sdk_common.communication.hccl.hccl_info": "get_rank_id get_rank_size get_device_id",
    "mx_rec.saver.sparse": "export",
    "mx_rec.constants.constants": (
        "ASCEND_TIMESTAMP ASCEND_SPARSE_LOOKUP_LOCAL_EMB ASCEND_SPARSE_LOOKUP_ID_OFFSET "
        "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS ApplyGradientsStrategy CacheModeEnum BaseEnum"
    ),
    "tf_adapter": "NPUEstimator NPURunConfig npu_hooks_append DumpConfig",
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_there(module: str) -> None:
    found = importlib.import_module(module)
    assert not [name for name in NAMES[module].split() if not hasattr(found, name)]


@pytest.mark.parametrize("module", ["mx_rec.core.embedding", "mx_rec.saver.sparse", "tf_adapter"])
def test_a_path_may_be_the_first_import(module: str) -> None:
    """Circular imports show only when a module is the first of its process."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=120)


def test_version() -> None:
    mx_rec = importlib.import_module("mx_rec")
    assert mx_rec.version() == mx_rec.__version__ == mxrec.__version__


def test_names_are_the_same_objects() -> None:
    hook = importlib.import_module("mx_rec.core.feature_process").EvictHook
    assert hook is importlib.import_module("mxrec.tf").EvictHook
    modifier = importlib.import_module("mx_rec.graph.modifier")
    graph = importlib.import_module("mx_rec.graph")
    assert graph.GraphModifierHook is modifier.GraphModifierHook
    spec = importlib.import_module("mx_rec.core.asc.feature_spec").FeatureSpec
    assert importlib.import_module("mx_rec.core.asc.helper").FeatureSpec is spec


def test_base_enum_maps_values() -> None:
    constants = importlib.import_module("mx_rec.constants.constants")
    strategy = constants.ApplyGradientsStrategy
    assert {member.value for member in strategy} == {
        "direct_apply",
        "sum_same_id_gradients_and_apply",
    }
    assert strategy.mapping("direct_apply").value == "direct_apply"
    assert issubclass(strategy, constants.BaseEnum)
    assert {member.name for member in constants.CacheModeEnum} == {"HBM", "DDR", "SSD"}
    with pytest.raises(KeyError):
        strategy.mapping("no such strategy")


def test_mx_rec_needs_no_cli_extras() -> None:
    code = (
        "import sys\n"
        "for extra in ('matplotlib', 'tqdm', 'rich'):\n"
        "    sys.modules[extra] = None\n"
        "import mxrec, mxrec.tf, mx_rec, mx_rec.util.initialize, tf_adapter\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
