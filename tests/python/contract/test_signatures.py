"""Names, order and defaults of parameters, as existing scripts pass them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import tensorflow as tf

NONE = None
# Module, name, parameters in order with their defaults; "..." stands for no default. Parameters
# beyond these may follow if they have defaults.
SIGNATURES: dict[str, dict[str, Any]] = {
    "mx_rec.core.embedding.create_table": {
        "key_dtype": ...,
        "dim": ...,
        "name": ...,
        "emb_initializer": ...,
        "device_vocabulary_size": 1,
        "host_vocabulary_size": 0,
        "ssd_vocabulary_size": 0,
        "ssd_data_path": NONE,
        "is_save": True,
        "is_dp": False,
        "init_param": 1.0,
        "all2all_gradients_op": "sum_gradients",
    },
    "mx_rec.core.embedding.sparse_lookup": {
        "hashtable": ...,
        "ids": ...,
        "send_count": NONE,
        "is_train": True,
        "name": NONE,
        "modify_graph": False,
        "batch": NONE,
        "access_and_evict_config": NONE,
        "is_grad": True,
        "serving_default_value": NONE,
    },
    "mx_rec.core.asc.feature_spec.FeatureSpec": {
        "name": ...,
        "table_name": NONE,
        "index_key": NONE,
        "access_threshold": NONE,
        "eviction_threshold": NONE,
        "is_timestamp": False,
        "batch_size": NONE,
        "faae_coefficient": 1,
        "feat_count": NONE,
    },
    "mx_rec.core.asc.helper.get_asc_insert_func": {
        "tgt_key_specs": NONE,
        "args_index_list": NONE,
        "table_names": NONE,
        "is_training": True,
        "dump_graph": False,
    },
    "mx_rec.core.asc.manager.start_asc_pipeline": {},
    "mx_rec.core.feature_process.EvictHook": {
        "evict_enable": False,
        "evict_time_interval": 86400,
        "evict_step_interval": NONE,
    },
    "mx_rec.graph.modifier.modify_graph_and_start_emb_cache": {
        "full_graph": NONE,
        "dump_graph": False,
    },
    "mx_rec.graph.modifier.GraphModifierHook": {"dump_graph": False, "modify_graph": True},
    "mx_rec.graph.modifier.LookupSubgraphSlicerHook": {"op_types": ...},
    "mx_rec.graph.modifier.OrphanLookupKeySlicerHook": {},
    "mx_rec.graph.acg_push_ops.ACGPushOpsToDatasetHook": {"dump_graph": False},
    "mx_rec.graph.merge_lookup.do_merge_lookup": {"is_train": True},
    "mx_rec.saver.sparse.export": {"table_list": NONE},
    "mx_rec.util.initialize.get_initializer": {"is_training": ...},
    "mx_rec.util.initialize.set_if_load": {"if_load": ...},
    "mx_rec.optimizers.gradient_descent.create_hash_optimizer": {
        "learning_rate": ...,
        "use_locking": False,
        "name": "GradientDescent",
        "use_fusion_optim": False,
        "weight_decay": NONE,
    },
    "mx_rec.optimizers.gradient_descent_by_addr.create_hash_optimizer_by_addr": {
        "learning_rate": ...,
        "weight_decay": 0.0001,
        "use_locking": False,
        "name": "GradientDescentByAddr",
    },
    "mx_rec.optimizers.lazy_adam.create_hash_optimizer": {
        "learning_rate": 0.001,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "name": "LazyAdam",
        "use_fusion_optim": False,
    },
    "mx_rec.optimizers.lazy_adam_by_addr.create_hash_optimizer_by_address": {
        "learning_rate": 0.001,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "name": "LazyAdamByAddress",
    },
    "mx_rec.optimizers.adagrad.create_hash_optimizer": {
        "learning_rate": 0.001,
        "initial_accumulator_value": 0.9,
        "use_locking": False,
        "name": "Adagrad",
    },
    "mx_rec.optimizers.adagrad_by_addr.create_hash_optimizer_by_address": {
        "learning_rate": 0.001,
        "initial_accumulator_value": 0.9,
        "name": "Adagrad",
    },
    "mx_rec.optimizers.ftrl.create_hash_optimizer": {
        "learning_rate": ...,
        "use_locking": False,
        "name": "Ftrl",
    },
    "mx_rec.optimizers.momentum.create_hash_optimizer": {
        "learning_rate": ...,
        "momentum": ...,
        "use_nesterov": False,
        "name": "Momentum",
    },
    "mx_rec.util.initialize.clear_channel": {"is_train_channel": False},
    "mx_rec.util.initialize.terminate_config_initializer": {},
    "mx_rec.util.variable.get_dense_and_sparse_variable": {},
    "mxrec.tf.host_pipeline_ops.set_threshold": {
        "threshold": NONE,
        "emb_name": NONE,
        "ids_name": NONE,
    },
    "mxrec.tf.host_pipeline_ops.return_timestamp": {"x": ...},
    "mxrec.tf.hccl_ops.allreduce": {"tensor": ..., "reduction": "sum"},
    "mxrec.tf.npu_ops.dropout": {"x": ..., "keep_prob": ...},
    "tf_adapter.npu_hooks_append": {"hooks_list": NONE},
    "tf_adapter.DumpConfig": {"enable_dump": False, "dump_path": NONE},
}
# Parameters that scripts pass by name, wherever they stand.
BY_NAME = {
    "mx_rec.core.embedding.create_table": (
        "enable_merge padding_keys padding_keys_mask padding_keys_len value_dtype shard_num "
        "fusion_optimizer_var hashtable_threshold optimizer_list"
    ),
}


def parameters_of(path: str) -> dict[str, inspect.Parameter]:
    module, _, name = path.rpartition(".")
    found = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    return {
        name: parameter
        for name, parameter in found.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


@pytest.mark.parametrize("path", SIGNATURES)
def test_parameters(path: str) -> None:
    wanted = SIGNATURES[path]
    found = parameters_of(path)
    assert list(found)[: len(wanted)] == list(wanted)
    for name, default in wanted.items():
        assert found[name].default == (inspect.Parameter.empty if default is ... else default), name
    for name in list(found)[len(wanted) :]:
        assert found[name].default is not inspect.Parameter.empty, name


@pytest.mark.parametrize("path", BY_NAME)
def test_parameters_by_name(path: str) -> None:
    assert not set(BY_NAME[path].split()) - set(parameters_of(path))
    assert parameters_of(path)["value_dtype"].default is tf.float32


def test_saver_takes_two_more_parameters() -> None:
    importlib.import_module("mx_rec.core.embedding")
    save = inspect.signature(tf.compat.v1.train.Saver.save).parameters
    assert save["is_incremental_checkpoint"].default is False
    assert save["save_delta"].default is False


def test_accepting_any_keyword() -> None:
    for path in ("mx_rec.util.initialize.init", "mx_rec.core.embedding.sparse_lookup"):
        module, _, name = path.rpartition(".")
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        assert kinds[-1] is inspect.Parameter.VAR_KEYWORD


def test_defaults_of_ftrl(start) -> None:
    """They come in ``**kwargs``; a given default is the same optimizer."""
    from mx_rec.optimizers.ftrl import create_hash_optimizer

    start()
    defaults = {
        "learning_rate_power": -0.5,
        "initial_accumulator_value": 0.1,
        "l1_regularization_strength": 0.0,
        "l2_regularization_strength": 0.0,
        "l2_shrinkage_regularization_strength": 0.0,
        "accum_name": None,
        "linear_name": None,
    }
    plain = create_hash_optimizer(0.1)
    assert create_hash_optimizer(0.1, **defaults).options == plain.options
    other = create_hash_optimizer(0.1, initial_accumulator_value=0.2)
    assert other.options != plain.options


def test_defaults_of_init(start) -> None:
    from mx_rec.util.initialize import ConfigInitializer

    start()
    config = ConfigInitializer.get_instance()
    found = {name: getattr(config, name) for name in DEFAULTS_OF_INIT}
    assert found == DEFAULTS_OF_INIT
    params = config.train_params_config
    assert callable(params.get_initializer) and callable(params.get_target_batch)
    assert isinstance(params.ascend_global_hashtable_collection, str)


DEFAULTS_OF_INIT = {
    "max_steps": -1,
    "train_steps": -1,
    "eval_steps": -1,
    "save_steps": -1,
    "if_load": False,
    "use_dynamic": True,
    "use_dynamic_expansion": False,
    "bind_cpu": True,
    "use_mpi": True,
    "use_hot": True,
    "use_lccl": False,
    "is_incremental_checkpoint": False,
    "save_checkpoint_due_time": NONE,
    "save_delta_checkpoints_secs": NONE,
    "restore_model_version": NONE,  # the newest
    "recent_key_count_threshold": 0,
}
