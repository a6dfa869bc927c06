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


def trained(optimizer: mxrec.Optimizer, seed: int, num_shards: int) -> list[bytes]:
    """Everything that a run of mixed calls leaves behind and has returned."""
    rng = np.random.default_rng(seed)
    table = mxrec.Table("t", 9, optimizer=optimizer, seed=5, num_shards=num_shards)
    returned = []
    for step in range(15):
        keys = rng.zipf(1.3, 3000).astype(np.int64) * 2654435761
        returned.append(table.lookup(keys).tobytes())
        grads = rng.normal(size=(3000, 9)).astype(np.float32)
        table.apply_gradients(keys, grads)
        if step % 5 == 4:
            table.erase(keys[:50].copy())
            table.assign(keys[50:60].copy(), grads[:10].copy())
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
