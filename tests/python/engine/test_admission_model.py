"""Random streams through a table and a dictionary: equal after every step."""

from __future__ import annotations

import time

import numpy as np
import pytest
from admission_model import Model, Ones, Sketch, Twin
from contents import contents

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
        # By these everything can be computed by hand; by those only beside another table.
        kinds = {
            "ones": {"initializer": mxrec.Ones(), "optimizer": mxrec.SGD(0.5)},
            "twin": {"initializer": mxrec.Uniform(-1, 1), "optimizer": mxrec.Adagrad(0.3)},
        }
        self.kind = str(rng.choice(["ones", "twin"]))
        kind = {**kinds[self.kind], "seed": int(rng.integers(0, 2**63))}
        self.by_clock = bool(rng.random() < 0.2)
        self.model = Model(
            Ones(DIM, 0.5) if self.kind == "ones" else Twin(mxrec.Table("twin", DIM, **kind)),
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
            **kind,
            num_shards=int(rng.choice([1, 2, 8])),
            admission=admission,
            eviction=mxrec.Eviction(**rules),
        )
        self.universe = rng.integers(-(2**62), 2**62, int(rng.choice([20, 200])))
        self.time = int(rng.integers(0, 5))

    def keys(self, most: int = 60) -> np.ndarray:
        if self.rng.random() < 0.1:
            return np.empty(0, np.int64)
        ranks = self.rng.zipf(1.3, int(self.rng.integers(0, most))) - 1
        return self.universe[ranks % len(self.universe)].copy()

    def times(self, keys: np.ndarray) -> tuple[object, list[int]]:
        """What a lookup is given, and the time of each key that it means; moves the clock."""
        self.time += int(self.rng.integers(0, 4))
        n = len(keys)
        kind = self.rng.integers(0, 5)
        if kind == 0:  # one time for each key, some of long ago
            given = np.maximum(self.time - self.rng.integers(0, 30, n), 0)
            return given.astype(np.int32 if self.rng.random() < 0.5 else np.int64), given.tolist()
        if kind == 1 and n % 2 == 0:  # examples of several keys
            given = np.maximum(self.time - self.rng.integers(0, 9, n // 2), 0)
            return given, np.repeat(given, 2).tolist()
        backwards = self.rng.random() < 0.2
        at = max(self.time - 25, 0) if backwards else self.time
        if n == 0:  # a time that was said counts, even of no key
            self.model.latest = max(self.model.latest, at)
        return at, [at] * n

    def lookup(self) -> None:
        keys = self.keys()
        pools = self.rng.random() < 0.3
        offsets = np.sort(self.rng.integers(0, len(keys) + 1, int(self.rng.integers(0, 9))))
        offsets = np.array([0, *offsets, len(keys)])  # some bags are empty
        given, times = (None, None) if self.by_clock else self.times(keys)
        before = int(time.time())
        if pools:
            found = self.table.lookup_pooled(keys, offsets, timestamp=given)
        else:
            found = self.table.lookup(keys, timestamp=given)
        if times is None:
            # Within a second the table alone knows.
            latest = self.table.stats()["latest_time"]
            if len(keys):
                assert before <= latest <= time.time()
            times, self.time = [latest] * len(keys), latest
        expected = self.model.lookup(keys.tolist(), times)
        if pools:
            expected = self.model.values.pool(keys.tolist(), offsets.tolist())
        np.testing.assert_array_equal(found, expected)

    def apply(self) -> None:
        keys = self.keys()
        grads = self.rng.integers(-2, 3, (len(keys), DIM)).astype(np.float32) / 4
        self.table.apply_gradients(keys, grads)
        self.model.apply(keys.tolist(), grads)

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
        now = max(self.time + int(self.rng.integers(-5, 30)), 0)
        if self.by_clock:
            now = max(now, int(time.time()) + 2)  # "now" would be a second or the next
        elif self.rng.random() < 0.6:
            now = None
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
        there = contents(table)
        assert there.keys.tolist() == sorted(model.rows)
        np.testing.assert_array_equal(there.values, model.read(there.keys.tolist()))
        if isinstance(model.values, Twin):
            twin = contents(model.values.table)
            assert there.slots.shape == (len(there.keys), DIM)
            np.testing.assert_array_equal(there.slots, twin.slots)
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
    model = Model(Ones(1, 0.5), 15, sketch=sketch)
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
