"""SavedModels that TensorFlow 1's builder writes, with frozen tables.

``tf.compat.v1.saved_model.Builder`` is what ``simple_save``, the Estimators' ``export_saved_model``
and their exporters in ``train_and_evaluate`` write with. A graph that it is given is written as it
predicts: the part behind the signatures, whose lookups read the tables as they are now. Nothing
changes for graphs without tables.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import os
import shutil
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from mxrec.tf.serving.freezer import MARKER_NAME, TABLES_FOLDER, Placement, marker_text
from mxrec.tf.serving.graphs import FrozenGraph, Tables
from mxrec.tf.table import tables_of_graph

v1 = tf.compat.v1

IN_GRAPH_BYTES = 64 << 20

_INSTALLED = "_mxrec_freezes_tables"
_placement: contextvars.ContextVar[Placement | None] = contextvars.ContextVar(
    "placement", default=None
)
_uids: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def placing(placement: Placement) -> Iterator[None]:
    """Has builders put tables there while the body runs; else they go by size."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)


def install() -> None:
    """Wraps the builder's methods for the whole process. Idempotent."""
    builder = v1.saved_model.Builder
    if getattr(builder, _INSTALLED, False):
        return
    for name in ("add_meta_graph_and_variables", "add_meta_graph"):
        setattr(builder, name, _freezing(getattr(builder, name)))
    setattr(builder, _INSTALLED, True)


def _freezing(plain: Any) -> Any:
    parameters = inspect.signature(plain)
    with_variables = "sess" in parameters.parameters

    @functools.wraps(plain)
    def add(*args: Any, **kwargs: Any) -> None:
        given = parameters.bind(*args, **kwargs).arguments
        session = given["sess"] if with_variables else v1.get_default_session()
        graph = session.graph if with_variables else v1.get_default_graph()
        if not tables_of_graph(graph):
            plain(*args, **kwargs)
            return
        builder = given["self"]

        def add_frozen(frozen: Any, **what: Any) -> None:
            first = (builder, frozen) if with_variables else (builder,)
            options = {n: given[n] for n in ("clear_devices", "strip_default_attrs") if n in given}
            plain(*first, given["tags"], **what, **options)

        with _tables_of(builder) as tables:
            _check(given, graph)
            main_op = given.get("main_op")
            main_op = main_op if main_op is not None else given.get("legacy_init_op")
            frozen = FrozenGraph(session, graph, given["signature_def_map"], tables, main_op)
            assets = list(given.get("assets_collection") or ())
            frozen.add_to(add_frozen, assets, saves_variables=with_variables)

    return add


def _check(given: dict[str, Any], graph: Any) -> None:
    names = ", ".join(sorted(repr(table.name) for table in tables_of_graph(graph)))
    if not given.get("signature_def_map"):
        raise ValueError(
            f"signature_def_map must be given for a graph with tables ({names}): what is exported "
            "are the lookups between a signature's inputs and outputs. Pass {'serving_default': "
            "tf.compat.v1.saved_model.predict_signature_def(inputs, outputs)}."
        )
    if v1.saved_model.tag_constants.TRAINING in given["tags"]:
        raise ValueError(
            f"tags={list(given['tags'])!r}: a SavedModel cannot train the tables of the graph "
            f"({names}), which it holds as they are read. Export to predict (of an Estimator: "
            "ModeKeys.PREDICT or EVAL, not TRAIN), and go on training from a checkpoint."
        )


@contextlib.contextmanager
def _tables_of(builder: Any) -> Iterator[Tables]:
    """Where a builder's tables go. If the body fails, nothing that it has put there is left."""
    root = tf.compat.as_str_any(builder._export_dir)
    folder = os.path.join(root, TABLES_FOLDER)
    uids = _uids.setdefault(builder, {})
    before = dict(uids)
    placement = _placement.get() or Placement("auto", IN_GRAPH_BYTES)
    try:
        yield Tables(placement, folder, uids)
        if before and uids != before:
            _rewrite_marker(root, uids)
    except BaseException:
        for name in uids.keys() - before.keys():
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            del uids[name]
        _remove_empty(root)
        raise


def _rewrite_marker(root: str, uids: dict[str, str]) -> None:
    """A builder copies the file of a name once; the tables of a later graph are added here."""
    marker = os.path.join(root, "assets", MARKER_NAME)
    with tf.io.gfile.GFile(marker, "w") as file:
        file.write(marker_text(uids))


def _remove_empty(root: str) -> None:
    for each in (os.path.join(root, TABLES_FOLDER), os.path.join(root, "assets.extra"), root):
        if os.path.isdir(each) and not os.listdir(each):
            os.rmdir(each)
