"""export_saved_model."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from mxrec.tf.serving import builders, estimators, functions, graphs
from mxrec.tf.serving.freezer import TABLES_FOLDER, Placement
from mxrec.tf.validation import INT64_MAX, check_choice, check_int


def export_saved_model(
    model: Any,
    export_dir: str | os.PathLike[str],
    *,
    inputs: Any = None,
    outputs: Any = None,
    serving_input_receiver_fn: Any = None,
    checkpoint_path: str | None = None,
    tables: str = "auto",
    in_graph_bytes: int = builders.IN_GRAPH_BYTES,
) -> str:
    """Writes a SavedModel whose lookups read the tables as they are now.

    Ids without a row read the lookup's ``serving_default_value``; nothing is ever inserted. Small
    tables become part of the model, which then loads into any TensorFlow program or server. Larger
    ones lie in ``assets.extra/mxrec`` of the model; loading them takes ``import mxrec.tf`` (or
    ``_mxrec_tf.so`` as an op library of the server), and their embeddings are in memory once in a
    process, however many models and signatures read them. Dense variables stay variables.

    Args:
        model: what is exported: a Keras model, a function of tensors (a ``tf.function`` or not), a
            ``tf.compat.v1.Session``, or a ``tf.estimator.Estimator``.
        export_dir: directory to make; it must not exist, or be empty. Of an Estimator: where a
            directory named by the time is made.
        inputs: of a Session: dict from name to tensor of its graph; tensors that are no
            placeholders, such as an iterator's, are cut off there. Of a function, or a Keras model
            that does not know its inputs: a ``tf.TypeSpec``, or a list or dict of them, as it is
            called with.
        outputs: of a Session: dict from name to tensor.
        serving_input_receiver_fn: of an Estimator, as in its ``export_saved_model``.
        checkpoint_path: of an Estimator: what is exported; None: the latest checkpoint.
        tables: "in_graph", "directory", or "auto": a table goes into the graph if it has at most
            ``in_graph_bytes``.
        in_graph_bytes: bytes of a table's keys (8 each) and embeddings (4 a value), at least 0.

    Returns:
        The directory of the SavedModel. Its signature is "serving_default"; ragged and sparse
        inputs are ``<name>_values`` and ``<name>_row_splits``, or ``<name>_indices``,
        ``<name>_values`` and ``<name>_dense_shape`` there.

    Raises:
        TypeError: ``model`` is none of these, or an argument does not go with it.
        ValueError: an argument is missing or out of its range, the directory is not empty, or a
            lookup cannot be frozen.
        RuntimeError: a table was trained meanwhile.
        OSError: the model could not be written; nothing is left of it.
    """
    check_choice("tables", tables, ("auto", "in_graph", "directory"))
    placement = Placement(tables, check_int("in_graph_bytes", in_graph_bytes, 0, INT64_MAX))
    path = os.fspath(export_dir)
    given = {
        "inputs": inputs,
        "outputs": outputs,
        "serving_input_receiver_fn": serving_input_receiver_fn,
        "checkpoint_path": checkpoint_path,
    }
    if isinstance(model, (tf.compat.v1.Session, tf.compat.v1.InteractiveSession)):
        _check_given(given, "a Session", needed=("inputs", "outputs"))
        with _staging(path) as stage:
            graphs.export(model, inputs, outputs, placement, stage.model)
        return path
    if estimators.is_estimator(model):
        _check_given(
            given,
            "an Estimator",
            needed=("serving_input_receiver_fn",),
            optional=("checkpoint_path",),
        )
        path = estimators.timestamped(path)
        with _staging(path) as stage:
            estimators.export(
                model, serving_input_receiver_fn, checkpoint_path, placement, stage.model
            )
        return path
    if not callable(model):
        raise TypeError(
            "model must be a Keras model, a function, a tf.compat.v1.Session or an Estimator, got "
            f"{model!r} ({type(model).__name__})."
        )
    _check_given(given, "a Keras model or function", optional=("inputs",))
    with _staging(path) as stage:
        functions.export(model, inputs, placement, stage.model, stage.tables)
    return path


def _check_given(
    given: dict[str, Any], what: str, needed: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> None:
    for name, value in given.items():
        if value is None and name in needed:
            raise ValueError(f"{name} must be given to export {what}.")
        if value is not None and name not in needed + optional:
            raise TypeError(f"{name} does not go with {what}; leave it out.")


class _Stage:
    """Where a model is written before it appears.

    Attributes:
        model: of the SavedModel; made by TensorFlow.
        tables: of table directories.
    """

    def __init__(self, path: str) -> None:
        self.root = f"{path}.tmp-{socket.gethostname()}-{os.getpid()}"
        self.model = os.path.join(self.root, "model")
        self.tables = os.path.join(self.root, "tables")


@contextlib.contextmanager
def _staging(path: str) -> Iterator[_Stage]:
    if "://" in path:
        raise ValueError(
            f"export_dir={path!r}: models with tables are exported to local file systems only; "
            "copy the directory from there."
        )
    if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(
            f"export_dir={path!r} exists and is not an empty directory; choose another, or remove "
            "it."
        )
    path = os.path.abspath(path)
    stage = _Stage(path)
    shutil.rmtree(stage.root, ignore_errors=True)
    os.makedirs(stage.root)
    try:
        yield stage
        if os.path.isdir(stage.tables):
            target = os.path.join(stage.model, TABLES_FOLDER)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(stage.tables, target)
        os.rename(stage.model, path)
    finally:
        shutil.rmtree(stage.root, ignore_errors=True)
