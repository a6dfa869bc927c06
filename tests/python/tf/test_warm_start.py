"""mxrec.warm_start in Sessions and without graphs: sources of all kinds, errors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from table_rows import rows_of
from warm_start_sources import DIM, Saved, bind, fill, fresh_slots, make_table, make_variables, save

import mxrec
import mxrec.tf as mx

SHAPES = {"w": [2, DIM], "b": [2]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    rng = np.random.default_rng(5)
    prefix = tmp_path_factory.mktemp("source") / "model.ckpt-1"
    return save(prefix, {"user": np.arange(20), "item": np.arange(-5, 5)}, SHAPES, rng)


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    mx.terminate_config_initializer()
    mx.init(use_dynamic_expansion=True)
    with tf.Graph().as_default() as graph:
        yield graph
    mx.terminate_config_initializer()


def _part_of(value: Any) -> Callable[..., Any]:
    def part(shape: Any, dtype: Any, partition_info: Any) -> Any:
        first = partition_info.var_offset[0]
        return tf.constant(value[first : first + int(shape[0])], dtype)

    return part


def write_dense(prefix: Path, values: dict[str, Any], partitions: int = 1) -> str:
    """Saves a model that has no tables."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            if partitions > 1:
                with tf.compat.v1.variable_scope(
                    "", partitioner=tf.compat.v1.fixed_size_partitioner(partitions)
                ):
                    tf.compat.v1.get_variable(
                        name, value.shape, value.dtype, initializer=_part_of(value)
                    )
            else:
                tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        return str(tf.compat.v1.train.Saver().save(session, str(prefix)))


# --- Sessions, graphs, eager execution -----------------------------------------------------------


def test_a_session_has_the_values_at_once(saved: Saved, rng: np.random.Generator) -> None:
    table = make_table("user")
    bind(table, "Adagrad")
    variables = make_variables(SHAPES, rng)
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        entries = mxrec.warm_start(session, saved.prefix)
        found = session.run(variables)
    assert rows_of(table.engine) == saved.tables["user"]
    for name, value in saved.dense.items():
        np.testing.assert_array_equal(found[name], value)
    assert [(e.kind, e.name, e.rows, e.outcome) for e in entries] == [
        ("table", "user", 20, "replaced"),
        ("variable", "w", 2, "replaced"),
        ("variable", "b", 2, "replaced"),
    ]


def test_without_a_session_variables_wait_for_their_initializers(
    saved: Saved, rng: np.random.Generator
) -> None:
    table = make_table("user")
    variables = make_variables(SHAPES, rng)
    mxrec.warm_start(None, str(Path(saved.prefix).parent), ["user", "b"])
    assert rows_of(table.engine) == saved.tables["user"]
    assert table.engine.optimizer.kind == "Adagrad", "an optimizer that comes later finds its slots"
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        found = session.run(variables)
    np.testing.assert_array_equal(found["b"], saved.dense["b"])
    assert np.any(found["w"] != saved.dense["w"])


def test_a_finalized_graph_takes_rows_and_no_variables(
    saved: Saved, graph: tf.Graph, rng: np.random.Generator
) -> None:
    table = make_table("user")
    make_variables(SHAPES, rng)
    graph.finalize()
    with tf.compat.v1.Session() as session:
        with pytest.raises(RuntimeError, match="finalized"):
            mxrec.warm_start(session, saved.prefix)
        assert rows_of(table.engine) == {}
        mxrec.warm_start(session, saved.prefix, "user")
    assert rows_of(table.engine) == saved.tables["user"]


def test_tables_alone_do_not_run_the_graph(saved: Saved, graph: tf.Graph) -> None:
    make_table("user")
    with tf.compat.v1.Session() as session:
        mxrec.warm_start(session, saved.prefix, "user")
    mx.sessions.check_not_run(graph, "a rewriting")


def test_a_model_with_a_checkpoint_of_its_own_is_left_alone(saved: Saved, tmp_path: Path) -> None:
    table = make_table("user")
    assert mxrec.warm_start(None, saved.prefix, "user", model_dir=tmp_path)
    write_dense(tmp_path / "model.ckpt-1", {"x": np.float32(1)})
    table.engine.erase(np.arange(20))
    assert mxrec.warm_start(None, saved.prefix, "user", model_dir=tmp_path) == []
    assert rows_of(table.engine) == {}


def test_tensorflows_own_function_covers_tables_and_lists(saved: Saved) -> None:
    table = make_table("user")
    tf.compat.v1.train.warm_start(saved.prefix, "user")
    assert rows_of(table.engine) == saved.tables["user"]
    with pytest.raises(ValueError, match="matches nothing"):
        tf.compat.v1.train.warm_start([saved.prefix], ["nothing"])


def test_importing_mxrec_alone_needs_no_tensorflow() -> None:
    program = (
        "import sys, mxrec; assert 'tensorflow' not in sys.modules; "
        "assert callable(mxrec.warm_start); assert 'tensorflow' in sys.modules; "
        "print(mxrec.WarmStartPath('x', mode='merge').mode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "merge"
    with pytest.raises(AttributeError, match="no attribute 'warm_up'"):
        _ = mxrec.warm_up


# --- Sources -------------------------------------------------------------------------------------


# TensorFlow reads no partitioned float16.
@pytest.mark.parametrize(
    ("dtype", "partitions"),
    [(np.float32, 1), (np.float32, 3), (np.float64, 1), (np.float64, 3), (np.float16, 1)],
)
def test_a_static_variable_becomes_a_table(
    tmp_path: Path, rng: np.random.Generator, dtype: Any, partitions: int
) -> None:
    values = rng.normal(size=(30, DIM)).astype(dtype)
    prefix = write_dense(tmp_path / "stock", {"input_layer/user_emb": values}, partitions)
    table = make_table("user")
    bind(table, "Adagrad")
    names = {"user": "input_layer/user_emb"}
    (entry,) = mxrec.warm_start(None, prefix, "user", None, names)
    assert (entry.saved_name, entry.rows, entry.slots) == ("input_layer/user_emb", 30, "fresh")
    wanted = values.astype(np.float32)
    fresh = fresh_slots("Adagrad")
    assert rows_of(table.engine) == {i: (wanted[i].tobytes(), fresh) for i in range(30)}


def test_a_static_variable_of_the_tables_name_needs_no_mapping(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, DIM)
    prefix = write_dense(tmp_path / "stock", {"user": values})
    table = make_table("user")
    mxrec.warm_start(None, str(tmp_path), "user")
    assert prefix.endswith("stock")
    np.testing.assert_array_equal(table.engine.lookup(np.arange(4), train=False), values)


def test_tables_without_a_dense_half(tmp_path: Path, rng: np.random.Generator) -> None:
    table = make_table("user")
    fill(table, range(7), rng)
    wanted = rows_of(table.engine)
    directory = mx.save_tables(str(tmp_path / "only"), tables=[table])
    for path in (str(tmp_path / "only"), str(tmp_path), directory):
        table.engine.erase(np.arange(7))
        mxrec.warm_start(None, path, "user")
        assert rows_of(table.engine) == wanted


def test_a_vocabulary_maps_the_rows_of_a_dense_variable(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    values = rng.normal(size=(3, 2)).astype(np.float32)
    prefix = write_dense(tmp_path / "old", {"embedding": values, "b": np.float32([1, 2])})
    (tmp_path / "old.txt").write_text("ant\nbee\ncat\n")
    (tmp_path / "new.txt").write_text("cat\ndog\nant\n")
    vocabulary = tf.compat.v1.train.VocabInfo(
        new_vocab=str(tmp_path / "new.txt"),
        new_vocab_size=3,
        num_oov_buckets=1,
        old_vocab=str(tmp_path / "old.txt"),
    )
    make_table("user")
    variables = make_variables({"embedding": [4, 2], "b": [2]}, rng)
    for selection, taken in ((None, False), (["embedding", "b"], True)):
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            mxrec.warm_start(session, prefix, selection, {"embedding": vocabulary})
            found = session.run(variables)
        zeros = np.zeros(2, np.float32)
        np.testing.assert_array_equal(found["embedding"], [values[2], zeros, values[0], zeros])
        assert np.array_equal(found["b"], [1, 2]) == taken
    with pytest.raises(ValueError, match=r"'user' is an embedding table.*no vocabulary"):
        mxrec.warm_start(None, prefix, ".*", {"user": vocabulary})
    missing = vocabulary._replace(old_vocab=str(tmp_path / "gone.txt"))
    with pytest.raises(ValueError, match=r"no vocabulary file .*gone\.txt"):
        mxrec.warm_start(None, prefix, ["embedding"], {"embedding": missing})


def test_counts_and_ages_begin_anew(saved: Saved) -> None:
    table = make_table("user")
    rules = {"access_threshold": 2, "eviction_threshold": 10}
    mx.sparse_lookup(table, tf.constant([1]), access_and_evict_config=rules)
    mxrec.warm_start(None, saved.prefix, "user")
    assert table.size() == 20 and table.counts(np.array([1]))[0] == 0
    engine = table.engine
    engine.lookup(np.array([1, 1, 500]), True, 1_000_000)
    assert table.counts(np.array([1, 500])).tolist() == [2, 1]
    assert table.evict(2_000_000) == 1, "of the rows only that one was used"


# --- Errors --------------------------------------------------------------------------------------


def test_all_reasons_are_listed_and_nothing_has_changed(
    saved: Saved, tmp_path: Path, rng: np.random.Generator
) -> None:
    tables = {name: make_table(name) for name in ("user", "item")}
    wide = make_table("wide", DIM + 1)
    for table in tables.values():
        bind(table, "LazyAdam")
        fill(table, [1, 2], rng)
    rows = {name: rows_of(table.engine) for name, table in tables.items()}
    variables = make_variables({"w": [2, DIM], "b": [3], "c": []}, rng)
    nowhere = str(tmp_path / "nowhere")
    paths = [saved.prefix, saved.prefix, nowhere, str(tmp_path), saved.prefix, saved.prefix]
    selections: list[Any] = [
        ".*",
        ["shop", "use[", "user"],
        ".*",
        "user",
        [tables["user"], "item"],
        ["wide", "item"],
    ]
    names: list[dict[str, str]] = [
        {"b": "bias"},
        {"item": "user"},
        {},
        {},
        {},
        {"wide": "user", "item": "items"},
    ]
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        before = session.run(variables)
        with pytest.raises(ValueError, match="The warm start cannot begin") as caught:
            mxrec.warm_start(session, paths, selections, None, names)
        after = session.run(variables)
    message = str(caught.value)
    for reason in (
        r"\[0\]=.* table 'user' is trained by LazyAdam, but the rows in .*user have slots of Adag",
        r"\[0\]=.* has no table 'wide'; it has the tables 'item', 'user', and the tensors \(none\)",
        r"\[0\]=.* has no variable 'bias' for the variable 'b'",
        r"\[0\]=.* has no variable 'c'",
        r"\[1\]=.* 'shop' matches nothing; there are the tables 'item', 'user', 'wide' and the var",
        r"\[1\]=.* 'use\[' is neither a name nor a regular expression",
        r"\[1\]=.* var_name_to_prev_var_name: 'item' is not selected .* selected are 'user'",
        r"\[2\]=.* there is no checkpoint '.*nowhere'",
        r"\[3\]=.* the directory '.*' has no checkpoint",
        r"\[4\]=.* a list of names and of objects",
        r"\[5\]=.* table 'wide' has dim 4, but the saved table 'user' has dim 3",
        r"\[5\]=.* has no table 'items' for the table 'item'",
    ):
        assert re.search(reason, message), (reason, message)
    assert {name: rows_of(table.engine) for name, table in tables.items()} == rows
    assert rows_of(wide.engine) == {}
    for name in variables:
        np.testing.assert_array_equal(before[name], after[name])


def test_shapes_of_variables_are_compared(saved: Saved, rng: np.random.Generator) -> None:
    make_table("user")
    make_variables({"b": [3]}, rng)
    with pytest.raises(ValueError, match=r"'b' has shape \(3,\), but 'b' in .* has shape \(2,\)"):
        mxrec.warm_start(None, saved.prefix)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, []), ValueError, "empty list"),
        ((None, ["a", "b"], ["x"]), ValueError, "2 paths, but vars_to_warm_start has 1 elements"),
        (
            (None, ["a", "b"], ".*", [None], [{}, {}, {}]),
            ValueError,
            "var_name_to_vocab_info has 1, var_name_to_prev_var_name has 3 elements",
        ),
        ((None, ["a", 5]), TypeError, r"ckpt_to_initialize_from\[1\] must be a path, got 5"),
        ((None, ""), ValueError, "empty path"),
        ((None, "a", ".*", None, {"x": 1}), TypeError, "names to names"),
        ((None, "a", ".*", ["x"]), TypeError, "var_name_to_vocab_info must be a dict"),
        ((3, "a"), TypeError, "session must be"),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mxrec.warm_start(*arguments)


@pytest.mark.parametrize("name", ["slots", "mode"])
def test_slots_and_mode_are_checked(name: str) -> None:
    for make in (
        lambda options: mxrec.WarmStartPath("a", **options),
        lambda options: mxrec.warm_start(None, "a", **options),
    ):
        with pytest.raises(ValueError, match=f"{name} must be '.*' or '.*', got 'x'"):
            make({name: "x"})
    with pytest.raises(ValueError, match=f"1 paths, but {name} has 2 elements"):
        mxrec.warm_start(None, ["a"], **{name: ["x", "y"]})


def failing(saved: Saved, tmp_path: Path, change: Callable[[Path], None]) -> str:
    """A copy of the source with a change."""
    copy = tmp_path / "copy"
    shutil.copytree(Path(saved.prefix).parent, copy)
    change(copy / "sparse-model.ckpt-1")
    return str(copy / "model.ckpt-1")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_table_leaves_all_tables_and_variables_as_they_were(
    saved: Saved, tmp_path: Path, rng: np.random.Generator
) -> None:
    tables = [make_table("item"), make_table("user")]
    variables = make_variables(SHAPES, rng)
    path = failing(saved, tmp_path, lambda d: flip(d / "user" / "data-00000"))
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        before = session.run(variables)
        with pytest.raises(mxrec.DataLossError, match="damaged at byte") as caught:
            mxrec.warm_start(session, path)
        after = session.run(variables)
    assert any("table 'user', ckpt_to_initialize_from=" in note for note in caught.value.__notes__)
    assert [rows_of(table.engine) for table in tables] == [{}, {}]
    for name in variables:
        np.testing.assert_array_equal(before[name], after[name])


def test_tables_of_other_checkpoints_are_refused(saved: Saved, tmp_path: Path) -> None:
    def mix(directory: Path) -> None:
        shutil.rmtree(directory / "user")
        shutil.copytree(directory / "item", directory / "user")

    make_table("user")
    with pytest.raises(ValueError, match="put together from several"):
        mxrec.warm_start(None, failing(saved, tmp_path, mix), "user")


def test_keys_must_fit_the_type_of_the_tables_keys(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    far = save(tmp_path / "far", {"user": [5, 2**31]}, {}, rng)
    near = save(tmp_path / "near", {"user": [5, -(2**31)]}, {}, rng)
    mx.init(use_dynamic_expansion=True)
    table = make_table("user", key_dtype=tf.int32)
    with pytest.raises(ValueError, match="has int32 keys, but there is the key 2147483648"):
        mxrec.warm_start(None, far.prefix)
    assert rows_of(table.engine) == {}
    mxrec.warm_start(None, near.prefix)
    assert rows_of(table.engine) == near.tables["user"]


def test_a_table_that_is_too_small(saved: Saved) -> None:
    mx.terminate_config_initializer()
    mx.init()
    table = make_table("user", device_vocabulary_size=15)
    with pytest.raises(ValueError, match=r"'user' holds 15 rows, but 'user' has 20; raise device_"):
        mxrec.warm_start(None, saved.prefix, "user")
    table.engine.assign(np.array([100]), np.ones((1, DIM), np.float32))
    with pytest.raises(mxrec.CapacityError, match="capacity is 15"):
        mxrec.warm_start(None, saved.prefix, "user", mode="merge")
    assert len(rows_of(table.engine)) == 1


def test_tables_that_are_not_saved_are_warm_started_by_name_alone(saved: Saved) -> None:
    table = make_table("user", is_save=False)
    with pytest.raises(ValueError, match="matches nothing"):
        mxrec.warm_start(None, saved.prefix)
    mxrec.warm_start(None, saved.prefix, ["user"])
    assert rows_of(table.engine) == saved.tables["user"]


def test_a_table_of_a_parameter_server_is_refused(saved: Saved) -> None:
    with tf.device("/job:ps/task:0"):
        make_table("user")
    with pytest.raises(ValueError, match=r"'user' is placed on /job:ps/task:0"):
        mxrec.warm_start(None, saved.prefix)


def test_a_tensor_that_has_no_rows_for_a_table(tmp_path: Path) -> None:
    tensors = {"flat": np.zeros(6, np.float32), "wide": np.zeros((2, 9), np.float32)}
    prefix = write_dense(
        tmp_path / "d", tensors | {"whole": np.zeros((2, DIM), np.int32), "fits": np.eye(DIM)}
    )
    make_table("user")
    for name in tensors:
        with pytest.raises(ValueError, match=rf"dim 3, but the tensor '{name}' has shape"):
            mxrec.warm_start(None, prefix, "user", None, {"user": name})
    with pytest.raises(ValueError, match="'whole' is of int32"):
        mxrec.warm_start(None, prefix, "user", None, {"user": "whole"})
    with pytest.raises(ValueError, match="the tensors 'fits', 'whole' whose rows could be"):
        mxrec.warm_start(None, prefix, "user")
