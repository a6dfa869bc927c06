"""What people get wrong: each mistake has an error, or a warning, that names the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mx_rec.core.asc.feature_spec import FeatureSpec
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import GraphModifierHook, modify_graph_and_start_emb_cache
from mx_rec.optimizers import ftrl
from mx_rec.optimizers.gradient_descent import create_hash_optimizer
from mx_rec.util.initialize import get_initializer, init, terminate_config_initializer

v1 = tf.compat.v1


def make(name: str = "table", dim: int = 4, **kwargs: Any) -> Any:
    return create_table(
        key_dtype=tf.int64,
        dim=dim,
        name=name,
        emb_initializer=tf.ones_initializer(),
        **{"device_vocabulary_size": 10, **kwargs},
    )


def foreign_checkpoint(directory: Path) -> str:
    """A checkpoint of TensorFlow alone."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", initializer=1.0)
        session.run(v1.global_variables_initializer())
        path: str = v1.train.Saver().save(session, str(directory / "foreign"))
    return path


def checkpoint_of_dim(directory: Path, dim: int) -> str:
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=dim)
        v1.get_variable("w", initializer=1.0)
        session.run([v1.global_variables_initializer(), sparse_lookup(table, [1])])
        path: str = v1.train.Saver().save(session, str(directory / f"dim{dim}"))
    terminate_config_initializer()
    init()
    return path


def restore(path: str, dim: int = 4) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(dim=dim)
        variable = v1.get_variable("w", initializer=2.0)
        session.run([v1.global_variables_initializer(), sparse_lookup(table, [5])])
        try:
            v1.train.Saver().restore(session, path)
        finally:
            assert table.size() == 1 and session.run(variable) == 2.0  # all is as before


def apply(gradient: Any) -> None:
    table = make()
    create_hash_optimizer(0.1).apply_gradients([(gradient, table.nodes().proxy)])


def make_in_two_graphs() -> None:
    with tf.Graph().as_default():
        make()
    with tf.Graph().as_default():
        make(dim=8)


def rewrite_after_a_run() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(tf.constant(1))
        modify_graph_and_start_emb_cache()


MISTAKES: dict[str, tuple[Callable[[Path], Any], type[BaseException], tuple[str, ...]]] = {
    "ids of the wrong dtype": (
        lambda _: sparse_lookup(make(), tf.constant(["a"])),
        TypeError,
        ("ids must be an integer tensor", "string"),
    ),
    "no ids": (
        lambda _: sparse_lookup(make(), None),
        TypeError,
        ("ids must be an integer tensor", "None (NoneType)"),
    ),
    "ids in lists of several lengths": (
        lambda _: sparse_lookup(make(), [[1], [2, 3]]),
        TypeError,
        ("ids must be an integer tensor", "[[1], [2, 3]] (list)", "tf.ragged.constant"),
    ),
    "a shape for the width": (
        lambda _: make(dim=[2, 4]),
        TypeError,
        ("dim must be an int or a TensorShape", "[1, 8192]", "[2, 4] (list)", "reshape"),
    ),
    "an option that Ftrl does not have": (
        lambda _: ftrl.create_hash_optimizer(0.1, l1=0.5),
        TypeError,
        ("unknown arguments: l1", "known are", "l1_regularization_strength"),
    ),
    "a batch without the feature": (
        lambda _: sparse_lookup(make(), FeatureSpec("user"), batch={"item": tf.constant([1])}),
        ValueError,
        ("'user'", "item", "index_key"),
    ),
    "a FeatureSpec without its batch": (
        lambda _: sparse_lookup(make(), FeatureSpec("user")),
        ValueError,
        ("batch must be given",),
    ),
    "ids of another shape than the FeatureSpec says": (
        lambda _: sparse_lookup(
            make(), FeatureSpec("u", batch_size=3), batch={"u": tf.zeros([2, 2], tf.int64)}
        ),
        ValueError,
        ("batch_size=3", "(2, 2)", "leave out"),
    ),
    "a default value of another width": (
        lambda _: sparse_lookup(make(), [1], serving_default_value=[1.0, 2.0]),
        ValueError,
        ("serving_default_value", "[4]", "(2,)"),
    ),
    "a table in place of its name": (
        lambda _: sparse_lookup("table", [1]),
        TypeError,
        ("hashtable must be what create_table returned", "'table'"),
    ),
    "a dense gradient": (
        lambda _: apply(tf.ones([2, 4])),
        TypeError,
        ("'table'", "tf.IndexedSlices", "tf.gradients"),
    ),
    "a dense variable": (
        lambda _: create_hash_optimizer(0.1).apply_gradients(
            [(tf.ones([2]), tf.Variable([1.0, 2]))]
        ),
        TypeError,
        ("no sparse variable", "dense optimizer"),
    ),
    "init twice": (lambda _: init(), RuntimeError, ("terminate_config_initializer()",)),
    "a table's name twice": (
        lambda _: (make(), make()),
        ValueError,
        ("name='table' is taken", "choose another name"),
    ),
    "a name in another graph with other options": (
        lambda _: make_in_two_graphs(),
        ValueError,
        ("dim 4 != 8", "Pass equal options, choose another name"),
    ),
    "more keys than a table holds": (
        lambda _: sparse_lookup(make(), tf.range(11)),
        tf.errors.ResourceExhaustedError,
        ("'table'", "10 rows", "device_vocabulary_size", "dynamic expansion"),
    ),
    "a foreign checkpoint": (
        lambda path: restore(foreign_checkpoint(path)),
        FileNotFoundError,
        ("sparse-foreign", "'table'", "is_save=False"),
    ),
    "a checkpoint of another width": (
        lambda path: restore(checkpoint_of_dim(path, 8)),
        ValueError,
        ("'table'", "dim", "8", "4"),
    ),
    "no checkpoint": (
        lambda path: restore(str(path / "nothing")),
        ValueError,
        ("not a valid checkpoint", "nothing"),
    ),
    "a graph that is rewritten too late": (
        lambda _: rewrite_after_a_run(),
        RuntimeError,
        ("has run already", "before the first Session.run"),
    ),
    "an initializer of a graph that is not rewritten": (
        lambda _: get_initializer(True),
        RuntimeError,
        ("has not been rewritten", "modify_graph_and_start_emb_cache()"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_names_the_way_out(start, tmp_path, mistake: str) -> None:
    start()
    act, error, texts = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        act(tmp_path)
    message = str(caught.value)
    assert not [text for text in texts if text not in message], message


def test_misspelt_options_are_named_with_what_may_be_meant(start, caplog) -> None:
    start(use_dynamic_expension=True, zzz=1)
    assert "unknown arguments are ignored: use_dynamic_expension (did you mean" in caplog.text
    assert "did you mean use_dynamic_expansion?), zzz" in caplog.text
    sparse_lookup(make(), [1], serving_default_valeu=1.0, combine="sum")
    assert "combine (did you mean combiner?), serving_default_valeu (did you mean" in caplog.text


# --- After terminate ----------------------------------------------------------------------------


def test_lookups_after_terminate(start) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rows = sparse_lookup(table, [1])
        session.run(rows)
        terminate_config_initializer()
        with pytest.raises(RuntimeError, match=r"not initialized; call init"):
            sparse_lookup(table, [1])
        with pytest.raises(tf.errors.OpError) as caught:
            session.run(rows)
        assert "'table' does not exist" in caught.value.message
        assert "lives from create_table to terminate" in caught.value.message
    init()
    with pytest.raises(RuntimeError, match=r"'table' was released.*create it again after init"):
        sparse_lookup(table, [1])
    assert make().size() == 0


# --- A missing hook -----------------------------------------------------------------------------


def graph_of_a_dataset(table: Any) -> tuple[Any, Any]:
    dataset = tf.data.Dataset.from_tensor_slices(np.arange(8)).batch(4)
    iterator = v1.data.make_initializable_iterator(dataset)
    rows = sparse_lookup(table, iterator.get_next(), modify_graph=True, name="lookup_of_ids")
    return iterator.initializer, rows


@pytest.mark.parametrize("rewritten", [True, False])
def test_a_graph_that_was_not_rewritten_works_and_says_so(start, caplog, rewritten: bool) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        initializer, rows = graph_of_a_dataset(table)
        if rewritten:
            modify_graph_and_start_emb_cache()
        session.run(initializer)
        assert session.run(rows).shape == (4, 4) and session.run(rows).shape == (4, 4)
    said = caplog.text.count("the graph runs without having been rewritten")
    assert said == (0 if rewritten else 1)
    if not rewritten:
        assert "'lookup_of_ids'" in caplog.text and "GraphModifierHook()" in caplog.text


def test_a_missing_modifier_hook_in_a_monitored_session(start, caplog) -> None:
    start()
    for hooks in ([GraphModifierHook()], [GraphModifierHook(modify_graph=False)], []):
        caplog.clear()
        with tf.Graph().as_default():
            initializer, rows = graph_of_a_dataset(make())
            scaffold = v1.train.Scaffold(local_init_op=initializer)
            creator = v1.train.ChiefSessionCreator(scaffold)
            with v1.train.MonitoredSession(creator, hooks) as session:
                assert session.run(rows).shape == (4, 4)
        is_there = bool(hooks) and hooks[0]._modify
        assert ("without having been rewritten" in caplog.text) != is_there


def test_ids_that_are_fed_need_no_hook(start, caplog) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tf.int64, [None])
        session.run(sparse_lookup(make(), ids, modify_graph=True), {ids: [1, 2]})
    assert "rewritten" not in caplog.text


# --- TensorFlow itself --------------------------------------------------------------------------

FAKE = """
__version__ = "{version}"


class errors:
    class OpError(Exception):
        pass


def load_op_library(path):
    raise errors.OpError("undefined symbol: TF_Something")
"""


def run_with(package: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Imports ``mx_rec.core.embedding`` with another package for TensorFlow."""
    package.mkdir()
    (package / "__init__.py").write_text(code)
    path = [str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", "import mxrec; print('numpy level'); import mx_rec.core.embedding"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("version", "texts"),
    [
        ("2.11.0", ["needs TensorFlow 2.15 to 2.21", "2.11.0, which is too old"]),
        ("2.99.0", ["do not load into TensorFlow 2.99.0", "2.15 to 2.21", "TF_Something"]),
        (None, ["needs TensorFlow 2.15 to 2.21", "not installed", "pip install '.[tensorflow]'"]),
    ],
)
def test_another_tensorflow(tmp_path, version: str | None, texts: list[str]) -> None:
    missing = "raise ModuleNotFoundError('No module named tensorflow')\n"
    code = missing if version is None else FAKE.format(version=version)
    result = run_with(tmp_path / "tensorflow", code)
    assert result.stdout == "numpy level\n" and result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert message.startswith("ImportError: ") and "pip install" in message
    assert not [text for text in texts if text not in message], message


@pytest.mark.parametrize(("version", "is_new"), [("2.21.9", False), ("2.22.0", True)])
def test_a_tensorflow_that_is_too_new_is_named_before_it_fails(
    tmp_path, version: str, is_new: bool
) -> None:
    """Its ops load; what mxrec takes hold of besides may not be there."""
    code = FAKE.format(version=version).replace("raise errors.OpError", "return ")
    result = run_with(tmp_path / "tensorflow", code)
    assert result.returncode == 1
    warning = (
        "TensorFlow 2.22.0 is newer than mxrec is tested with, which is TensorFlow 2.15 to 2.21. "
        "Should something fail, install one of these: pip install 'tensorflow-cpu>=2.15,<2.22'."
    )
    assert (warning in result.stderr) == is_new
