"""Random settings of a warm start, against a reference that applies the rules on dictionaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from table_rows import Rows, rows_of
from warm_start_sources import DIM, Saved, bind, fill, fresh_slots, make_table, make_variables, save

import mxrec
import mxrec.tf as mx

TABLES = ("ad", "ad_host", "user.v2")
SHAPES = {"tower/w": [4, DIM], "tower/w2": [4, DIM], "bias": [2]}
# A selection, and what it selects of the tables and of the variables.
SELECTIONS: list[tuple[Any, set[str], set[str]]] = [
    (".*", set(TABLES), set(SHAPES)),
    ("ad", {"ad"}, set()),
    ("ad.*", {"ad", "ad_host"}, set()),
    ("a", {"ad", "ad_host"}, set()),
    ("user.v2", {"user.v2"}, set()),
    ("[tb]", set(), {"tower/w", "tower/w2", "bias"}),
    ("tower/w$|user|bias", {"user.v2"}, {"bias"}),
    (["user.v2", "ad_host"], {"user.v2", "ad_host"}, set()),
    (["ad", "tower"], {"ad"}, {"tower/w", "tower/w2"}),
    (["bias", ".*_host"], {"ad_host"}, {"bias"}),
    (None, set(), set()),
    ("objects", {"ad", "user.v2"}, {"bias"}),
]


@dataclasses.dataclass
class Setting:
    """One source of the reference, and of the settings."""

    saved: Saved
    selection: Any
    tables: set[str]
    variables: set[str]
    names: dict[str, str]
    slots: str
    mode: str


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Saved]]:
    rng = np.random.default_rng(11)
    saved = []
    for i, optimizer in enumerate(["Adagrad", "Adagrad", "LazyAdam", "SGD", "None", "Adagrad"]):
        prefix = tmp_path_factory.mktemp(f"source{i}") / "model.ckpt-1"
        tables = {
            name: np.arange(start, start + 20)
            for name, start in zip(TABLES, rng.integers(0, 30, 3), strict=True)
        }
        saved.append(save(prefix, tables, SHAPES, rng, optimizer))
    yield saved
    mx.terminate_config_initializer()


def draw(rng: np.random.Generator, sources: list[Saved]) -> Setting:
    selection, tables, variables = SELECTIONS[rng.integers(len(SELECTIONS))]
    names = {name: str(rng.choice(TABLES)) for name in tables if rng.random() < 0.3}
    names |= {name: "tower/w" for name in tables if rng.random() < 0.1}  # row i is key i
    kernels = {"tower/w", "tower/w2"}
    names |= {n: str(rng.choice(list(kernels))) for n in variables & kernels if rng.random() < 0.3}
    return Setting(
        sources[rng.integers(len(sources))],
        selection,
        tables,
        variables,
        names,
        str(rng.choice(["keep", "reset"])),
        str(rng.choice(["replace", "merge"])),
    )


@dataclasses.dataclass
class Reference:
    """Tables and variables as the rules have them."""

    optimizer: str
    tables: dict[str, Rows]
    steps: dict[str, int]
    dense: dict[str, Any]

    def refuses(self, setting: Setting) -> bool:
        """Whether the setting keeps slots that do not fit."""
        kind = setting.saved.optimizer
        taken = any(setting.names.get(name, name) in TABLES for name in setting.tables)
        return taken and setting.slots == "keep" and kind not in ("None", self.optimizer)

    def apply(self, setting: Setting) -> None:
        saved = setting.saved
        keeps = setting.slots == "keep" and saved.optimizer != "None"
        for name in setting.tables:
            if setting.mode == "replace":
                self.tables[name], self.steps[name] = {}, 0
            source = setting.names.get(name, name)
            fresh = fresh_slots(self.optimizer)
            if source in TABLES:
                rows = saved.tables[source]
                if keeps:
                    self.steps[name] = max(self.steps[name], saved.steps[source])
                brought = {k: (row, slots if keeps else fresh) for k, (row, slots) in rows.items()}
            else:
                tensor = saved.dense[source]
                brought = {i: (tensor[i].tobytes(), fresh) for i in range(len(tensor))}
            self.tables[name] = self.tables[name] | brought
        for name in setting.variables:
            self.dense[name] = saved.dense[setting.names.get(name, name)]


def run_one(seed: int, sources: list[Saved]) -> bool:
    """One model with random settings. Returns whether they were refused, as they must be."""
    rng = np.random.default_rng(seed)
    settings = [draw(rng, sources) for _ in range(1 + rng.integers(4))]
    optimizer = str(rng.choice(["Adagrad", "Adagrad", "Adagrad", "LazyAdam", "SGD"]))
    if rng.random() < 0.8:
        kinds = ("None", optimizer)
        settings = [s for s in settings if s.slots == "reset" or s.saved.optimizer in kinds]
        settings = settings or [dataclasses.replace(draw(rng, sources), slots="reset")]
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tables = {name: make_table(name) for name in TABLES}
        variables = make_variables(SHAPES, rng)
        for table in tables.values():
            bind(table, optimizer)
            if rng.random() < 0.5:
                fill(table, rng.permutation(60)[:25], rng)
        session.run(tf.compat.v1.global_variables_initializer())
        reference = Reference(
            optimizer,
            {name: rows_of(table.engine) for name, table in tables.items()},
            {name: table.engine.optimizer_step for name, table in tables.items()},
            session.run(variables),
        )
        refused = any(reference.refuses(setting) for setting in settings)
        if not refused:
            for setting in settings:
                reference.apply(setting)
        objects = [tables["ad"], variables["bias"], tables["user.v2"].nodes().proxy]
        arguments: list[Any] = [
            [setting.saved.prefix for setting in settings],
            [objects if s.selection == "objects" else s.selection for s in settings],
            None,
            [setting.names for setting in settings],
        ]
        options: dict[str, Any] = {
            name: [getattr(setting, name) for setting in settings] for name in ("slots", "mode")
        }
        if len(settings) == 1 and rng.random() < 0.5:
            arguments = [column and column[0] for column in arguments]
            options = {name: column[0] for name, column in options.items()}
        if refused:
            with pytest.raises(ValueError, match="have slots of"):
                mxrec.warm_start(session, *arguments, **options)
        else:
            mxrec.warm_start(session, *arguments, **options)
        for name, table in tables.items():
            assert rows_of(table.engine) == reference.tables[name], name
            assert table.engine.optimizer_step == reference.steps[name], name
        for name, value in session.run(variables).items():
            np.testing.assert_array_equal(value, reference.dense[name], name)
    return refused


@pytest.mark.parametrize("models", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_random_settings_follow_the_rules(models: int, seed: int, sources: list[Saved]) -> None:
    refused = 0
    for i in range(models):
        try:
            refused += run_one(seed + i, sources)
        except BaseException as error:
            error.add_note(f"settings of seed {seed + i}")
            raise
    assert 0 < refused < models / 2
