"""Tables, graphs that look them up, and which ops TensorFlow ran for them."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import mxrec.tf as mx

v1 = tf.compat.v1


def make(name: str, dim: int = 4, **kwargs: Any) -> Any:
    initializer = v1.random_normal_initializer(seed=len(name))
    kwargs.setdefault("device_vocabulary_size", 100_000)
    return mx.create_table(tf.int64, dim, name, initializer, **kwargs)


def run(session: Any, fetches: Any, feed: Any = None) -> tuple[Any, collections.Counter[str]]:
    """What the fetches are, and how often each op of this package was executed."""
    metadata = v1.RunMetadata()
    options = v1.RunOptions(output_partition_graphs=True)
    result = session.run(fetches, feed, options=options, run_metadata=metadata)
    return result, executed(metadata)


def executed(metadata: Any) -> collections.Counter[str]:
    """How often each op of this package is in the graph that was run."""
    ops = [node.op for graph in metadata.partition_graphs for node in graph.node]
    return collections.Counter(op for op in ops if op.startswith("Mxrec"))


def lookups_of(ops: collections.Counter[str]) -> dict[str, int]:
    return {op: n for op, n in ops.items() if "Lookup" in op or "Read" in op}


@contextlib.contextmanager
def control_flow_of(version: str) -> Iterator[None]:
    """tf.cond and tf.while_loop as TensorFlow 1 (switches) or 2 (functions) builds them."""
    switches = {True: v1.enable_control_flow_v2, False: v1.disable_control_flow_v2}
    was = v1.control_flow_v2_enabled()
    switches[version == "v2"]()
    try:
        yield
    finally:
        switches[was]()


def contents(table: Any) -> list[Any]:
    """Keys in ascending order; frequency, embedding and optimizer slots of each."""
    return contents_of_engine(table.engine)


def contents_of_engine(engine: Any) -> list[Any]:
    """``contents`` of a table of the engine."""
    cursor = (0, 0)
    blocks = []
    while True:
        cursor, keys, values, slots, frequency, _ = engine.scan(cursor, 1 << 16)
        blocks.append((keys, frequency, values, slots))
        if len(keys) == 0:
            break
    keys, *others = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.argsort(keys)
    return [keys[order], *(other[order] for other in others)]
