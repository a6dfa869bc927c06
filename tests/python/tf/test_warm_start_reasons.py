"""What a warm start refuses before anything changes, and which argument counts."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from table_rows import Rows, rows_of
from warm_start_sources import DIM, Saved, bind, fill, fresh_slots, make_table, make_variables, save

import mxrec
import mxrec.tf as mx
from mxrec import WarmStartPath

SHAPES = {"w": [2, DIM], "b": [2]}
# That of tf.estimator, which newer TensorFlow versions lack.
Settings = collections.namedtuple(
    "Settings",
    "ckpt_to_initialize_from vars_to_warm_start var_name_to_vocab_info var_name_to_prev_var_name",
    defaults=(".*", None, None),
)


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Saved:
    return save(tmp_path / "source" / "model.ckpt-1", {"user": np.arange(20)}, SHAPES, rng)


@pytest.fixture(autouse=True)
def graph(saved: Saved) -> Iterator[tf.Graph]:
    del saved  # comes first: it starts the library itself
    mx.init(use_dynamic_expansion=True)
    with tf.Graph().as_default() as graph:
        yield graph
    mx.terminate_config_initializer()


def write_doubles(prefix: Path, name: str, shape: list[int]) -> str:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable(name, initializer=tf.ones(shape, tf.float64))
        session.run(tf.compat.v1.global_variables_initializer())
        return str(tf.compat.v1.train.Saver().save(session, str(prefix)))


def refused(reason: str, path: Any, *settings: Any, rng: np.random.Generator) -> None:
    """Asserts that it is one of the listed reasons, and that tables and variables stay."""
    table = make_table("user")
    variables = make_variables(SHAPES, rng)
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        before = session.run(variables)
        with pytest.raises(ValueError, match=rf"(?s)cannot begin:\n- ckpt_to_initial.*{reason}"):
            mxrec.warm_start(session, path, *settings)
        # Neither have the initializers changed.
        session.run([variable.initializer for variable in variables.values()])
        after = session.run(variables)
    assert rows_of(table.engine) == {}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


# --- Types of variables --------------------------------------------------------------------------


def test_a_variable_of_another_type(saved: Saved, tmp_path: Path, rng: np.random.Generator) -> None:
    doubles = write_doubles(tmp_path / "doubles", "w", SHAPES["w"])
    refused(
        "'w' is of float32, but 'w' in .* is of float64",
        [saved.prefix, doubles],
        [".*", "w"],
        rng=rng,
    )


def test_a_variable_of_another_type_with_a_vocabulary(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    doubles = write_doubles(tmp_path / "doubles", "w", SHAPES["w"])
    (tmp_path / "words.txt").write_text("ant\nbee\n")
    words = str(tmp_path / "words.txt")
    vocabulary = tf.compat.v1.train.VocabInfo(words, 2, 0, words)
    refused("'w' is of float32, but", doubles, ["w"], {"w": vocabulary}, rng=rng)


@pytest.mark.parametrize(
    ("shape", "size", "reason"),
    [
        ([2, DIM + 1], 2, r"shape \(2, 3\), but 'w' \(2, 4\); a vocabulary maps matrices"),
        ([2], 2, r"'w' \(2,\); a vocabulary maps matrices"),
        ([2, DIM], 1, r"shape \(2, 3\), but its vocabulary with num_oov_buckets makes 1 in axis 0"),
    ],
)
def test_shapes_that_no_vocabulary_maps(
    tmp_path: Path, rng: np.random.Generator, shape: list[int], size: int, reason: str
) -> None:
    prefix = save(tmp_path / "other", {}, {"w": shape}, rng).prefix
    mx.init(use_dynamic_expansion=True)
    words = str(tmp_path / "words.txt")
    Path(words).write_text("ant\nbee\n")
    vocabulary = tf.compat.v1.train.VocabInfo(words, size, 0, words)
    refused(reason, prefix, ["w"], {"w": vocabulary}, rng=rng)


# --- Files that cannot be read -------------------------------------------------------------------


@pytest.mark.parametrize("selection", [".*", "w"])
def test_a_damaged_index(saved: Saved, selection: str, rng: np.random.Generator) -> None:
    Path(saved.prefix + ".index").write_bytes(b"no index at all" * 20)
    refused(r"dense files of '.*model.ckpt-1' cannot be read", saved.prefix, selection, rng=rng)


def test_a_damaged_value(saved: Saved, rng: np.random.Generator) -> None:
    (data,) = Path(saved.prefix).parent.glob("*.data-*")
    values = bytearray(data.read_bytes())
    values[-1] ^= 1
    data.write_bytes(values)
    refused(r"dense files of '.*model.ckpt-1' cannot be read", saved.prefix, rng=rng)


@pytest.mark.parametrize("end", [".index", ".meta", ".data-00000-of-00001"])
def test_a_file_of_a_checkpoint_is_not_its_prefix(
    saved: Saved, end: str, rng: np.random.Generator
) -> None:
    refused(r"give the prefix of the checkpoint, '.*model.ckpt-1'\Z", saved.prefix + end, rng=rng)


def test_the_file_that_lists_checkpoints(saved: Saved, rng: np.random.Generator) -> None:
    path = os.path.join(os.path.dirname(saved.prefix), "checkpoint")
    refused("only lists checkpoints; give the prefix of one", path, rng=rng)


# --- Which argument counts -----------------------------------------------------------------------


def started(path: Any, rng: np.random.Generator, **arguments: Any) -> tuple[Rows, Rows]:
    """Rows of a table before and after."""
    table = make_table("user")
    bind(table, "Adagrad")
    fill(table, [5, 100], rng)
    own = rows_of(table.engine)
    mxrec.warm_start(None, path, "user", **arguments)
    return own, rows_of(table.engine)


def with_fresh_slots(rows: Rows) -> Rows:
    return {key: (row, fresh_slots("Adagrad")) for key, (row, _) in rows.items()}


def test_arguments_say_what_a_path_leaves_open(saved: Saved, rng: np.random.Generator) -> None:
    path = WarmStartPath(saved.prefix, mode="merge")
    assert (path.slots, path.mode) == ("keep", "merge")
    own, found = started(path, rng, slots="reset")
    assert found == own | with_fresh_slots(saved.tables["user"])


def test_a_path_may_say_the_default_against_an_argument(
    saved: Saved, rng: np.random.Generator
) -> None:
    path = WarmStartPath(saved.prefix, slots="keep")
    own, found = started([path], rng, slots="reset", mode=["merge"])
    assert found == own | saved.tables["user"]


@pytest.mark.parametrize("join", [lambda d, n: d + "/" + n, os.path.join])
def test_what_is_joined_to_a_path_says_the_same(join: Any) -> None:
    joined = join(WarmStartPath("here", slots="reset"), "there")
    assert repr(joined) == "WarmStartPath('here/there', slots='reset')"


def test_settings_and_arguments_that_say_the_same_thing_twice(saved: Saved) -> None:
    make_table("user")
    settings = Settings(saved.prefix, "user")
    with pytest.raises(ValueError, match=r"vars_to_warm_start='nonsense' beside WarmStartSettings"):
        mxrec.warm_start(None, settings, "nonsense")
    with pytest.raises(ValueError, match=r"var_name_to_prev_var_name=\{'user': 'item'\} beside"):
        mxrec.warm_start(None, settings, var_name_to_prev_var_name={"user": "item"})
    assert mxrec.warm_start(None, settings, slots="reset")[0].slots == "fresh"
