"""Measures what it is worth that keys are handled while the previous step trains.

Prints a JSON object of figures. The step has one TensorFlow thread, the input pipeline another, and
the engine works in theirs, in both programs: on two processors each has one to itself.

    python overlap_program.py [SSD_DIRECTORY]

The dense layer is as wide as makes the rest of a step cost as much as the keys. With a directory,
most rows are in an SSD tier there; MXREC_SSD_READ_DELAY_MICROS makes it slow.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf

import mxrec.tf as mx
from mxrec import _mxrec

v1 = tf.compat.v1
v1.disable_eager_execution()

EXAMPLES, COLUMNS, DIM = 2048, 26, 16
KEYS_PER_COLUMN = 200_000
BATCHES, ROUNDS, STEPS = 32, 7, 40
SSD_UNITS = 112  # of the dense layer, with an SSD tier
PREFETCH = 2
# With an SSD tier: memory for about a tenth of the rows, which lie in so many blocks that hardly
# two of a batch have one in common, and more batches ahead: reads take long.
MEMORY_ROWS, SSD_ROWS, SSD_BATCHES, SSD_PREFETCH = 120_000, 5_000_000, 192, 8
SSD_ROUNDS, SSD_STEPS = 5, 24


def rows(batches: int) -> np.ndarray:
    """Raw ids of all batches, int64 [batches * examples, columns], Zipf in each column."""
    rng = np.random.default_rng(7)
    shape = (batches * EXAMPLES, COLUMNS)
    return (rng.zipf(1.2, shape) % KEYS_PER_COLUMN + np.arange(COLUMNS) * 10**7).astype(np.int64)


def ids_of(raw: Any) -> Any:
    """Keys as feature engineering makes them: a hash of the value as text."""
    return tf.strings.to_hash_bucket_fast(tf.strings.as_string(raw), 2**40)


def one_thread() -> Any:
    """A thread of the pipeline's own: the Session's is the step's."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return options


class Program:
    """The model, with its graph as it is or rewritten."""

    def __init__(self, data: np.ndarray, units: int, rewrite: bool, ssd: str | None) -> None:
        self.ssd = ssd
        self.graph = tf.Graph()
        with self.graph.as_default():
            v1.set_random_seed(1)
            feed = v1.placeholder(tf.int64, data.shape)
            dataset = tf.data.Dataset.from_tensor_slices(feed).batch(EXAMPLES, True)
            prefetch = SSD_PREFETCH if ssd else PREFETCH
            dataset = dataset.cache().repeat().prefetch(prefetch).with_options(one_thread())
            iterator = v1.data.make_initializable_iterator(dataset)
            self.loss, train_op = self._model(iterator.get_next(), units)
            self.train_op = train_op
            if rewrite:
                mx.modify_graph_and_start_emb_cache(full_graph=self.graph)
                self.batch = mx.get_target_batch(True)
            config = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
            self.session = v1.Session(graph=self.graph, config=config)
            self.session.run(v1.global_variables_initializer())
            self.session.run(iterator.initializer, {feed: data})

    def _model(self, raw: Any, units: int) -> tuple[Any, Any]:
        sizes: dict[str, Any] = {}
        if self.ssd is not None:
            sizes = {
                "host_vocabulary_size": MEMORY_ROWS,
                "ssd_vocabulary_size": SSD_ROWS,
                "ssd_data_path": [self.ssd],
            }
        table = mx.create_table(
            tf.int64, DIM, "overlap", v1.truncated_normal_initializer(stddev=0.01, seed=3), **sizes
        )
        self.table = table
        rows = mx.sparse_lookup(table, ids_of(raw), modify_graph=True)
        kernel = v1.get_variable("kernel", [COLUMNS * DIM, units])
        hidden = tf.nn.relu(tf.reshape(rows, [EXAMPLES, COLUMNS * DIM]) @ kernel)
        loss = tf.reduce_mean(tf.square(tf.reduce_sum(hidden, axis=1) - 1.0))
        dense, sparse = mx.get_dense_and_sparse_variable()
        gradients = tf.gradients(loss, [*dense, *sparse])
        update = v1.train.GradientDescentOptimizer(0.01).apply_gradients(
            zip(gradients[: len(dense)], dense, strict=True)
        )
        from mxrec.tf.optimizers import adagrad

        optimizer = adagrad.create_hash_optimizer(0.01)
        return loss, tf.group(
            update, optimizer.apply_gradients(zip(gradients[len(dense) :], sparse, strict=True))
        )

    def steps(self, n: int) -> float:
        """Seconds a step."""
        begin = time.perf_counter()
        for _ in range(n):
            self.session.run(self.train_op)
        return (time.perf_counter() - begin) / max(n, 1)

    def waits(self, n: int) -> float:
        """Share of n steps that goes into waiting for the iterator."""
        waited = total = 0
        options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
        for _ in range(n):
            metadata = v1.RunMetadata()
            self.session.run(self.train_op, options=options, run_metadata=metadata)
            nodes = [node for d in metadata.step_stats.dev_stats for node in d.node_stats]
            begin = min(node.all_start_micros for node in nodes)
            end = max(node.all_start_micros + node.all_end_rel_micros for node in nodes)
            total += end - begin
            gets = [node for node in nodes if "IteratorGetNext" in node.timeline_label]
            waited += sum(node.all_end_rel_micros for node in gets)
        return waited / total

    def pipeline(self, n: int) -> float:
        """Seconds for one batch of the input pipeline alone."""
        fetch = tf.nest.flatten(self.batch)[0].op
        for _ in range(2 * PREFETCH + 2):  # those that are there already
            self.session.run(fetch)
        begin = time.perf_counter()
        for _ in range(n):
            self.session.run(fetch)
        return (time.perf_counter() - begin) / n


def balanced_units(data: np.ndarray) -> int:
    """Units of the dense layer with which the rest of a step costs as much as the keys.

    What one takes in the time of the other depends on the processor, and on its clock of the day.
    """
    low, high = 64, 128
    rewritten = Program(data, low, rewrite=True, ssd=None)
    narrow, wide = (Program(data, units, rewrite=False, ssd=None) for units in (low, high))
    for program in (rewritten, narrow, wide):
        program.steps(BATCHES)
    rounds = [(rewritten.pipeline(20), narrow.steps(20), wide.steps(20)) for _ in range(5)]
    keys, at_low, at_high = (statistics.median(values) for values in zip(*rounds, strict=True))
    for program in (rewritten, narrow, wide):
        program.session.close()
    slope = max((at_high - at_low) / (high - low), 1e-9)
    return int(np.clip(low + (2 * keys - at_low) / slope, 16, 512))


def main() -> None:
    ssd = sys.argv[1] if len(sys.argv) > 1 else None
    rounds, steps = (SSD_ROUNDS, SSD_STEPS) if ssd else (ROUNDS, STEPS)
    mx.init(train_steps=1, use_dynamic_expansion=ssd is None)
    _mxrec.set_num_threads(1)
    batches = SSD_BATCHES if ssd else BATCHES
    data = rows(batches)
    units = SSD_UNITS if ssd else balanced_units(data)
    plain = Program(data, units, rewrite=False, ssd=ssd)
    rewritten = Program(data, units, rewrite=True, ssd=ssd)
    rewritten.steps(batches)
    plain.steps(BATCHES)
    times: dict[str, list[float]] = {"plain": [], "rewritten": [], "keys": []}
    # What was read ahead before the other program's turn may have had to make room.
    settle = SSD_PREFETCH + 2 if ssd else 0
    for _ in range(rounds):
        plain.steps(settle)
        times["plain"].append(plain.steps(steps))
        rewritten.steps(settle)
        times["rewritten"].append(rewritten.steps(steps))
        if ssd is None:
            times["keys"].append(rewritten.pipeline(steps))
    share_waiting = rewritten.waits(200 if ssd is None else 40)
    if ssd is not None:
        # Rows of batches that are thrown away are read ahead too, and disturb who trains next.
        times["keys"].append(rewritten.pipeline(steps))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [p / r for p, r in zip(times["plain"], times["rewritten"], strict=True)]
    figures = {
        "units of the dense layer": units,
        "ms a step, plain": 1e3 * medians["plain"],
        "ms a step, rewritten": 1e3 * medians["rewritten"],
        "ms a batch, keys alone": 1e3 * medians["keys"],
        "ms a step, the rest": 1e3 * (medians["plain"] - medians["keys"]),
        "rewritten / plain, steps/s": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "share of a step waiting for keys": share_waiting,
    }
    if ssd is not None:
        statistics_now = rewritten.table.stats()
        print(statistics_now["tiers"], statistics_now["updates"], file=sys.stderr)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
