"""Plain, rewritten and FeatureSpec training of one model leave the same losses and tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow as tf
from graph_runs import contents
from rewrite_runs import (
    Trained,
    assert_equal,
    create,
    dataset,
    initializable,
    lookup,
    loss_of,
    one_shot,
    train_op_of,
)

import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook
from tf_adapter import NPUEstimator, NPURunConfig

v1 = tf.compat.v1
STEPS = 300
MODES = ("plain", "rewritten", "spec")
FEATURES = ("word", "number", "cross", "few", "all")
ONE, SEVERAL = ("t",), ("a", "bb", "ccc")
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


def ids_of(batch: dict[str, Any]) -> dict[str, Any]:
    """The ids of each feature."""
    cross = tf.strings.join([batch["word"], batch["number"]], separator="_")
    return {
        "word": tf.strings.to_hash_bucket_fast(batch["word"], 1000),
        "number": tf.strings.to_number(batch["number"], tf.int64),
        "cross": tf.strings.to_hash_bucket_fast(cross, 2000),
        "few": tf.cast(batch["small"], tf.int64) % 7,
        "all": tf.reshape(batch["id"] * 7 % 331, [-1, 2, 2]),
    }


def access_of(number: int, tables: tuple[str, ...]) -> dict[str, int]:
    """Admission to the first table only, if there are several."""
    return {"access_threshold": 3, "faae_coefficient": 2} if number % len(tables) == 0 else {}


def specs_of(tables: tuple[str, ...]) -> list[Any]:
    return [
        mx.FeatureSpec(name, tables[i % len(tables)], **access_of(i, tables))
        for i, name in enumerate(FEATURES)
    ]


def data_of(mode: str, tables: tuple[str, ...], steps: int, seed: int = 0) -> Any:
    data = dataset(steps, seed)
    if mode != "spec":
        return data
    data = data.map(lambda batch: {**ids_of(batch), "label": batch["label"]})
    return data.map(mx.get_asc_insert_func(specs_of(tables), is_training=True))


def rows_of(mode: str, batch: Any, by_name: dict[str, Any]) -> list[Any]:
    tables = tuple(by_name)
    if mode == "spec":
        specs = specs_of(tables)
        return [mx.sparse_lookup(by_name[s.table_name], s, batch=batch) for s in specs]
    ids = ids_of(batch)
    return [
        lookup(
            by_name[tables[i % len(tables)]],
            ids[name],
            access_and_evict_config=access_of(i, tables) or None,
        )
        for i, name in enumerate(FEATURES)
    ]


class Source(NamedTuple):
    """A batch, and the runs of it: what initializes the iterator, and how many steps follow."""

    batch: Any
    runs: list[tuple[Any, int]]


def of_one_shot(mode: str, tables: tuple[str, ...], steps: int) -> Source:
    return Source(one_shot(data_of(mode, tables, steps)).batch, [(None, steps)])


def of_initializable(mode: str, tables: tuple[str, ...], steps: int) -> Source:
    feed = initializable(data_of(mode, tables, steps))
    return Source(feed.batch, [(feed.initializers[0], steps)])


def of_two_datasets(mode: str, tables: tuple[str, ...], steps: int) -> Source:
    """One iterator over two datasets by turns, of which it leaves some half-way."""
    first, second = (data_of(mode, tables, steps // 3, seed) for seed in (0, 1))
    iterator = v1.data.Iterator.from_structure(
        v1.data.get_output_types(first), v1.data.get_output_shapes(first)
    )
    starts = [iterator.make_initializer(each) for each in (first, second)]
    lengths = [steps // 3, steps // 5, steps // 4]
    lengths.append(steps - sum(lengths))
    return Source(iterator.get_next(), [(starts[i % 2], n) for i, n in enumerate(lengths)])


MakeSource = Callable[[str, tuple[str, ...], int], Source]
SOURCES = [of_one_shot, of_initializable, of_two_datasets]


def train(mode: str, make_source: MakeSource, tables: tuple[str, ...]) -> Trained:
    mx.terminate_config_initializer()
    mx.init()
    with tf.Graph().as_default():
        by_name = {name: create(name) for name in tables}
        source = make_source(mode, tables, STEPS)
        rows = rows_of(mode, source.batch, by_name)
        loss = loss_of(rows, source.batch["label"])
        train_op = train_op_of(loss)
        if mode == "rewritten":
            mx.modify_graph_and_start_emb_cache()
        if mode == "spec":
            mx.start_asc_pipeline()
        losses: list[float] = []
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for start, steps in source.runs:
                if start is not None:
                    session.run(start)
                losses += [session.run([loss, train_op])[0] for _ in range(steps)]
        assert len(losses) == STEPS
        stats = [table.stats() for table in by_name.values()]
        assert {each["prepared_lookups"] > 0 for each in stats} == {mode != "plain"}
        assert [each["refused_by_admission"] > 0 for each in stats] == [True, False, False][
            : len(tables)
        ]
        return Trained(losses, {name: contents(table) for name, table in by_name.items()})


def assert_trained(result: Trained) -> None:
    """Losses change, and tables have rows, trained values, and optimizer slots."""
    for keys, frequency, values, slots in result.tables.values():
        assert len(keys) > 5 and (frequency > 0).all()
        assert abs(values).max() > 0 and abs(slots).max() > 0
    assert result.losses[-1] != result.losses[0]


@pytest.mark.parametrize("tables", [ONE, SEVERAL])
@pytest.mark.parametrize("make_source", SOURCES)
def test_every_iterator_in_every_mode(make_source: MakeSource, tables: tuple[str, ...]) -> None:
    plain, rewritten, spec = (train(mode, make_source, tables) for mode in MODES)
    assert_trained(plain)
    assert_equal(plain, rewritten)
    assert_equal(plain, spec)
    mx.terminate_config_initializer()


@pytest.mark.parametrize("make_source", [of_one_shot, of_initializable])
def test_prefetches_before_the_iterator(make_source: MakeSource) -> None:
    def prefetching(depth: int) -> MakeSource:
        def source(mode: str, tables: tuple[str, ...], steps: int) -> Source:
            data = data_of(mode, tables, steps)
            data = data.prefetch(depth) if depth else data
            if make_source is of_one_shot:
                return Source(one_shot(data).batch, [(None, steps)])
            feed = initializable(data)
            return Source(feed.batch, [(feed.initializers[0], steps)])

        return source

    plain = train("plain", prefetching(0), SEVERAL)
    assert_trained(plain)
    for depth in (0, 1, 8):
        assert_equal(plain, train("rewritten", prefetching(depth), SEVERAL))
    mx.terminate_config_initializer()


# --- Graphs next to each other --------------------------------------------------------------------


def test_two_graphs_train_as_each_alone(start: Any) -> None:
    steps = 100

    class Program:
        def __init__(self, number: int, rewritten: bool) -> None:
            self.graph = tf.Graph()
            self.losses: list[float] = []
            with self.graph.as_default():
                names = [("one", "two"), ("three", "fours")][number]
                self.tables = {name: create(name) for name in names}
                make = [one_shot, initializable][number]
                feed = make(data_of("plain", names, steps, number))
                self.rows = rows_of("plain", feed.batch, self.tables)
                self.loss = loss_of(self.rows, feed.batch["label"])
                self.train_op = train_op_of(self.loss)
                self.start = [v1.global_variables_initializer(), *feed.initializers]
            if rewritten:
                mx.modify_graph_and_start_emb_cache(full_graph=self.graph)
            self.session: Any = None

        def step(self) -> None:
            if self.session is None:
                self.session = v1.Session(graph=self.graph)
                self.session.run(self.start)
            self.losses.append(self.session.run([self.loss, self.train_op])[0])

        def result(self) -> Trained:
            self.session.close()
            return Trained(self.losses, {n: contents(t) for n, t in self.tables.items()})

    alone = []
    for number in range(2):
        start()
        program = Program(number, rewritten=False)
        for _ in range(steps):
            program.step()
        alone.append(program.result())
    start()
    programs = [Program(number, rewritten=True) for number in range(2)]
    for step in range(steps):
        for program in programs if step % 3 else reversed(programs):
            program.step()
    for program, result in zip(programs, alone, strict=True):
        assert all(t.stats()["prepared_lookups"] > 0 for t in program.tables.values())
        assert_trained(result)
        assert_equal(result, program.result())


# --- Initializers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_initializers_leave_trained_tables_as_they_are(start: Any, mode: str) -> None:
    """Scripts run the variables' initializer after the iterator's, and again."""
    start()
    with tf.Graph().as_default():
        by_name = {name: create(name) for name in SEVERAL}
        source = of_initializable(mode, SEVERAL, 40)
        loss = loss_of(rows_of(mode, source.batch, by_name), source.batch["label"])
        train_op = train_op_of(loss)
        if mode == "rewritten":
            mx.modify_graph_and_start_emb_cache()
        initializers = [v1.global_variables_initializer(), v1.local_variables_initializer()]
        (initializer, _), *_ = source.runs
        with v1.Session() as session:
            session.run([initializer, *initializers])
            for _ in range(20):
                session.run(train_op)
            before = Trained([0.0], {name: contents(t) for name, t in by_name.items()})
            assert min(len(parts[0]) for parts in before.tables.values()) > 0
            for _ in range(2):
                session.run(initializers)
                session.run(initializer)
            after = Trained([0.0], {name: contents(t) for name, t in by_name.items()})
            assert_equal(before, after)
            session.run(train_op)


# --- Estimator ------------------------------------------------------------------------------------


def estimator_losses(
    folder: Path, mode: str, tables: tuple[str, ...], make_input: Callable[[Any], Any]
) -> Trained:
    kept = Trained([], {})

    class Keep(v1.train.SessionRunHook):  # type: ignore[misc, name-defined]
        def before_run(self, context: Any) -> Any:
            (loss,) = context.session.graph.get_collection("the loss")
            return v1.train.SessionRunArgs(loss)

        def after_run(self, context: Any, values: Any) -> None:
            kept.losses.append(float(values.results))

        def end(self, session: Any) -> None:
            made = mx.registered_tables()
            prepared = {t.stats()["prepared_lookups"] > 0 for t in made}
            assert prepared == {kind != "plain"}
            kept.tables.update({t.table_name: contents(t) for t in made})

    def model_fn(features: Any, labels: Any, mode: Any = None) -> Any:
        del labels
        by_name = {name: create(name) for name in tables}
        loss = loss_of(rows_of(kind, features, by_name), features["label"])
        v1.add_to_collection("the loss", loss)
        step = v1.assign_add(v1.train.get_or_create_global_step(), 1)
        train_op = tf.group(train_op_of(loss), step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn() -> Any:
        return make_input(data_of(kind, tables, STEPS).map(lambda batch: (batch, batch["label"])))

    kind = mode
    mx.terminate_config_initializer()
    mx.init()
    config = NPURunConfig(tf_random_seed=1, save_checkpoints_steps=STEPS)
    model = NPUEstimator(model_fn=model_fn, model_dir=str(folder), config=config)
    hooks = [Keep(), *([GraphModifierHook()] if mode == "rewritten" else [])]
    with contextlib.suppress(tf.errors.OutOfRangeError):
        model.train(input_fn, hooks=hooks)
    return kept


def as_dataset(data: Any) -> Any:
    return data


def as_tensors(data: Any) -> Any:
    return v1.data.make_one_shot_iterator(data).get_next()


def as_initialized_tensors(data: Any) -> Any:
    iterator = v1.data.make_initializable_iterator(data)
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    return iterator.get_next()


@needs_estimator
@pytest.mark.parametrize(
    ("make_input", "tables"),
    [
        (as_dataset, SEVERAL),
        (as_tensors, ONE),
        (as_initialized_tensors, SEVERAL),
        pytest.param(as_dataset, ONE, marks=pytest.mark.slow),
        pytest.param(as_tensors, SEVERAL, marks=pytest.mark.slow),
        pytest.param(as_initialized_tensors, ONE, marks=pytest.mark.slow),
    ],
)
def test_input_fns_in_every_mode(
    tmp_path: Path, make_input: Callable[[Any], Any], tables: tuple[str, ...]
) -> None:
    plain, rewritten, spec = (
        estimator_losses(tmp_path / mode, mode, tables, make_input) for mode in MODES
    )
    assert len(plain.losses) == STEPS
    assert_trained(plain)
    assert_equal(plain, rewritten)
    assert_equal(plain, spec)
    mx.terminate_config_initializer()
