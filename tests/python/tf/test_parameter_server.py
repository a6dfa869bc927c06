"""Tables of another process: a parameter server on loopback, and this process as its worker."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ps_program import make, make_tiered, model

import mxrec.tf as mx

v1 = tf.compat.v1
PROGRAM = Path(__file__).with_name("ps_program.py")
SECONDS = 120


class Server:
    """The parameter server, and a worker of its cluster."""

    def __init__(self, log: Path) -> None:
        self.cluster = {job: [f"127.0.0.1:{free_port()}"] for job in ("ps", "worker")}
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(self.cluster), str(log.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def start_worker(self) -> None:
        """Waits for the parameter server and joins its cluster."""
        self._line()
        cluster = tf.train.ClusterSpec(self.cluster)
        self.worker = v1.train.Server(cluster, job_name="worker", task_index=0)

    def stats(self, table: str) -> dict[str, Any]:
        """What the parameter server says of its table."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(self._line()[table])

    def end(self) -> None:
        self._process.kill()
        self._process.wait(SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _line(self) -> Any:
        line = self._lines.get(timeout=SECONDS)
        assert line, self._log.read_text()
        return json.loads(line)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ps") / "stderr")
    try:
        server.start_worker()
        yield server
    finally:
        server.end()


def on_servers(server: Server) -> Any:
    return v1.device(v1.train.replica_device_setter(cluster=tf.train.ClusterSpec(server.cluster)))


def keys(*values: int) -> Any:
    return np.array(values, np.int64)


def session_of(server: Server) -> Any:
    return v1.Session(server.worker.target, config=v1.ConfigProto(operation_timeout_in_ms=60_000))


def test_rules_go_where_the_table_is(start, server):
    start()
    assert server.stats("bare")["threshold"] is None
    with tf.Graph().as_default(), on_servers(server):
        table = make("bare")
        assert table.nodes().handle.device == "/job:ps/task:0"
        ids = v1.placeholder(tf.int64, [None])
        times = v1.placeholder(tf.int64, [])
        v1.add_to_collection(mx.ASCEND_TIMESTAMP, times)
        # A lookup that says nothing, built before the one that does.
        silent = mx.sparse_lookup(table, ids)
        access = {"access_threshold": 5, "eviction_threshold": 10, "faae_coefficient": 2}
        rows = mx.sparse_lookup(
            table, ids, access_and_evict_config=access, serving_default_value=7.0
        )
        read = mx.sparse_lookup(table, ids, is_train=False)
        lower = mx.get_host_pipeline_ops().set_threshold(1, emb_name="bare")
        v1.train.get_or_create_global_step()
        count = v1.assign_add(v1.train.get_global_step(), 1)
        hook = mx.EvictHook(evict_enable=True, evict_step_interval=1)
        with session_of(server) as session:
            np.testing.assert_array_equal(session.run(silent, {ids: keys(1), times: 100}), [[0, 0]])
            for batch, wanted in (
                (keys(1, 2), [[7, 7], [7, 7]]),  # 1 + 2, 2
                (keys(1), [[1, 1]]),
            ):
                np.testing.assert_array_equal(
                    session.run(rows, {ids: batch, times: 100}), np.array(wanted)
                )
            np.testing.assert_array_equal(session.run(read, {ids: keys(1, 2)}), [[1, 1], [0, 0]])
            stats = server.stats("bare")
            assert stats["counts"][:4] == [0, 5, 2, 0]
            assert (stats["rows"], stats["threshold"], stats["max_age"]) == (1, 5, 10)
            assert table.size() == 0  # this process's own
            session.run(lower)
            assert server.stats("bare")["threshold"] == 1
            np.testing.assert_array_equal(session.run(rows, {ids: keys(3), times: 105}), [[1, 1]])
        with v1.train.MonitoredTrainingSession(
            server.worker.target, hooks=[hook], checkpoint_dir=None
        ) as session:
            session.run([count, rows], {ids: keys(4), times: 112})
        stats = server.stats("bare")
        assert stats["counts"][:5] == [0, 0, 0, 1 * 2, 1 * 2]
        assert stats["rows"] == 2


def test_the_kind_of_counters_goes_too(start, server):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        table = make("sketch", admission="sketch", admission_keys=4096)
        access = {"access_threshold": 2}
        rows = mx.sparse_lookup(table, keys(1, 2, 2), access_and_evict_config=access)
        np.testing.assert_array_equal(session.run(rows), [[0, 0], [1, 1], [1, 1]])
    stats = server.stats("sketch")
    assert (stats["mode"], stats["threshold"], stats["rows"]) == ("sketch", 2, 1)


def fives(shape: Any, dtype: Any = tf.float32) -> Any:
    """No initializer of the engine."""
    return tf.fill(shape, tf.constant(5.0, dtype))


def test_rows_of_a_custom_initializer(start, server):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        table = make("custom", fives)
        access = {"access_threshold": 2}
        rows = mx.sparse_lookup(table, keys(1, 2, 2), access_and_evict_config=access)
        np.testing.assert_array_equal(session.run(rows), [[0, 0], [5, 5], [5, 5]])
    stats = server.stats("custom")
    assert (stats["rows"], stats["counts"][1:3]) == (1, [1, 2])


@pytest.mark.parametrize("inside", ["function", "cond"])
def test_lookups_in_functions_and_branches(start, server, inside):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        table = make(inside)

        def lookup() -> Any:
            access = {"access_threshold": 2}
            return mx.sparse_lookup(table, keys(1, 2, 2), access_and_evict_config=access)

        taken = v1.placeholder_with_default(True, [])
        if inside == "function":
            rows = tf.function(lookup)()
        else:
            rows = v1.cond(taken, lookup, lambda: tf.zeros([3, 2]))
        np.testing.assert_array_equal(session.run(rows), [[0, 0], [1, 1], [1, 1]])
    assert server.stats(inside)["rows"] == 1


def test_a_server_that_runs_the_same_code_trains(start, server):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        table = make("trained")
        ids = v1.placeholder(tf.int64, [None])
        rows, train = model(table, ids, {"access_threshold": 2})
        both = [rows, train]
        values, _ = session.run(both, {ids: keys(1, 2, 2)})
        np.testing.assert_array_equal(values, [[0, 0], [1, 1], [1, 1]])
        values, _ = session.run(both, {ids: keys(1, 2)})
        np.testing.assert_array_equal(values, [[1, 1], [0, 0]])
        assert table.size() == 0
    assert server.stats("trained")["rows"] == 2


def test_the_servers_table_has_an_ssd_tier(start, server, tmp_path):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        table = make_tiered(str(tmp_path))
        ids = v1.placeholder(tf.int64, [None])
        rows, train = model(table, ids, None)
        for first, wanted in ((0, 1.0), (300, 1.0), (0, 0.5), (300, 0.5)):
            values, _ = session.run([rows, train], {ids: np.arange(first, first + 300)})
            np.testing.assert_array_equal(values, np.full((300, 2), wanted))
        assert table.size() == 0  # this process's own
    stats = server.stats("tiered")
    assert stats["rows"] == 600 and stats["tiers"]["ssd"]["capacity"] == 968
    assert stats["tiers"]["memory"]["capacity"] == 32 and stats["tiers"]["ssd"]["rows"] > 200
    assert stats["tiers"]["memory"]["promoted"] > 0


def test_other_thresholds_than_the_servers_are_errors(start, server):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        first = mx.sparse_lookup(
            make("other"),
            keys(1),
            access_and_evict_config={"access_threshold": 2, "eviction_threshold": 60},
        )
        session.run(first)
    for threshold, ours, message in (
        ("access_threshold", 3, "threshold 2.*threshold 3"),
        ("eviction_threshold", 70, "eviction_threshold 60 .* 70"),
    ):
        start()  # another program
        with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
            rows = mx.sparse_lookup(
                make("other"), keys(1), access_and_evict_config={threshold: ours}
            )
            with pytest.raises(tf.errors.FailedPreconditionError, match=message):
                session.run(rows)
    stats = server.stats("other")
    assert (stats["threshold"], stats["max_age"], stats["counts"][1]) == (2, 60, 1)


def test_a_server_without_the_table_says_so(start, server):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        for access in (None, {"access_threshold": 2}):
            rows = mx.sparse_lookup(
                make("absent" if access else "gone"), keys(1), access_and_evict_config=access
            )
            with pytest.raises(tf.errors.NotFoundError, match=r"parameter server.*create_table"):
                session.run(rows)


def test_a_saver_warns_that_the_rows_are_elsewhere(start, server, tmp_path, caplog):
    start()
    with tf.Graph().as_default(), on_servers(server), session_of(server) as session:
        make("trained")
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver()
        for _ in range(2):
            saver.save(session, str(tmp_path / "model"))
    assert caplog.text.count("'trained' is placed on /job:ps/task:0") == 1
    assert "save_tables" in caplog.text
