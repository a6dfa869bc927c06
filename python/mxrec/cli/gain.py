"""What the input pipeline's share of the key work is worth: steps per second with and without."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from mxrec.cli.config import ModelConfig
from mxrec.cli.model import build_model

_v1 = tf.compat.v1
_ROUNDS = 5
_PREFETCH = 4


@dataclass(frozen=True)
class Gain:
    """Medians over rounds that alternate.

    Attributes:
        plain: steps per second, keys handled in the step.
        rewritten: the same with the rewritten graph.
    """

    plain: float
    rewritten: float


def measure_gain(config: ModelConfig, batches: Sequence[Any]) -> Gain | None:
    """Trains on a few batches in memory, by turns with the graph as it is and rewritten.

    Uses tables of the names in ``config``, which the caller releases afterwards.

    Args:
        config: of the model.
        batches: ``(features, labels)`` as `build_model` takes them, all of the first one's size.

    Returns:
        None: too few batches for a measurement.
    """
    if len(batches) < 2:
        return None
    sides = [_Side(config, batches, rewrite) for rewrite in (False, True)]
    try:
        for side in sides:
            side.run()  # new keys get their rows
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_ROUNDS):
            for side, spent in zip(sides, times, strict=True):
                spent.append(side.run())
    finally:
        for side in sides:
            side.session.close()
    plain, rewritten = (len(batches) / median(spent) for spent in times)
    return Gain(plain, rewritten)


class _Side:
    """One of the two programs."""

    def __init__(self, config: ModelConfig, batches: Sequence[Any], rewrite: bool) -> None:
        from mx_rec.graph.modifier import modify_graph_and_start_emb_cache

        self._steps = len(batches)
        stacked = tf.nest.map_structure(lambda *parts: np.stack(parts), *batches)
        with tf.Graph().as_default() as graph:
            # Fed, not constants of the graph.
            arrays = tf.nest.map_structure(lambda a: _v1.placeholder(a.dtype, a.shape), stacked)
            dataset = tf.data.Dataset.from_tensor_slices(arrays).repeat().prefetch(_PREFETCH)
            iterator = _v1.data.make_initializable_iterator(dataset)
            features, labels = iterator.get_next()
            self._train_op = build_model(features, labels, config, training=True).train_op
            if rewrite:
                modify_graph_and_start_emb_cache(full_graph=graph)
            self.session = _v1.Session(graph=graph)
            self.session.run(_v1.global_variables_initializer())
            pairs = zip(tf.nest.flatten(arrays), tf.nest.flatten(stacked), strict=True)
            self.session.run(iterator.initializer, feed_dict=dict(pairs))

    def run(self) -> float:
        """Trains on every batch once; returns the seconds."""
        begin = time.perf_counter()
        for _ in itertools.repeat(None, self._steps):
            self.session.run(self._train_op)
        return time.perf_counter() - begin
