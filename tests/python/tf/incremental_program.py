"""Streaming training with admission and eviction, saved as it goes; also run as processes.

Usage: incremental_program.py DIR LAST: reads commands from stdin. ``run FULL DELTA SLEEP`` forks a
process that trains in a MonitoredTrainingSession from the newest checkpoint in DIR to step LAST,
saves full checkpoints and deltas every FULL and DELTA seconds, sleeps SLEEP seconds a step, and
appends ``step loss`` to DIR/losses. The number of the process is printed when it begins, and
``end N CODE`` when it has ended.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import mxrec.tf as mx
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable

v1 = tf.compat.v1
DIM = 4
BATCH = 16


def batch(step: int) -> dict[str, np.ndarray]:
    """The batch of a step; keys come and go as steps do."""
    rng = np.random.default_rng(step)
    ids = rng.zipf(1.3, (BATCH, 2)) % 50 + step // 4
    return {"ids": ids, "clicks": (ids.sum(axis=1) % 3 == 0).astype(np.float32)}


def build(ids: Any, clicks: Any, step: Any, training: bool) -> tuple[Any, Any, Any]:
    """A model of two tables; gives predictions, loss, and in training the op that trains."""
    rows = []
    for name in ("user", "item"):
        table = mx.create_table(
            tf.int64, DIM, name, v1.random_normal_initializer(stddev=0.1, seed=3)
        )
        rows.append(
            mx.sparse_lookup(
                table,
                ids,
                is_train=training,
                access_and_evict_config={"access_threshold": 2, "eviction_threshold": 30},
            )
        )
    weights = v1.get_variable("weights", [DIM], initializer=tf.ones_initializer)
    logits = tf.reduce_sum(tf.add_n(rows) * weights, axis=[1, 2])
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=clicks, logits=logits))
    if not training:
        return tf.sigmoid(logits), loss, None
    dense, sparse = get_dense_and_sparse_variable()
    adam = create_hash_optimizer(learning_rate=0.01)
    train = tf.group(
        adam.apply_gradients(zip(tf.gradients(loss, sparse), sparse, strict=True)),
        v1.train.AdamOptimizer(0.01).minimize(loss, var_list=dense),
    )
    with tf.control_dependencies([train]):
        return tf.sigmoid(logits), loss, v1.assign_add(step, 1)


def start(**kwargs: Any) -> None:
    """Starts the library, whatever ran before."""
    terminate_config_initializer()
    init(use_dynamic_expansion=True, is_incremental_checkpoint=True, **kwargs)


def start_by(full: float, delta: float, **kwargs: Any) -> None:
    """The same, with intervals below the second that init allows, so that tests are short."""
    start(save_checkpoint_due_time=2, save_delta_checkpoints_secs=1, **kwargs)
    settings: Any = mx.ConfigInitializer.get_instance()
    settings.save_checkpoint_due_time, settings.save_delta_checkpoints_secs = full, delta


def train(directory: Path, last: int, sleep: float = 0.0, hooks: Any = ()) -> dict[int, str]:
    """Trains from the newest checkpoint to a step; gives the losses, bit by bit."""
    losses = {}
    with tf.Graph().as_default(), open(directory / "losses", "a") as log:
        v1.set_random_seed(1)
        ids = v1.placeholder(tf.int64, [None, 2])
        clicks = v1.placeholder(tf.float32, [None])
        step = v1.train.get_or_create_global_step()
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.reshape(step, [1]))
        _, loss, op = build(ids, clicks, step, training=True)
        evict = mx.EvictHook(evict_enable=True, evict_time_interval=10**6, evict_step_interval=7)
        config = v1.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=str(directory),
            hooks=[evict, *hooks],
            config=config,
            save_summaries_steps=None,
            log_step_count_steps=None,
        ) as session:
            at = int(session.run_step_fn(lambda step_context: step_context.session.run(step)))
            while at < last:
                feed = batch(at)
                found, _ = session.run([loss, op], {ids: feed["ids"], clicks: feed["clicks"]})
                losses[at] = np.float32(found).tobytes().hex()
                log.write(f"{at} {losses[at]}\n")
                log.flush()
                time.sleep(sleep)
                at += 1
    return losses


def serve(directory: Path, last: int) -> None:
    """Forks a training process for each line on stdin; TensorFlow is imported once."""
    for line in sys.stdin:
        _, full, delta, sleep = line.split()
        child = os.fork()
        if child == 0:
            start_by(float(full), float(delta))
            train(directory, last, float(sleep))
            terminate_config_initializer()
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(f"end {child} {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
