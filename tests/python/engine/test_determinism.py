"""The same calls give bit-identical tables with any number of threads and shards."""

from __future__ import annotations

import numpy as np
import pytest
from contents import contents

import mxrec

OPTIMIZERS = [
    mxrec.SGD(0.1, 0.01),
    mxrec.Momentum(0.1, 0.9),
    mxrec.Adagrad(0.1),
    mxrec.Ftrl(0.1, l1_regularization_strength=0.01),
    mxrec.LazyAdam(),
]

BATCH = 30_000


def trained(
    optimizer: mxrec.Optimizer, seed: int, num_shards: int, value_dtype: str = "float32"
) -> list[bytes]:
    """Everything that a run of mixed calls leaves behind and has returned."""
    rng = np.random.default_rng(seed)
    table = mxrec.Table(
        "t", 9, optimizer=optimizer, seed=5, num_shards=num_shards, value_dtype=value_dtype,
        stochastic_rounding=value_dtype != "float32",
    )  # fmt: skip
    returned = []
    for step in range(5):
        # Large enough that every call is worth several threads.
        keys = rng.zipf(1.1, BATCH).astype(np.int64) * 2654435761
        returned.append(table.lookup(keys).tobytes())
        grads = rng.normal(size=(BATCH, 9)).astype(np.float32)
        table.apply_gradients(keys, grads)
        offsets = np.arange(0, BATCH + 1, 3)
        returned.append(table.lookup_pooled(keys, offsets, combiner="mean").tobytes())
        table.apply_pooled_gradients(keys, offsets, grads[: len(offsets) - 1].copy())
        if step % 2 == 1:
            table.erase(keys[: BATCH // 3].copy())
            table.assign(keys[BATCH // 4 :].copy(), grads[BATCH // 4 :].copy())
        returned.append(table.lookup(keys, train=False).tobytes())
    return returned + [column.tobytes() for column in contents(table)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_bit_identity_over_threads_and_shards(optimizer, seed):
    mxrec.set_num_threads(1)
    expected = trained(optimizer, seed, 1)
    for threads in (1, 2, 5):
        mxrec.set_num_threads(threads)
        assert mxrec.num_threads() == threads
        for shards in (1, 4, 64):
            assert trained(optimizer, seed, shards) == expected, (threads, shards)


def test_bit_identity_of_rounded_tables(seed):
    mxrec.set_num_threads(1)
    expected = trained(mxrec.Adagrad(0.1), seed, 1, "bfloat16")
    for threads, shards in ((2, 4), (5, 64)):
        mxrec.set_num_threads(threads)
        assert trained(mxrec.Adagrad(0.1), seed, shards, "bfloat16") == expected, (threads, shards)
