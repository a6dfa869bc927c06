"""Is this installation of mxrec whole? For an environment that has the wheel and no source tree.

    python smoke.py            with TensorFlow
    python smoke.py --numpy    without it

A table is trained for twenty steps, saved, and restored by a new process, which must read the same
rows and make the same next step, to the last bit. The last line begins with "ok"; anything else is
an exception or the exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mxrec

STEPS = 20
DIM = 8
QUERY = np.arange(-200, 2000, dtype=np.int64)


def batch(step: int) -> np.ndarray:
    """Keys of a step: int64 [128, 4], skewed, some negative."""
    return np.random.default_rng(step).zipf(1.3, (128, 4)) % 1500 - 100


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays, in hexadecimal digits."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def numpy_step(table: mxrec.Table, step: int) -> None:
    """Trains on one batch."""
    keys = batch(step).ravel()
    table.apply_gradients(keys, 2 * table.lookup(keys) - 1)


def with_numpy(directory: Path, restored: bool) -> str:
    """Trains and saves, or restores; then takes one more step. Returns what the table holds."""
    saved = directory / "item"
    if restored:
        table = mxrec.Table.load(saved)
    else:
        table = mxrec.Table("item", DIM, optimizer=mxrec.LazyAdam(0.01), seed=3)
        for step in range(STEPS):
            numpy_step(table, step)
        table.save(saved)
    before = table.lookup(QUERY, train=False)
    numpy_step(table, STEPS)
    after = table.lookup(QUERY, train=False)
    if len(table) < 100 or np.array_equal(before, after):
        raise SystemExit(f"smoke: training had no effect: {table!r}")
    return digest(before, after)


def with_tensorflow(directory: Path, restored: bool) -> str:
    """The same through TensorFlow: graph, Session, Saver."""
    import tensorflow.compat.v1 as tf

    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    from mx_rec.util.initialize import init, terminate_config_initializer
    from mx_rec.util.variable import get_dense_and_sparse_variable

    tf.disable_eager_execution()
    init(train_steps=STEPS, use_dynamic_expansion=True, if_load=restored)
    table = create_table(tf.int64, DIM, "item", tf.random_normal_initializer(stddev=0.01, seed=3))
    ids = tf.placeholder(tf.int64, [None, 4])
    loss = tf.reduce_mean(tf.square(sparse_lookup(table, ids, modify_graph=True) - 1))
    read = sparse_lookup(table, tf.constant(QUERY), is_train=False)
    _, sparse = get_dense_and_sparse_variable()
    pairs = zip(tf.gradients(loss, sparse), sparse, strict=True)
    train = create_hash_optimizer(0.01).apply_gradients(pairs)
    saver = tf.train.Saver()
    prefix = str(directory / "model-20")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        if restored:
            saver.restore(session, prefix)
        else:
            losses = [session.run([loss, train], {ids: batch(n)})[0] for n in range(STEPS)]
            if not losses[-1] < losses[0]:
                raise SystemExit(f"smoke: the loss did not fall: {losses}")
            saver.save(session, prefix)
        before = session.run(read)
        session.run(train, {ids: batch(STEPS)})
        after = session.run(read)
    if table.size() < 100 or np.array_equal(before, after):
        raise SystemExit(f"smoke: training had no effect: {table.size()} rows")
    terminate_config_initializer()
    return digest(before, after)


def main() -> None:
    """Runs the check here and, for the restore, in a new process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numpy", action="store_true", help="only what needs no TensorFlow")
    parser.add_argument("--restore", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run: Callable[[Path, bool], str] = with_numpy if arguments.numpy else with_tensorflow
    if arguments.restore is not None:
        print(run(arguments.restore, True))
        return
    with tempfile.TemporaryDirectory() as directory:
        here = run(Path(directory), False)
        command = [sys.executable, __file__, "--restore", directory]
        command += ["--numpy"] if arguments.numpy else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
        there = done.stdout.split()[-1]
    if here != there:
        raise SystemExit(f"smoke: the restored table differs: {here} before, {there} after")
    versions = f"mxrec {mxrec.__version__}, NumPy {np.__version__}"
    if not arguments.numpy:
        import tensorflow as tf

        versions += f", TensorFlow {tf.__version__}"
    print(f"ok: {versions}, kernels {mxrec.stats()['kernel_target']}")


if __name__ == "__main__":
    main()
