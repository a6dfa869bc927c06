"""A rewriting that fails, wherever it does, leaves the graph as it was; it can be tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import create, dataset, initializable, keys_of, lookup, one_shot, op_between

import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook
from mxrec.tf import timestamps as timestamps_module
from mxrec.tf.rewrite import edges as edges_module
from mxrec.tf.rewrite import modify as modify_module
from mxrec.tf.rewrite import pipeline as pipeline_module
from mxrec.tf.rewrite import plan as plan_module
from mxrec.tf.rewrite import rebuild as rebuild_module
from mxrec.tf.rewrite import report as report_module

v1 = tf.compat.v1


def edges_of(graph: Any) -> dict[str, tuple[list[str], list[str]]]:
    return {
        op.name: ([t.name for t in op.inputs], [each.name for each in op.control_inputs])
        for op in graph.get_operations()
    }


class Program:
    """Two iterators, two lookups that move, one of them without its timestamps yet."""

    def __init__(self, times: Any = np.int64) -> None:
        self.feeds = [initializable(dataset(3)), one_shot(dataset(3))]
        self.tables = [create("t"), create("u")]
        self.ids = [tf.strings.to_hash_bucket_fast(f.batch["word"], 100) for f in self.feeds]
        self.rows = [lookup(t, ids) for t, ids in zip(self.tables, self.ids, strict=True)]
        with tf.control_dependencies([feed.batch["id"].op for feed in self.feeds]):
            self.after = tf.constant(3.0)
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, tf.constant(7, times))
        self.graph = v1.get_default_graph()
        self.edges = edges_of(self.graph)
        self.iterators = self.graph.get_collection("iterators")

    def assert_untouched(self) -> None:
        now = edges_of(self.graph)
        assert {name: now[name] for name in self.edges} == self.edges
        assert self.graph.get_collection("iterators") == self.iterators
        assert [op_between(keys_of(rows))[0] for rows in self.rows] == [
            "StringToHashBucketFast"
        ] * 2

    def run(self) -> None:
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *self.feeds[0].initializers])
            for _ in range(3):
                session.run([*self.rows, self.after])
        assert [table.stats()["latest_time"] for table in self.tables] == [7, 7]


def failing(plain: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """A function that works so many times, and then no more."""
    left = [calls]

    def function(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("injected")
        return plain(*args, **kwargs)

    return function


SHARED = r"what all lookups share \('lookup_t', 'lookup_u'\)"
SECOND = "iterator 'OneShotIterator', which feeds lookups 'lookup_u'"
# Where a failure is injected, after how many calls, and what the error says it was at.
POINTS = {
    "timestamps": (timestamps_module, "_spread", 1, "the timestamps of op 'lookup_u/MxrecLookup'"),
    "bring up to date": (modify_module.fetches, "bring_up_to_date", 0, SHARED),
    "slice": (plan_module, "_refusal", 1, "lookup 'lookup_u'"),
    "plan": (plan_module, "_connect_lookups", 0, SHARED),
    "pipeline": (rebuild_module, "extended", 1, SECOND),
    "body": (pipeline_module, "_definition", 1, SECOND),
    "iterator": (rebuild_module, "_one_shot", 0, SECOND),
    "rebuild": (rebuild_module, "_get_next", 1, SECOND),
    "reconnect": (rebuild_module, "_reconnect", 1, SECOND),
    "data edges": (edges_module.Edges, "_replace", 4, r"op '\w+' \(\w+\)"),
    "control edges": (edges_module, "_set_control_inputs", 1, r"op '\w+' \(Const\)"),
    "names": (modify_module, "_upstream", 1, SHARED),
    "dump": (report_module, "lines_of", 0, SHARED),
    "notes": (modify_module, "_note_replacements", 1, SHARED),
    "after the notes": (modify_module.timestamps, "forget_late", 0, SHARED),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_failure_leaves_the_edges(
    start: Any, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.chdir(tmp_path)
    owner, name, calls, place = POINTS[point]
    with tf.Graph().as_default():
        program = Program()
        with monkeypatch.context() as patch:
            function = failing(getattr(owner, name), calls)
            if name == "_set_control_inputs":  # taking back what was done works
                function = only_forwards(function)
            patch.setattr(owner, name, function)
            failed = rf"is as before: .*injected\. It failed at {place}.*; pass modify_graph=False"
            with pytest.raises(RuntimeError, match=failed):
                mx.modify_graph_and_start_emb_cache(dump_graph=True)
        program.assert_untouched()
        mx.modify_graph_and_start_emb_cache()
        assert [op_between(keys_of(rows)) for rows in program.rows] == [[], []]
        program.run()
        assert [table.stats()["prepared_lookups"] for table in program.tables] == [3, 3]


def only_forwards(function: Callable[..., Any]) -> Callable[..., Any]:
    plain, failed = edges_module._set_control_inputs, []

    def set_control_inputs(*args: Any) -> None:
        if failed:
            plain(*args)
            return
        try:
            function(*args)
        except ValueError:
            failed.append(True)
            raise

    return set_control_inputs


@pytest.mark.parametrize("point", ["bring up to date", "rebuild", "data edges", "dump", "notes"])
def test_a_second_rewriting_that_fails_leaves_the_first(
    start: Any, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.chdir(tmp_path)
    owner, name, calls, _ = POINTS[point]
    with tf.Graph().as_default():
        program = Program()
        mx.modify_graph_and_start_emb_cache()
        batches = [feed.batch for feed in program.feeds]
        more = [lookup(t, b["id"] + 1) for t, b in zip(program.tables, batches, strict=True)]
        before = edges_of(program.graph)
        iterators = program.graph.get_collection("iterators")
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing(getattr(owner, name), calls))
            with pytest.raises(RuntimeError, match=r"is as before: .*injected"):
                mx.modify_graph_and_start_emb_cache(dump_graph=True)
        now = edges_of(program.graph)
        assert {name: now[name] for name in before} == before
        assert program.graph.get_collection("iterators") == iterators
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *program.feeds[0].initializers])
            session.run([*program.rows, *more])
        assert [table.stats()["prepared_lookups"] for table in program.tables] == [1, 1]


def test_timestamps_that_are_none(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        program = Program(np.float32)
        with pytest.raises(RuntimeError, match="is as before: Timestamps must be int64 or int32"):
            mx.modify_graph_and_start_emb_cache()
        program.assert_untouched()


def test_an_edge_that_tensorflow_refuses(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    with tf.Graph().as_default():
        program = Program()
        plain, other = plan_module.Plan.move, program.feeds[0].initializers[0]

        def strange(self: Any, tensor: Any, table: Any) -> Any:
            move = plain(self, tensor, table)
            if (other, 1) not in move.users and table == "u":
                move.users.append((other, 1))  # of another type
            return move

        with monkeypatch.context() as patch:
            patch.setattr(plan_module.Plan, "move", strange)
            with pytest.raises(RuntimeError, match=r"is as before.*MakeIterator"):
                mx.modify_graph_and_start_emb_cache()
        program.assert_untouched()


def interrupting(plain: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """A function during which the user presses Ctrl-C, the first time after so many calls."""
    left = [calls]

    def function(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    return function


@pytest.mark.parametrize("point", [point for point in POINTS if point != "dump"])
def test_an_interrupt_leaves_the_edges(
    start: Any, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    owner, name, calls, _ = POINTS[point]
    with tf.Graph().as_default():
        program = Program()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupting(getattr(owner, name), calls))
            with pytest.raises(KeyboardInterrupt):
                mx.modify_graph_and_start_emb_cache()
        program.assert_untouched()
        mx.modify_graph_and_start_emb_cache()
        program.run()
        assert [table.stats()["prepared_lookups"] for table in program.tables] == [3, 3]


def test_an_interrupt_of_the_undoing_is_made_good(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    with tf.Graph().as_default():
        program = Program()
        with monkeypatch.context() as patch:
            forwards = failing(edges_module.Edges._replace, 4)
            undo = interrupting(tf.Operation._update_input, 5)  # of the undoing: the second
            patch.setattr(edges_module.Edges, "_replace", forwards)
            patch.setattr(tf.Operation, "_update_input", undo)
            with pytest.raises(KeyboardInterrupt):
                mx.modify_graph_and_start_emb_cache()
        program.assert_untouched()
        mx.modify_graph_and_start_emb_cache()
        program.run()


@pytest.mark.parametrize("hook", [False, True])
def test_a_dump_that_cannot_be_written(
    start: Any, hook: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mxrec_graph_dump"
    folder.write_text("a file")
    with tf.Graph().as_default():
        program = Program()
        ops = len(program.graph.get_operations())
        rewrite = GraphModifierHook(True).begin if hook else mx.modify_graph_and_start_emb_cache
        text = rf"dump_graph=True cannot write '{folder}': .*directory.*or pass dump_graph=False"
        with pytest.raises(RuntimeError, match=text):
            rewrite(**({} if hook else {"dump_graph": True}))
        program.assert_untouched()
        assert len(program.graph.get_operations()) == ops
        folder.unlink()
        mx.modify_graph_and_start_emb_cache(dump_graph=True)
        assert (folder / "0" / "report.txt").is_file()
        program.run()


@pytest.mark.parametrize("part", ["after", "report.txt"])
def test_a_report_that_cannot_be_written(
    start: Any, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        program = Program()
        plain, taken = plan_module.make_plan, tmp_path / "mxrec_graph_dump" / "0" / part

        def planned(*args: Any) -> Any:  # between both graphs
            taken.mkdir() if part == "report.txt" else taken.write_text("a file")
            return plain(*args)

        monkeypatch.setattr(modify_module, "make_plan", planned)
        text = rf"is as before: dump_graph=True cannot write '{taken}'"
        with pytest.raises(RuntimeError, match=text):
            mx.modify_graph_and_start_emb_cache(dump_graph=True)
        program.assert_untouched()
