"""Random streams through a table and a dictionary: equal after every step."""

from __future__ import annotations

import numpy as np
import pytest
from admission_model import Model, Sketch

import mxrec

DIM = 3


class Pair:
    """A table and its model, with random rules."""

    def __init__(self, rng: np.random.Generator, mode: str, path) -> None:
        self.rng, self.path = rng, path
        self.threshold = int(rng.integers(1, 6)) if mode != "none" else None
        coefficient = int(rng.integers(1, 3)) if mode != "none" else 1
        expected = int(rng.choice([1, 4096 * 3]))
        rules = {
            "max_age": int(rng.integers(0, 40)) if rng.random() < 0.8 else None,
            "max_rows": int(rng.integers(1, 60)) if rng.random() < 0.3 else None,
            "min_l2": float(rng.uniform(0.5, 1.7)) if rng.random() < 0.3 else None,
        }
        if all(rule is None for rule in rules.values()):
            rules["max_age"] = 10
        self.model = Model(
            DIM,
            self.threshold,
            coefficient,
            Sketch(expected) if mode == "sketch" else None,
            **rules,
        )
        admission = (
            None
            if mode == "none"
            else mxrec.Admission(self.threshold, coefficient, mode, expected_keys=expected)
        )
        self.table = mxrec.Table(
            "t",
            DIM,
            optimizer=mxrec.SGD(0.5),
            initializer=mxrec.Ones(),
            num_shards=int(rng.choice([1, 2, 8])),
            admission=admission,
            eviction=mxrec.Eviction(**rules),
        )
        self.universe = rng.integers(-(2**62), 2**62, int(rng.choice([20, 200])))
        self.time = int(rng.integers(0, 5))

    def keys(self, most: int = 60) -> np.ndarray:
        ranks = self.rng.zipf(1.3, int(self.rng.integers(0, most))) - 1
        return self.universe[ranks % len(self.universe)].copy()

    def lookup(self) -> None:
        keys = self.keys()
        self.time += int(self.rng.integers(0, 4))
        kind = self.rng.integers(0, 4)
        if kind == 0 and len(keys):  # one time for each key, some of long ago
            times = np.maximum(self.time - self.rng.integers(0, 30, len(keys)), 0)
            given = times.astype(np.int32 if self.rng.random() < 0.5 else np.int64)
        elif kind == 1 and len(keys) % 2 == 0 and len(keys):  # examples of several keys
            examples = np.maximum(self.time - self.rng.integers(0, 9, len(keys) // 2), 0)
            times, given = np.repeat(examples, 2), examples
        else:
            backwards = self.rng.random() < 0.2
            at = max(self.time - 25, 0) if backwards else self.time
            times, given = np.full(len(keys), at), at
        if len(keys) == 0:
            given = self.time
            self.model.latest = max(self.model.latest, self.time)
        expected = self.model.lookup(keys.tolist(), times.tolist())
        np.testing.assert_array_equal(self.table.lookup(keys, timestamp=given), expected)

    def apply(self) -> None:
        keys = self.keys()
        grads = self.rng.integers(-2, 3, (len(keys), DIM)).astype(np.float32) / 4
        self.table.apply_gradients(keys, grads)
        self.model.apply(keys.tolist(), grads, 0.5)

    def evaluate(self) -> None:
        keys = self.keys()
        np.testing.assert_array_equal(
            self.table.lookup(keys, train=False), self.model.read(keys.tolist())
        )

    def erase(self) -> None:
        keys = self.keys(5)
        assert self.table.erase(keys) == self.model.erase(keys.tolist())

    def set_threshold(self) -> None:
        if self.threshold is None:
            return
        n = int(self.rng.integers(0, 7))
        self.table.set_threshold(n)
        self.model.set_threshold(n)

    def evict(self) -> None:
        now = None if self.rng.random() < 0.6 else self.time + int(self.rng.integers(-5, 30))
        now = None if now is None else max(now, 0)
        by_age_only = self.model.max_rows is None and self.model.min_l2 is None
        if by_age_only and self.rng.random() < 0.5:
            # Seen by all at once, although memory is freed later.
            budget = int(self.rng.integers(0, 4))
            assert self.table.evict(now, budget=budget) <= budget
            self.model.evict(now)
            return
        before = len(self.table)
        self.table.evict(now)
        assert self.model.evict(now) == before - len(self.table)

    def save(self) -> None:
        self.table.save(self.path)
        shards = int(self.rng.choice([1, 4]))
        self.table.close()
        self.table = mxrec.Table.load(self.path, num_shards=shards)
        self.model.evicted = dict.fromkeys(self.model.evicted, 0)

    def check(self) -> None:
        model, table = self.model, self.table
        # Before anything reads: a sweep that is under way does not show.
        stats = table.stats()
        assert len(table) == len(model.rows) == stats["rows"]
        assert {cause: stats[f"evicted_by_{cause}"] for cause in model.evicted} == model.evicted
        keys, values = [], []
        for some, rows in table.items():
            keys += some.tolist()
            values += list(rows)
        assert sorted(keys) == sorted(model.rows)
        for key, row in zip(keys, values, strict=True):
            np.testing.assert_array_equal(row, model.rows[key].values)
        np.testing.assert_array_equal(
            table.counts(self.universe), [model.count(key) for key in self.universe.tolist()]
        )
        np.testing.assert_array_equal(
            table.contains(self.universe), [key in model.rows for key in self.universe.tolist()]
        )
        if self.threshold is not None and not self.model.sketch and not table.stats()["evicting"]:
            assert table.stats()["counted_keys"] == len(model.pending)


@pytest.mark.parametrize("mode", ["exact", "sketch", "none"])
@pytest.mark.parametrize("part", range(5))
def test_random_streams_equal_the_model(mode, part, request, tmp_path):
    """3 x 5 x 40 sequences; --seed replays them."""
    seed = request.config.getoption("seed")
    for number in range(part * 40, part * 40 + 40):
        rng = np.random.default_rng([seed, number, len(mode)])
        pair = Pair(rng, mode, tmp_path / "table")
        steps = [
            (pair.lookup, 0.5),
            (pair.apply, 0.15),
            (pair.evaluate, 0.1),
            (pair.evict, 0.12),
            (pair.erase, 0.04),
            (pair.set_threshold, 0.05),
            (pair.save, 0.04),
        ]
        for step in range(30):
            action = rng.choice(len(steps), p=[weight for _, weight in steps])
            try:
                steps[action][0]()
                pair.check()
            except AssertionError as error:
                name = steps[action][0].__name__
                raise AssertionError(f"sequence {number}, step {step}, {name}") from error


def test_a_sketch_ages_as_it_says(rng):
    sketch = Sketch(1)
    model = Model(1, 15, sketch=sketch)
    table = mxrec.Table("t", 1, admission=mxrec.Admission(15, mode="sketch", expected_keys=1))
    universe = rng.integers(-(2**62), 2**62, 20_000)
    for _ in range(20):
        keys = universe[rng.integers(0, len(universe), 1000)]
        table.lookup(keys, timestamp=7)
        model.lookup(keys.tolist(), [7] * len(keys))
    assert sum(sketch.arrivals.values()) < 20 * 1000 / 2  # blocks have aged
    counts = table.counts(universe)
    assert counts.max() > 2
    np.testing.assert_array_equal(counts, [sketch.peek(key) for key in universe.tolist()])
