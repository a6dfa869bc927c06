"""A table beside a dictionary, trained and saved at random, and every version of both."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from admission_model import Model, Ones, Sketch

import mxrec

DIM = 3


class Pair:
    """A table and its model, with random rules of admission and eviction."""

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        self.rng = rng
        mode = rng.choice(["none", "exact", "sketch"])
        threshold = None if mode == "none" else int(rng.integers(1, 5))
        expected = int(rng.choice([1, 4096 * 3]))
        max_age = int(rng.integers(1, 40)) if rng.random() < 0.7 else None
        self.model = Model(
            Ones(DIM, 0.5),
            threshold,
            1,
            Sketch(expected) if mode == "sketch" else None,
            max_age=max_age,
        )
        self.options = {
            "optimizer": mxrec.SGD(0.5),
            "initializer": mxrec.Ones(),
            "admission": None
            if threshold is None
            else mxrec.Admission(threshold, 1, str(mode), expected_keys=expected),
            "eviction": None if max_age is None else mxrec.Eviction(max_age=max_age),
        }
        self.name = name
        self.table = self.make()
        self.universe = rng.integers(-(2**62), 2**62, int(rng.choice([20, 300])))
        self.time = 1

    def make(self) -> mxrec.Table:
        shards = int(self.rng.choice([1, 2, 8]))
        return mxrec.Table(self.name, DIM, num_shards=shards, **self.options)

    def keys(self, most: int = 60) -> np.ndarray:
        ranks = self.rng.zipf(1.3, int(self.rng.integers(0, most))) - 1
        return self.universe[ranks % len(self.universe)].copy()

    def train(self) -> None:
        keys = self.keys()
        self.time += int(self.rng.integers(0, 4))
        times = [self.time] * len(keys)
        self.table.lookup(keys, timestamp=self.time)
        self.model.lookup(keys.tolist(), times)
        self.model.latest = max(self.model.latest, self.time)
        grads = self.rng.integers(-2, 3, (len(keys), DIM)).astype(np.float32) / 4
        self.table.apply_gradients(keys, grads)
        self.model.apply(keys.tolist(), grads)

    def erase(self) -> None:
        keys = self.keys(8)
        self.table.erase(keys)
        self.model.erase(keys.tolist())

    def assign(self) -> None:
        keys = np.unique(self.keys(5))
        keys = keys[self.table.contains(keys)]
        values = self.rng.normal(size=(len(keys), DIM)).astype(np.float32)
        self.table.assign(keys, values)
        for key, row in zip(keys.tolist(), values, strict=True):
            self.model.values.rows[key] = row

    def evict(self) -> None:
        if self.options["eviction"] is None:
            return
        budget = int(self.rng.integers(0, 4)) if self.rng.random() < 0.5 else None
        self.table.evict(budget=budget)  # a sweep may be under way when a save begins
        self.model.evict(None)

    def set_threshold(self) -> None:
        if self.options["admission"] is not None:
            n = int(self.rng.integers(0, 6))
            self.table.set_threshold(n)
            self.model.set_threshold(n)

    def check(self) -> None:
        model, table = self.model, self.table
        assert len(table) == len(model.rows)
        assert sorted(table.keys().tolist()) == sorted(model.rows)
        universe = self.universe.tolist()
        np.testing.assert_array_equal(
            table.lookup(self.universe, train=False), model.read(universe)
        )
        np.testing.assert_array_equal(
            table.counts(self.universe), [model.count(key) for key in universe]
        )


class Stream:
    """Two pairs that are saved together."""

    def __init__(self, seed: list[int], directory: Path) -> None:
        self.rng = np.random.default_rng(seed)
        self.directory = directory
        self.pairs = [Pair(self.rng, name) for name in ("a", "b")]
        self.versions: dict[int, tuple[list[Model], list[int]]] = {}
        self.pending: list[mxrec.Save] = []
        self.step = 0

    @property
    def tables(self) -> list[mxrec.Table]:
        return [pair.table for pair in self.pairs]

    def train(self) -> None:
        for pair in self.pairs:
            pair.train()

    def change(self) -> None:
        pair = self.pairs[int(self.rng.integers(2))]
        action = self.rng.choice(["erase", "assign", "evict", "set_threshold"])
        getattr(pair, action)()

    def save(self) -> None:
        self.step += int(self.rng.integers(1, 3))
        delta, wait = bool(self.rng.random() < 0.75), bool(self.rng.random() < 0.5)
        started = mxrec.save(self.tables, self.directory, step=self.step, delta=delta, wait=wait)
        self.pending.append(started)
        models = copy.deepcopy([pair.model for pair in self.pairs])
        self.versions[self.step] = models, [pair.time for pair in self.pairs]

    def settle(self) -> None:
        """Waits for what is being saved, and compares the list of versions."""
        for started in self.pending:
            started.wait()
        self.pending.clear()
        steps = [v.step for v in mxrec.versions(self.directory)]
        assert sorted(steps) == sorted(self.versions)

    def restore(self) -> None:
        """Restores the newest version or any other, into these tables or new ones."""
        if not self.versions:
            return
        self.settle()
        steps = list(self.versions)
        newest = self.rng.random() < 0.3
        step = steps[-1] if newest else int(self.rng.choice(steps))
        if self.rng.random() < 0.5:
            for pair in self.pairs:
                pair.table.close()
                pair.table = pair.make()
        found = mxrec.restore(self.tables, self.directory, step=None if newest else step)
        assert found == step
        models, times = self.versions[step]
        for pair, model, time in zip(self.pairs, copy.deepcopy(models), times, strict=True):
            pair.model, pair.time = model, time

    def prune(self) -> None:
        self.settle()
        for step in mxrec.prune(self.directory, keep=int(self.rng.integers(1, 4))):
            del self.versions[step]

    def run(self, steps: int) -> None:
        actions = [
            (self.train, 0.4),
            (self.change, 0.25),
            (self.save, 0.2),
            (self.restore, 0.13),
            (self.prune, 0.02),
        ]
        weights = [weight for _, weight in actions]
        self.directory.mkdir()
        for number in range(steps):
            action = actions[self.rng.choice(len(actions), p=weights)][0]
            try:
                action()
                for pair in self.pairs:
                    pair.check()
            except (AssertionError, OSError) as error:
                error.add_note(f"action {number}, {action.__name__}")
                raise
        self.settle()
        for step in self.versions:
            others = [pair.make() for pair in self.pairs]
            assert mxrec.restore(others, self.directory, step=step) == step
            models, _ = self.versions[step]
            for pair, table, model in zip(self.pairs, others, models, strict=True):
                pair.table.close()
                pair.table, pair.model = table, model
                pair.check()
