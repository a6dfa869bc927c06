"""A script as it is written for the accelerator and TensorFlow 1; test_compat runs it unchanged."""

import sys

import numpy as np
import tensorflow as tf
from mpi4py import MPI
from npu_bridge.estimator.npu.npu_config import NPURunConfig as ConfigOfModule
from npu_bridge.hccl import hccl_ops as ops_of_module
from npu_bridge.npu_init import *  # noqa: F403
from npu_bridge.npu_init import (
    NPUDistributedOptimizer,
    NPURunConfig,
    RewriterConfig,
    hccl_ops,
    npu_config_proto,
    npu_hooks_append,
    npu_ops,
    npu_plugin,
    util,
)

import mx_rec.util as mxrec_util
import rec_sdk_common
from mx_rec.constants.constants import LIBREC_EOS_OPS_SO
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import ConfigInitializer, init, terminate_config_initializer
from mx_rec.util.ops import import_host_pipeline_ops
from mx_rec.util.variable import get_dense_and_sparse_variable

STEPS_PER_RUN = 10

npu_plugin.set_device_sat_mode(0)
MPI.COMM_WORLD.Barrier()


def session_config():
    config = npu_config_proto(tf.ConfigProto(allow_soft_placement=False))
    options = config.graph_options.rewrite_options.custom_optimizers[0].parameter_map
    options["iterations_per_loop"].i = STEPS_PER_RUN
    options["precision_mode"].s = tf.compat.as_bytes("allow_mix_precision")
    config.graph_options.rewrite_options.memory_optimization = RewriterConfig.OFF
    return config


def batches():
    rng = np.random.default_rng(0)
    columns = {"ids": rng.integers(0, 50, (400, 4)), "label": np.ones(400, np.float32)}
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(8)
    dataset = dataset.eos_map(import_host_pipeline_ops(LIBREC_EOS_OPS_SO), 0, -1, -1)
    return dataset.make_initializable_iterator()


if __name__ == "__main__":
    init(train_steps=50, use_mpi=True)
    rank_size = rec_sdk_common.communication.hccl.hccl_info.get_rank_size()
    assert rank_size == MPI.COMM_WORLD.Get_size() == 1
    assert mxrec_util.communication.hccl_ops.get_rank_id() == 0
    assert ConfigOfModule is NPURunConfig and ops_of_module.allreduce is hccl_ops.allreduce
    iterator = batches()
    batch = iterator.get_next()
    table = create_table(
        key_dtype=tf.int64,
        dim=tf.TensorShape([8]),
        name="table",
        emb_initializer=tf.truncated_normal_initializer(stddev=0.05, seed=1),
        device_vocabulary_size=1000,
    )
    rows = sparse_lookup(table, batch["ids"], 100, dim=None, modify_graph=True, batch=batch)
    weights = tf.get_variable("weights", [32, 1])
    hidden = npu_ops.dropout(tf.reshape(rows, [-1, 32]), keep_prob=0.9)
    logits = tf.squeeze(tf.matmul(hidden, weights), 1)
    loss = tf.losses.sigmoid_cross_entropy(batch["label"], logits)
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    global_step = tf.train.get_or_create_global_step()
    dense = NPUDistributedOptimizer(tf.train.AdamOptimizer(0.01))
    sparse = create_hash_optimizer(0.01)
    train = tf.group(
        dense.apply_gradients(dense.compute_gradients(loss, dense_variables), global_step),
        sparse.apply_gradients(sparse.compute_gradients(loss, sparse_variables)),
    )
    modify_graph_and_start_emb_cache()
    assert npu_hooks_append() == []
    losses = []
    with tf.Session(config=session_config()) as session:
        session.run(tf.global_variables_initializer())
        session.run(ConfigInitializer.get_instance().train_params_config.get_initializer(True))
        train = util.set_iteration_per_loop(session, train, STEPS_PER_RUN)
        while True:
            try:
                losses.append(session.run([train, loss])[1])
            except tf.errors.OutOfRangeError:
                break
        steps = session.run(global_step)
    print(sys.argv[1:], "runs", len(losses), "steps", steps, "rows", table.size())
    print("falls", losses[-1] < 0.7 * losses[0])
    terminate_config_initializer()
