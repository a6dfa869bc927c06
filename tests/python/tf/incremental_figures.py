"""Speed of streaming training in a MonitoredTrainingSession, with deltas every 2 s and without.

python incremental_figures.py MINUTES DIR: rounds of ten seconds, alternating; prints the figures, as
JSON. DIR is on the disk that is measured; what is written there is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import mxrec
import mxrec.tf as mx
from mxrec.tf.optimizers import lazy_adam

v1 = tf.compat.v1
BATCH, SLOTS, DIM, KEYS = 4096, 8, 32, 1_000_000
ROUND_SECONDS, WARM_SECONDS = 10.0, 4.0


def batches(seed: int) -> tf.data.Dataset:
    """Zipf-distributed keys without end.

    No constant of the graph: 64 MiB in it would be copied by TensorFlow's optimizers when the first
    delta makes it look at the graph again, and written as text beside the first checkpoint.
    """
    rng = np.random.default_rng(seed)
    ids = rng.zipf(1.1, 256 * BATCH * SLOTS * 2) - 1
    ids = ids[ids < KEYS][: 256 * BATCH * SLOTS].reshape(256, BATCH, SLOTS)
    spec = tf.TensorSpec([BATCH, SLOTS], tf.int64)
    return tf.data.Dataset.from_generator(lambda: ids, output_signature=spec).repeat().prefetch(2)


def one_round(directory: Path, seconds: float, saves: bool, seed: int) -> tuple[float, int]:
    """Trains for a while from empty tables; gives steps a second, and how many deltas there are."""
    mx.terminate_config_initializer()
    intervals = {"save_checkpoint_due_time": 10**6, "save_delta_checkpoints_secs": 2}
    mx.init(use_dynamic_expansion=True, is_incremental_checkpoint=saves, **intervals)
    with tf.Graph().as_default():
        v1.set_random_seed(1)
        step = v1.train.get_or_create_global_step()
        ids = v1.data.make_one_shot_iterator(batches(seed)).get_next()
        rows = []
        for name in ("user", "item"):
            init = v1.random_normal_initializer(stddev=0.1, seed=3)
            table = mx.create_table(tf.int64, DIM, name, init)
            rows.append(mx.sparse_lookup(table, ids))
        hidden = tf.concat([tf.reduce_sum(row, axis=1) for row in rows], axis=1)
        for width in (128, 64, 1):
            kernel = v1.get_variable(f"kernel_{width}", [hidden.shape[1], width])
            hidden = tf.matmul(tf.nn.relu(hidden), kernel)
        loss = tf.reduce_mean(tf.square(hidden - 1.0))
        dense, sparse = mx.get_dense_and_sparse_variable()
        adam = lazy_adam.create_hash_optimizer(0.001)
        train = tf.group(
            adam.apply_gradients(zip(tf.gradients(loss, sparse), sparse, strict=True)),
            v1.train.AdamOptimizer(0.001).minimize(loss, var_list=dense),
        )
        with tf.control_dependencies([train]):
            op = v1.assign_add(step, 1)
        options: dict[str, Any] = {"checkpoint_dir": str(directory) if saves else None}
        with v1.train.MonitoredTrainingSession(
            save_checkpoint_secs=None, save_summaries_steps=None, **options
        ) as session:
            warm = time.monotonic()
            while time.monotonic() - warm < WARM_SECONDS:
                session.run(op)
            begin, steps = time.monotonic(), 0
            while (spent := time.monotonic() - begin) < seconds:
                session.run(op)
                steps += 1
    deltas = [v for v in mxrec.versions(directory) if v.kind == "delta"] if saves else []
    mx.terminate_config_initializer()
    return steps / spent, len(deltas)


def main(minutes: float, directory: Path) -> None:
    rounds = max(1, round(minutes * 60 / ROUND_SECONDS / 2))
    seconds = min(ROUND_SECONDS, minutes * 60 / 2)
    speed: dict[bool, list[float]] = {False: [], True: []}
    deltas = 0
    for number in range(rounds):
        for saves in (False, True) if number % 2 == 0 else (True, False):
            place = directory / f"incremental-figures-{os.getpid()}"
            place.mkdir()
            try:
                found, written = one_round(place, seconds, saves, number)
            finally:
                shutil.rmtree(place)
            speed[saves].append(found)
            deltas += written
    without, beside = (float(np.median(speed[saves])) for saves in (False, True))
    figures = {
        "minutes": minutes,
        "deltas": deltas,
        "steps a second without": without,
        "steps a second with": beside,
        "with / without": beside / without,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
