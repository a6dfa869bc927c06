"""Each optimizer against a float64 reference, 200 random steps with repeated keys."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from contents import assert_close, contents
from numpy.typing import NDArray

import mxrec

Array = NDArray[np.float64]
# w, slots, g, step -> w, slots
Rule = Callable[[Array, list[Array], Array, int], tuple[Array, list[Array]]]


def sgd(o: mxrec.SGD) -> Rule:
    return lambda w, s, g, t: (w - o.learning_rate * (g + o.weight_decay * w), s)


def momentum(o: mxrec.Momentum) -> Rule:
    def rule(w, s, g, t):
        m = o.momentum * s[0] + g
        step = g + o.momentum * m if o.use_nesterov else m
        return w - o.learning_rate * step, [m]

    return rule


def adagrad(o: mxrec.Adagrad) -> Rule:
    def rule(w, s, g, t):
        a = s[0] + g**2
        return w - o.learning_rate * g / np.sqrt(a), [a]

    return rule


def ftrl(o: mxrec.Ftrl) -> Rule:
    def rule(w, s, g, t):
        n, z = s
        p, lr = -o.learning_rate_power, o.learning_rate
        sigma = ((n + g**2) ** p - n**p) / lr
        z = z + g + 2 * o.l2_shrinkage_regularization_strength * w - sigma * w
        n = n + g**2
        l1 = o.l1_regularization_strength
        w = (np.sign(z) * l1 - z) / (n**p / lr + 2 * o.l2_regularization_strength)
        return np.where(np.abs(z) > l1, w, 0.0), [n, z]

    return rule


def lazy_adam(o: mxrec.LazyAdam) -> Rule:
    def rule(w, s, g, t):
        m = o.beta1 * s[0] + (1 - o.beta1) * g
        v = o.beta2 * s[1] + (1 - o.beta2) * g**2
        rate = o.learning_rate * np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t)
        return w - rate * m / (np.sqrt(v) + o.epsilon), [m, v]

    return rule


CASES: list[tuple[mxrec.Optimizer, Callable[..., Rule], list[float]]] = [
    (mxrec.SGD(0.05), sgd, []),
    (mxrec.SGD(0.05, 0.01), sgd, []),
    (mxrec.Momentum(0.02, 0.8), momentum, [0.0]),
    (mxrec.Momentum(0.02, 0.8, use_nesterov=True), momentum, [0.0]),
    (mxrec.Adagrad(0.1), adagrad, [0.1]),
    (mxrec.Adagrad(0.1, 0.9), adagrad, [0.9]),
    (mxrec.Ftrl(0.1), ftrl, [0.1, 0.0]),
    (mxrec.Ftrl(0.1, -0.4, 0.2, 0.05, 0.1, 0.01), ftrl, [0.2, 0.0]),
    (mxrec.LazyAdam(), lazy_adam, [0.0, 0.0]),
    (mxrec.LazyAdam(0.01, 0.8, 0.99, 1e-4), lazy_adam, [0.0, 0.0]),
]


def label(part):
    return getattr(part, "__name__", repr(part))


@pytest.mark.parametrize(("optimizer", "reference", "first_slots"), CASES, ids=label)
def test_parity_with_float64(optimizer, reference, first_slots, rng):
    dim, vocabulary = 5, 300
    rule = reference(optimizer)
    table = mxrec.Table("t", dim, optimizer=optimizer, initializer=mxrec.Normal(0, 0.1))
    rows: Array = table.lookup(np.arange(vocabulary)).astype(np.float64)
    slots = [np.full((vocabulary, dim), first) for first in first_slots]
    for step in range(1, 201):
        keys = rng.integers(0, vocabulary, 64)
        grads = (0.5 * rng.normal(size=(64, dim))).astype(np.float32)
        unique, inverse = np.unique(keys, return_inverse=True)
        summed = np.zeros((len(unique), dim))
        np.add.at(summed, inverse, grads.astype(np.float64))
        rows[unique], new_slots = rule(rows[unique], [s[unique] for s in slots], summed, step)
        for slot, new in zip(slots, new_slots, strict=True):
            slot[unique] = new
        assert table.apply_gradients(keys, grads) == (len(unique), 0)
    got = contents(table)
    np.testing.assert_array_equal(got.keys, np.arange(vocabulary))
    assert_close(got.values, rows)
    assert_close(got.slots, np.hstack(slots) if slots else np.empty((vocabulary, 0)))


def test_rows_outside_the_batch_do_not_change():
    for optimizer, _, _ in CASES:
        table = mxrec.Table("t", 2, optimizer=optimizer)
        before = table.lookup(np.array([1, 2]))
        for _ in range(3):
            table.apply_gradients(np.array([1]), np.ones((1, 2), np.float32))
        after = table.lookup(np.array([1, 2]))
        np.testing.assert_array_equal(after[1], before[1])
        assert (after[0] != before[0]).any()


@pytest.mark.parametrize(
    "options",
    [case[0] for case in CASES]
    + [
        mxrec.Zeros(),
        mxrec.Ones(gain=2.0),
        mxrec.Constant(0.3),
        mxrec.Uniform(-0.1, 0.7),
        mxrec.Normal(0.1, 0.2),
        mxrec.TruncatedNormal(0.1, 0.2),
        mxrec.VarianceScaling(0.3, "fan_avg", "uniform", 77, gain=0.1),
    ],
    ids=repr,
)
def test_a_table_gives_back_its_options(options):
    if isinstance(options, mxrec.Optimizer):
        assert mxrec.Table("t", 2, optimizer=options).optimizer == options
    else:
        assert mxrec.Table("t", 2, initializer=options).initializer == options
