"""Summaries of tables in event files: TableSummaryHook and TableSummaryCallback."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import by_config, keys, make, train_op
from evict_program import estimator, input_fn

import mxrec
import mxrec.tf as mx
from mxrec.tf.summaries import TableSummaries

v1 = tf.compat.v1
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)
SCALARS = {
    "seen",
    "inserts",
    "erased",
    "load",
    "growth_events",
    "growth_micros",
    "longest_growth_micros",
    "hit_rate",
    "hot_rate",
    "admitted",
    "refused",
    "evicted_by_age",
    "evicted_by_rows",
    "evicted_by_l2",
    "rows",
    "bytes",
}


def events(directory: Path) -> dict[str, dict[int, Any]]:
    """Numbers and histograms by tag and step; a step that is written twice is an error."""
    found: dict[str, dict[int, Any]] = collections.defaultdict(dict)
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.startswith("mxrec/"):
                    assert event.step not in found[value.tag], (value.tag, event.step)
                    kind = value.WhichOneof("value")
                    if kind == "tensor":  # which a summary of TensorFlow 2 may make of numbers
                        found[value.tag][event.step] = float(tf.make_ndarray(value.tensor))
                    else:
                        found[value.tag][event.step] = getattr(value, kind)
    return dict(found)


def scalars_of(found: dict[str, Any], table: str) -> set[str]:
    """What was written of a table, but for the parts that its memory has."""
    stats = mx.table.table_of_name(table).stats()
    parts = {name for name in stats if name.startswith(("bytes_", "rows_"))}
    tags = {tag.removeprefix(f"mxrec/{table}/") for tag in found if f"/{table}/" in tag}
    assert {"bytes_rows", "bytes_index"} <= parts <= tags
    return tags - parts


class Program:
    """Three keys a step; an admission threshold of 2 and an age of 10 seconds."""

    def __init__(self) -> None:
        self.table = make(evict_min_l2=0.01)
        self.other = make("other")
        self.ids = v1.placeholder(tf.int64, [None])
        self.time = v1.placeholder(tf.int64, [None])
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, self.time)
        rows = by_config(access_threshold=2, eviction_threshold=10)(self.table, {"ids": self.ids})
        loss = tf.reduce_sum(rows) + tf.reduce_sum(mx.sparse_lookup(self.other, self.ids))
        step = v1.train.get_or_create_global_step()
        self.train = tf.group(train_op(0.1 * loss), v1.assign_add(step, 1))

    def run(self, session: Any, first: int) -> None:
        ids = keys(first, first, first + 1)
        session.run(self.train, {self.ids: ids, self.time: keys(10 * first)})


def test_scalars(start, tmp_path):
    start()
    with tf.Graph().as_default():
        program = Program()
        hook = mx.TableSummaryHook(save_steps=2, output_dir=str(tmp_path))
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            for first in range(1, 5):
                program.run(session, first)
                session.run(program.ids, {program.ids: keys(1)})  # no step
            program.table.evict(budget=None)
    found = events(tmp_path)
    assert scalars_of(found, "t") == scalars_of(found, "other") == SCALARS
    assert {tuple(steps) for steps in found.values()} == {(1, 3, 4)}
    number = {tag.removeprefix("mxrec/t/"): steps for tag, steps in found.items()}
    assert number["seen"] == {1: 3.0, 3: 9.0, 4: 12.0}
    assert number["admitted"] == {1: 1.0, 3: 3.0, 4: 4.0}
    assert number["refused"] == {1: 1.0, 3: 3.0, 4: 4.0}
    assert number["rows"] == {1: 1.0, 3: 3.0, 4: 1.0}
    assert number["evicted_by_age"] == {1: 0.0, 3: 0.0, 4: 3.0}
    assert number["evicted_by_l2"][4] == number["evicted_by_rows"][4] == 0.0
    stats = program.table.stats()
    assert number["bytes"][4] == pytest.approx(stats["bytes"], rel=0.3)
    assert found["mxrec/other/rows"] == {1: 2.0, 3: 4.0, 4: 5.0}


def test_histograms(start, tmp_path):
    start()
    with tf.Graph().as_default():
        program = Program()
        writer = v1.summary.FileWriter(str(tmp_path))
        hook = mx.TableSummaryHook(100, summary_writer=writer, histograms=True)
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            for first in range(1, 5):
                program.run(session, first)
        writer.close()
    found = events(tmp_path)
    frequencies = found["mxrec/other/frequencies"][4]
    # Keys 1 to 5 have 2, 3, 3, 3 and 1 occurrences.
    assert list(frequencies.bucket_limit) == [1.0, 2.0, 4.0]
    assert list(frequencies.bucket) == [0.0, 1.0, 4.0]
    assert (frequencies.min, frequencies.max, frequencies.num) == (1.0, 3.0, 5.0)
    ages = found["mxrec/t/ages"][4]  # 30, 20, 10 and 0
    assert list(ages.bucket_limit) == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert list(ages.bucket) == [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 2.0]


def test_histograms_of_a_table(start):
    start()
    table = make()
    for key, times in ((1, 1), (2, 2), (3, 3), (4, 1000)):
        mx.sparse_lookup(table, np.full(times, key))
    table.engine.assign(keys(9), np.ones((1, 2), np.float32))
    found = table.histograms()
    np.testing.assert_array_equal(found["edges"][:5], [0, 1, 2, 4, 8])
    assert {int(found["edges"][i]): n for i, n in enumerate(found["frequencies"]) if n} == {
        0: 1,
        1: 1,
        2: 2,
        512: 1,
    }
    assert found["ages"].sum() == 4  # the assigned row was never used


def test_rejected_arguments(start, tmp_path):
    for kwargs, error, text in [
        ({"save_steps": 0}, ValueError, r"save_steps must be in \[1, 2147483647\], got 0"),
        ({"save_steps": 1.5}, TypeError, "save_steps"),
        ({"histograms": 1}, TypeError, "histograms"),
        ({"output_dir": None}, ValueError, "output_dir or summary_writer"),
        ({"summary_writer": object()}, ValueError, "not both"),
    ]:
        with pytest.raises(error, match=text):
            mx.TableSummaryHook(**{"output_dir": str(tmp_path), **kwargs})
    start()
    with tf.Graph().as_default():
        table = make()
        mx.sparse_lookup(table, keys(1), is_train=False)
        mx.TableSummaryHook(output_dir=str(tmp_path)).begin()  # there is nothing to write
        mx.sparse_lookup(table, keys(1))
        with pytest.raises(ValueError, match="global step"):
            mx.TableSummaryHook(output_dir=str(tmp_path)).begin()
    assert not events(tmp_path)


@needs_estimator
@pytest.mark.parametrize("table", [None, {"evict_max_rows": 6}])
@pytest.mark.parametrize("access", [{}, {"access_threshold": 1}])
def test_estimators_write_where_keys_are_admitted_or_evicted(start, tmp_path, access, table):
    start()
    model = estimator(tmp_path, access, table, save_summary_steps=2)
    model.train(input_fn(0, 4))
    found = events(tmp_path)
    if not access and not table:
        assert found == {}
        return
    assert scalars_of(found, "t") == SCALARS | {"save_seconds"}
    assert found["mxrec/t/rows"] == {1: 4.0, 3: 12.0, 4: 16.0}


@needs_estimator
@pytest.mark.parametrize("steps", [0, None])
def test_estimators_write_what_they_are_told(start, tmp_path, steps):
    start()
    model = estimator(tmp_path / "off", {"access_threshold": 1}, save_summary_steps=steps)
    model.train(input_fn(0, 3))
    assert events(tmp_path / "off") == {}
    start()
    model = estimator(tmp_path / "own", {"access_threshold": 1})
    hook = mx.TableSummaryHook(1, output_dir=str(tmp_path / "there"))
    model.train(input_fn(0, 3), hooks=[hook], steps=2)
    assert events(tmp_path / "own") == {}
    assert list(events(tmp_path / "there")["mxrec/t/rows"]) == [1, 2]


@needs_estimator
def test_train_and_evaluate_writes_while_training(start, tmp_path):
    start()
    model = estimator(tmp_path, {"access_threshold": 1}, save_summary_steps=3)
    tf.estimator.train_and_evaluate(
        model,
        tf.estimator.TrainSpec(input_fn(0, 6), max_steps=6),
        tf.estimator.EvalSpec(input_fn(0, 3), start_delay_secs=0, throttle_secs=0),
    )
    assert list(events(tmp_path)["mxrec/t/rows"]) == [1, 4, 6]
    assert events(tmp_path / "eval") == {}


def test_rates_are_since_the_summary_before(start):
    start()
    table = make()
    summaries = TableSummaries(histograms=False)

    def numbers() -> dict[str, float]:
        values = summaries.of([table]).value
        return {value.tag.removeprefix("mxrec/t/"): value.simple_value for value in values}

    assert "hit_rate" not in numbers()  # nothing was looked up
    mx.sparse_lookup(table, keys(1, 2, 3, 4))
    assert numbers()["hit_rate"] == 0.0
    mx.sparse_lookup(table, keys(1, 2, 3, 5))
    found = numbers()
    assert found["hit_rate"] == 0.75
    assert 0.0 <= found["hot_rate"] <= 0.75
    assert "hit_rate" not in numbers()
    mx.terminate_config_initializer()
    start()
    table = make()  # another table of the name
    mx.sparse_lookup(table, keys(1))
    assert numbers()["hit_rate"] == 0.0


def test_growth_is_timed(start):
    start()
    table = make()
    summaries = TableSummaries(histograms=False)
    names = ("growth_events", "growth_micros", "longest_growth_micros")

    def numbers() -> list[float]:
        values = {
            v.tag.removeprefix("mxrec/t/"): v.simple_value for v in summaries.of([table]).value
        }
        return [values[name] for name in names]

    mx.sparse_lookup(table, keys(1, 2, 3, 4))
    assert numbers() == [0.0, 0.0, 0.0]
    mx.sparse_lookup(table, np.arange(90_000))
    events, micros, longest = numbers()
    assert events > 5
    assert 0 < longest < micros <= events * (longest + 1)
    mx.sparse_lookup(table, np.arange(1000))  # nothing grows
    assert numbers() == [events, micros, longest]
    assert [table.stats()[name] for name in names] == [events, micros, longest]


def test_parts_and_tiers_are_written_when_stats_has_them():
    class Tiered:
        table_name = "t"
        engine = mxrec.Table("t", 1)._engine

        def stats(self) -> dict[str, Any]:
            return {**self.engine.stats(), "bytes_ssd": 5, "rows_host": 7, "other": 9}

    found = {v.tag: v.simple_value for v in TableSummaries(histograms=False).of([Tiered()]).value}
    assert found["mxrec/t/bytes_ssd"] == 5.0
    assert found["mxrec/t/rows_host"] == 7.0
    assert "mxrec/t/other" not in found


def test_times_of_checkpoints(start, tmp_path):
    start()
    table = make()
    mx.sparse_lookup(table, keys(1, 2))
    summaries = TableSummaries(histograms=False)
    tags = lambda: {value.tag for value in summaries.of([table]).value}  # noqa: E731
    assert not any("seconds" in tag for tag in tags())
    mx.save_tables(tmp_path / "c")
    assert "mxrec/t/save_seconds" in tags() and "mxrec/t/restore_seconds" not in tags()
    mx.sparse_lookup(table, keys(3))
    mx.restore_tables(tmp_path / "c")
    assert "mxrec/t/restore_seconds" in tags()


def fitted(tmp_path: Path, **options: Any) -> dict[str, dict[int, Any]]:
    inputs = tf.keras.Input((2,), dtype="int64")
    rows = mx.Embedding("t", 2, optimizer="sgd")(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(rows)))
    model.compile("sgd", "mse")
    callback = mx.TableSummaryCallback(tmp_path, **options)
    ids = np.arange(24).reshape(12, 2)
    for _ in range(2):
        model.fit(ids, np.ones(12), batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    return events(tmp_path)


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, [3, 6, 9, 12]), ({"update_freq": 2}, [1, 3, 5, 6, 7, 9, 11, 12])],
)
def test_fit_writes(start, tmp_path, options, steps):
    start()
    found = fitted(tmp_path, histograms=True, **options)
    assert SCALARS - {"hot_rate", "hit_rate"} < {tag.removeprefix("mxrec/t/") for tag in found}
    assert list(found["mxrec/t/rows"]) == steps
    assert found["mxrec/t/rows"][12] == 24.0
    assert found["mxrec/t/seen"][12] == 96.0
    assert found["mxrec/t/hit_rate"][12] == 1.0
    assert found["mxrec/t/frequencies"][12].num == 24.0


def test_fit_without_tables_writes_nothing(start, tmp_path):
    start()
    model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = mx.TableSummaryCallback(tmp_path / "x")
    model.fit(np.ones((2, 1)), np.ones(2), verbose=0, callbacks=[callback])
    assert not (tmp_path / "x").exists()


def test_rejected_arguments_of_the_callback(tmp_path):
    for kwargs, error, text in [
        ({"update_freq": "batch"}, ValueError, "update_freq must be 'epoch'"),
        ({"update_freq": 0}, ValueError, "update_freq"),
        ({"histograms": 1}, TypeError, "histograms"),
        ({"log_dir": None}, TypeError, "log_dir"),
    ]:
        with pytest.raises(error, match=text):
            mx.TableSummaryCallback(**{"log_dir": tmp_path, **kwargs})
