"""op_precision_mode: op_impl_mode.ini through a Session's config and through NPURunConfig."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import estimator_program
import numpy as np
import pytest
import tensorflow as tf
from estimator_program import estimator, input_fn

import mxrec
import mxrec.tf as mx
from mx_rec.util.initialize import terminate_config_initializer
from mxrec.tf import precision_mode
from mxrec.tf.log import logger
from tf_adapter import NPURunConfig

v1 = tf.compat.v1
NORMAL = v1.random_normal_initializer(seed=1)
FILE = "op_impl_mode.ini"
needs_estimator = pytest.mark.skipif(
    not hasattr(tf, "estimator"), reason="TensorFlow without tf.estimator"
)


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty one; the library is as at its start before and after the test."""
    monkeypatch.chdir(tmp_path)
    terminate_config_initializer()
    yield tmp_path
    terminate_config_initializer()


@pytest.fixture
def warnings() -> Iterator[Any]:
    """The library's warnings so far."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logger.addHandler(handler)
    yield lambda: messages
    logger.removeHandler(handler)


def config_naming(path: str | bytes | None = FILE, name: str = "NpuOptimizer") -> Any:
    config = v1.ConfigProto()
    if path is not None:
        optimizer = config.graph_options.rewrite_options.custom_optimizers.add()
        optimizer.name = name
        optimizer.parameter_map["op_precision_mode"].s = tf.compat.as_bytes(path)
    return config


def write(text: str, path: str = FILE) -> None:
    Path(path).write_text(text, encoding="utf-8")


def open_session(config: Any) -> None:
    with tf.Graph().as_default(), v1.Session(config=config):
        pass


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "GatherV2=high_precision",
        "GatherV2=high_precision\n",
        "\n# comment\n  ; another = one\n\n   GatherV2  =\thigh_precision \r\n",
        "\ufeffGatherV2=high_precision  # why\n",
        "GatherV2=high_precision ; why = so\n",
        "[ByOpType]\nGatherV2=high_precision\nGatherV2 = high_precision\n",
    ],
)
def test_lines(text: str) -> None:
    Path(FILE).write_bytes(text.encode())
    assert precision_mode.read_modes(FILE) == {"GatherV2": "high_precision"}
    assert precision_mode.read_modes(Path(FILE)) == {"GatherV2": "high_precision"}


@pytest.mark.parametrize("text", ["", "\n\n", "# GatherV2=high_precision\n", "[ByOpType]"])
def test_a_file_that_says_nothing_means_the_default(text: str, warnings: Any) -> None:
    mxrec.set_gather_mode("high_precision")
    write(text)
    open_session(config_naming())
    assert mxrec.gather_mode() == "high_performance"
    assert warnings() == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("GatherV2", 1, "malformed.*operator=mode"),
        ("GatherV2=", 1, "malformed"),
        ("\n=high_precision", 2, "malformed"),
        ("GatherV2 high_precision", 1, "malformed"),
        ("GatherV2:high_precision", 1, "malformed"),
        ("[ByNodeName]\nGatherV2=high_precision", 1, "malformed"),
        ("# fine\nGatherV3=high_precision", 2, "unknown operator 'GatherV3'.*one of: GatherV2"),
        ("gatherv2=high_precision", 1, "unknown operator 'gatherv2'.*GatherV2"),
        (
            "GatherV2=high_precision\n\nGatherV2=fast",
            3,
            "unknown mode 'fast'.*high_performance, high_precision",
        ),
        ("GatherV2=High_Precision", 1, "unknown mode 'High_Precision'"),
        ("GatherV2=high_precision=1", 1, "unknown mode"),
        ("GatherV2=high_precision\nGatherV2=high_performance", 2, "above"),
    ],
)
def test_bad_lines_name_file_and_line(text: str, line: int, says: str) -> None:
    mxrec.set_gather_mode("high_precision")
    write(text)
    with pytest.raises(ValueError, match=rf"op_impl_mode\.ini, line {line}: .*{says}"):
        open_session(config_naming())
    assert mxrec.gather_mode() == "high_precision"  # as before


def test_bytes_that_are_no_text() -> None:
    Path(FILE).write_bytes(b"GatherV2=high_precision\n\xff\xfe=1\n")
    with pytest.raises(ValueError, match=r"op_impl_mode\.ini, line 2: .*UTF-8"):
        precision_mode.read_modes(FILE)


def test_a_missing_file_is_one_warning_and_the_default(warnings: Any) -> None:
    mxrec.set_gather_mode("high_precision")
    for _ in range(3):
        open_session(config_naming("absent.ini"))
    assert mxrec.gather_mode() == "high_performance"
    assert len(warnings()) == 1
    assert "absent.ini" in warnings()[0] and "high_performance" in warnings()[0]


# --- Sessions -------------------------------------------------------------------------------------


def test_the_snippet_of_the_product_description() -> None:
    write("GatherV2=high_performance\n")
    mxrec.set_gather_mode("high_precision")
    mx.init(train_steps=10)
    with tf.Graph().as_default():
        session_config = tf.compat.v1.ConfigProto(
            allow_soft_placement=False, log_device_placement=False
        )
        session_config.gpu_options.allow_growth = True
        custom_op = session_config.graph_options.rewrite_options.custom_optimizers.add()
        # 1. The file of operators goes into the config.
        custom_op.parameter_map["op_precision_mode"].s = tf.compat.as_bytes("op_impl_mode.ini")
        # 2. The graph.
        table = mx.create_table(tf.int64, 8, "user", NORMAL, device_vocabulary_size=100)
        ids = tf.constant([[5, 6], [5, -7]], tf.int64)
        rows = mx.sparse_lookup(table, ids)
        loss = tf.reduce_sum(rows * rows)
        dense, sparse = mx.get_dense_and_sparse_variable()
        assert dense == []
        optimizer = mx.optimizers.lazy_adam.create_hash_optimizer(0.01)
        train_op = optimizer.apply_gradients(zip(tf.gradients(loss, sparse), sparse, strict=True))
        # 3. The config goes into the session.
        sess_config = session_config
        before = sess_config.SerializeToString(deterministic=True)
        with tf.compat.v1.Session(config=sess_config) as sess:
            sess.run(tf.compat.v1.global_variables_initializer())
            # 4. Training.
            losses = [sess.run([loss, train_op])[0] for _ in range(5)]
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
        assert sess_config.SerializeToString(deterministic=True) == before
    assert table.size() == 3
    stats = mxrec.stats()
    assert stats["gather_mode"] == "high_performance"
    assert stats["gather_kernel"] == stats["kernel_target"]
    assert stats["tables"]["user"]["rows"] == 3


@pytest.mark.parametrize("name", ["NpuOptimizer", ""])
@pytest.mark.parametrize("mode", ["high_precision", "high_performance"])
def test_a_session_sets_the_mode(mode: str, name: str, working_directory: Path) -> None:
    write(f"GatherV2={mode}")
    other = {"high_precision": "high_performance", "high_performance": "high_precision"}[mode]
    for path in (FILE, str(working_directory / FILE), f"../{working_directory.name}/{FILE}"):
        mxrec.set_gather_mode(other)
        open_session(config_naming(path, name))
        assert mxrec.gather_mode() == mxrec.stats()["gather_mode"] == mode
    # Sessions that name no file leave it.
    open_session(None)
    open_session(config_naming(None))
    open_session(config_naming(""))
    unset = config_naming(None)
    optimizer = unset.graph_options.rewrite_options.custom_optimizers.add()
    _ = optimizer.parameter_map["op_precision_mode"]  # makes an empty entry
    open_session(unset)
    assert mxrec.gather_mode() == mode


def test_all_kinds_of_sessions() -> None:
    write("GatherV2=high_precision")
    config = config_naming()

    makers = {
        "positional": lambda: v1.Session("", None, config).close(),
        "interactive": lambda: v1.InteractiveSession(config=config).close(),
        "monitored": lambda: v1.train.MonitoredTrainingSession(config=config).close(),
        "singular": lambda: v1.train.SingularMonitoredSession(config=config).close(),
    }
    for kind, make in makers.items():
        mxrec.set_gather_mode("high_performance")
        with tf.Graph().as_default():
            make()
        assert mxrec.gather_mode() == "high_precision", kind


def test_the_last_of_several_files_counts_and_a_bad_one_changes_nothing() -> None:
    write("GatherV2=high_performance", "first.ini")
    write("GatherV2=high_precision", "second.ini")
    write("GatherV2", "bad.ini")
    config = config_naming("first.ini")
    open_session(precision_mode.with_path(config, "second.ini"))
    assert mxrec.gather_mode() == "high_precision"
    assert config == config_naming("first.ini")
    with pytest.raises(ValueError, match=r"bad\.ini, line 1"):
        open_session(precision_mode.with_path(config, "bad.ini"))
    assert mxrec.gather_mode() == "high_precision"


def test_other_entries_of_the_accelerator_are_passed_over(warnings: Any) -> None:
    write("GatherV2=high_precision")
    config = config_naming()
    optimizers = config.graph_options.rewrite_options.custom_optimizers
    entries = optimizers[0].parameter_map
    entries["use_off_line"].b = True
    entries["precision_mode"].s = b"allow_mix_precision"
    entries["iterations_per_loop"].i = 10
    entries["hcom_parallel"].f = 0.5
    optimizers.add().name = "NpuOptimizer"
    config.graph_options.rewrite_options.remapping = 2  # OFF, as their scripts have it
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        fed = v1.placeholder(tf.float32, [None])
        assert session.run(tf.reduce_sum(fed * fed + fed), {fed: [1.0, 2.0]}) == 8.0
    assert mxrec.gather_mode() == "high_precision"
    assert warnings() == []


def test_a_path_in_the_wrong_field() -> None:
    config = config_naming()
    config.graph_options.rewrite_options.custom_optimizers[0].parameter_map[
        "op_precision_mode"
    ].i = 1
    with pytest.raises(ValueError, match=r"op_precision_mode.*as_bytes"):
        open_session(config)


@pytest.mark.filterwarnings("error")
def test_a_refused_session_is_closed_and_the_next_one_works() -> None:
    write("GatherV2")
    with tf.Graph().as_default(), pytest.raises(ValueError, match="line 1"):
        v1.Session(config=config_naming())
    with tf.Graph().as_default(), v1.Session() as session:
        assert session.run(tf.constant(3)) == 3


def test_installing_again_changes_nothing() -> None:
    session_class = v1.Session.__mro__[1]
    before = session_class.__init__
    precision_mode.install()
    assert session_class.__init__ is before


def test_terminate_brings_the_default_back() -> None:
    write("GatherV2=high_precision")
    mx.init(train_steps=1)
    open_session(config_naming())
    terminate_config_initializer()
    assert mxrec.gather_mode() == "high_performance"


# --- The values -----------------------------------------------------------------------------------


def run_in_mode(mode: str, dim: int, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Everything that a small training program reads."""
    write(f"GatherV2={mode}")
    terminate_config_initializer()
    mx.init(train_steps=-1)
    read = []
    with tf.Graph().as_default():
        table = mx.create_table(tf.int64, dim, "t", NORMAL, device_vocabulary_size=10000)
        fed = v1.placeholder(tf.int64, [None])
        rows = mx.sparse_lookup(table, fed)
        seen = mx.sparse_lookup(table, fed, is_train=False, serving_default_value=np.float32(0.25))
        _, sparse = mx.get_dense_and_sparse_variable()
        gradients = tf.gradients(tf.reduce_sum(rows * rows), sparse)
        optimizer = mx.optimizers.adagrad.create_hash_optimizer(0.1)
        train = optimizer.apply_gradients(zip(gradients, sparse, strict=True))
        with v1.Session(config=config_naming()) as session:
            assert mxrec.gather_mode() == mode
            session.run(v1.global_variables_initializer())
            for batch in batches:
                read.append(session.run([rows, train], {fed: batch})[0])
                read.append(session.run(seen, {fed: batch * 3}))
    return read


@pytest.mark.parametrize("dim", [1, 7, 16, 32, 33, 128])
def test_both_modes_give_the_same_bits(dim: int, rng: np.random.Generator) -> None:
    batches = [rng.zipf(1.3, size=n) % 5000 - 100 for n in (1, 700, 3000, 0, 999)]
    fast = run_in_mode("high_performance", dim, batches)
    plain = run_in_mode("high_precision", dim, batches)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


# --- NPURunConfig ---------------------------------------------------------------------------------


@needs_estimator
def test_estimator_sessions_have_the_mode(tmp_path: Path) -> None:
    estimator_program.start()
    write("GatherV2=high_precision")
    model = estimator(str(tmp_path / "model"), op_precision_mode=FILE)
    assert mxrec.gather_mode() == "high_performance"  # until there is a session
    model.train(input_fn(0, 3))
    assert mxrec.gather_mode() == "high_precision"
    for run in (
        lambda: model.evaluate(input_fn(0, 3)),
        lambda: next(iter(model.predict(input_fn(0, 3)))),
    ):
        mxrec.set_gather_mode("high_performance")
        run()
        assert mxrec.gather_mode() == "high_precision"


@needs_estimator
def test_run_config_names_the_file_in_a_copy_of_the_session_config() -> None:
    write("GatherV2=high_precision")
    write("GatherV2=high_performance", "other.ini")
    given = v1.ConfigProto(inter_op_parallelism_threads=3)
    config = NPURunConfig(op_precision_mode=FILE, session_config=given)
    assert given == v1.ConfigProto(inter_op_parallelism_threads=3)
    assert config.op_precision_mode == FILE
    named = config.session_config
    assert config.session_config is named  # what a distribution strategy writes stays
    assert named.inter_op_parallelism_threads == 3
    assert precision_mode.paths_in(named) == [FILE]
    changed = config.replace(op_precision_mode="other.ini")
    assert precision_mode.paths_in(changed.session_config) == ["other.ini"]
    assert precision_mode.paths_in(config.session_config) == [FILE]
    plain = NPURunConfig(session_config=given)
    assert plain.session_config is given
    assert NPURunConfig(op_precision_mode=FILE).session_config is None


@needs_estimator
def test_run_config_checks_the_file(warnings: Any) -> None:
    write("GatherV2=fast", "bad.ini")
    with pytest.raises(ValueError, match=r"bad\.ini, line 1: unknown mode 'fast'"):
        NPURunConfig(op_precision_mode="bad.ini")
    with pytest.raises(TypeError, match=r"op_precision_mode.*7"):
        NPURunConfig(op_precision_mode=7)
    estimator_program.start()
    model = estimator("model", op_precision_mode="absent.ini")
    model.train(input_fn(0, 2))
    model.evaluate(input_fn(0, 2))
    assert mxrec.gather_mode() == "high_performance"
    assert sum("absent.ini" in text for text in warnings()) == 1
