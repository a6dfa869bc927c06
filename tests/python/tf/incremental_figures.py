"""Speed of streaming training in a MonitoredTrainingSession, with deltas every 2 s and without.

python incremental_figures.py MINUTES DIR: two programs, one that saves and one that does not, each
of which trains so many minutes. They train by turns, some seconds at a time, because machines are
faster in one minute than in the next: who has no turn is stopped (SIGSTOP), what it writes beside
its training, too. Prints the figures, as JSON. DIR is on the disk that is measured; what is written
there is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

BATCH, SLOTS, DIM, KEYS = 4096, 8, 32, 1_000_000
TURN_SECONDS, WARM_STEPS = 6.0, 300
STEPS = "steps"  # file with the number of steps made


def batches(seed: int) -> Any:
    """Zipf-distributed keys without end.

    No constant of the graph: 64 MiB in it would be copied by TensorFlow's optimizers when the first
    delta makes it look at the graph again, and written as text beside the first checkpoint.
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    ids = rng.zipf(1.1, 256 * BATCH * SLOTS * 2) - 1
    ids = ids[ids < KEYS][: 256 * BATCH * SLOTS].reshape(256, BATCH, SLOTS)
    spec = tf.TensorSpec([BATCH, SLOTS], tf.int64)
    return tf.data.Dataset.from_generator(lambda: ids, output_signature=spec).repeat().prefetch(2)


def train_for_ever(directory: Path, saves: bool) -> None:
    """Trains from empty tables, and notes each step."""
    import tensorflow as tf

    import mxrec.tf as mx
    from mxrec.tf.optimizers import lazy_adam

    v1 = tf.compat.v1
    made = np.memmap(directory / STEPS, np.int64, "w+", shape=1)
    intervals = {"save_checkpoint_due_time": 10**6, "save_delta_checkpoints_secs": 2}
    mx.init(use_dynamic_expansion=True, is_incremental_checkpoint=saves, **intervals)
    with tf.Graph().as_default():
        v1.set_random_seed(1)
        step = v1.train.get_or_create_global_step()
        ids = v1.data.make_one_shot_iterator(batches(1)).get_next()
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
        checkpoints = str(directory / "checkpoints") if saves else None
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=checkpoints, save_checkpoint_secs=None, save_summaries_steps=None
        ) as session:
            while True:
                session.run(op)
                made[0] += 1


@contextmanager
def program(directory: Path, which: str) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A program that trains, once it is warm, and the number of steps that it has made."""
    directory.mkdir(parents=True)
    with subprocess.Popen([sys.executable, __file__, which, directory]) as child:
        try:
            made = None
            while made is None or made[0] < WARM_STEPS:
                if child.poll() is not None:
                    raise SystemExit(f"the program {which} deltas has ended: {child.returncode}")
                time.sleep(0.1)
                if made is None and (directory / STEPS).exists():
                    made = np.memmap(directory / STEPS, np.int64, "r", shape=1)
            child.send_signal(signal.SIGSTOP)
            yield child, made
        finally:
            child.kill()


def turn(child: subprocess.Popen[bytes], made: Any) -> float:
    """Steps a second of some seconds."""
    before, begin = int(made[0]), time.monotonic()
    child.send_signal(signal.SIGCONT)
    time.sleep(TURN_SECONDS)
    child.send_signal(signal.SIGSTOP)
    if child.poll() is not None:
        raise SystemExit(f"a program has ended: {child.returncode}")
    return (int(made[0]) - before) / (time.monotonic() - begin)


def main(minutes: float, directory: Path) -> None:
    import mxrec

    place = directory / f"incremental-figures-{os.getpid()}"
    speed: dict[str, list[float]] = {"without": [], "with": []}
    try:
        with program(place / "a", "without") as without, program(place / "b", "with") as beside:
            programs = {"without": without, "with": beside}
            for number in range(max(1, round(minutes * 60 / TURN_SECONDS))):
                for which in ("without", "with") if number % 2 == 0 else ("with", "without"):
                    speed[which].append(turn(*programs[which]))
            versions = mxrec.versions(place / "b" / "checkpoints")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    ratios = [w / p for w, p in zip(speed["with"], speed["without"], strict=True)]
    figures = {
        "minutes": minutes,
        "deltas": sum(version.kind == "delta" for version in versions),
        "steps a second without": float(np.mean(speed["without"])),
        "steps a second with": float(np.mean(speed["with"])),
        "with / without": float(np.sum(speed["with"]) / np.sum(speed["without"])),
        "with / without, median of turns": float(np.median(ratios)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.argv[1] in ("with", "without"):
        train_for_ever(Path(sys.argv[2]), sys.argv[1] == "with")
    else:
        main(float(sys.argv[1]), Path(sys.argv[2]))
