"""Exporting Keras models and functions."""

from __future__ import annotations

import os
import uuid
from typing import Any

import tensorflow as tf

from mxrec.tf.gradients import is_proxy
from mxrec.tf.serving import scope
from mxrec.tf.serving.freezer import MARKER_NAME, Freezer, Placement
from mxrec.tf.serving.specs import Call, call_of


class _MarkerPath(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
    """The path of the model's marker file, in the process that has loaded the model."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._asset = self._track_trackable(tf.saved_model.Asset(path), "asset")
        self._shared_name = f"mxrec_tables_{uuid.uuid4().hex}"

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[], shared_name=self._shared_name)

    def _initialize(self) -> None:
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=self._asset.asset_path)

    def read(self) -> Any:
        return tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.string)


class _Exported(tf.Module):  # type: ignore[misc]
    """What the SavedModel holds. Loaded, it is called as the model was."""

    def __init__(self, call: Call) -> None:
        super().__init__(name="exported")
        self._call = call.function
        self.tables: list[Any] = []
        self.kept: list[Any] = []
        self.marker: Any = None

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Predicts."""
        return self._call(*args, **kwargs)


def export(model: Any, inputs: Any, placement: Placement, model_dir: str, tables_dir: str) -> None:
    """Writes a SavedModel of a Keras model or function; see ``export_saved_model``."""
    call = call_of(model, inputs)
    module = _Exported(call)

    def constants(keys: Any, values: Any) -> tuple[Any, Any]:
        with tf.init_scope():
            made = tuple(tf.Variable(each, trainable=False) for each in (keys, values))
        module.tables.extend(made)
        return made[0], made[1]

    # The asset must be there before the function is traced; it is filled after.
    marker = os.path.join(os.path.dirname(model_dir), MARKER_NAME)

    def asset() -> Any:
        if module.marker is None:
            with open(marker, "w", encoding="utf-8"):
                pass
            with tf.init_scope():
                module.marker = _MarkerPath(marker)
        return module.marker.read()

    freezer = Freezer(placement, tables_dir, constants, asset)
    with scope.freezing(freezer):
        concrete = module.__call__.get_concrete_function(*call.args, **call.kwargs)
        signature = tf.function(call.signature_function(concrete), autograph=False)
        signature_concrete = signature.get_concrete_function(**call.signature_specs)
    if freezer.uses_directory:
        with open(marker, "w", encoding="utf-8") as file:
            file.write(freezer.marker())
    variables = {id(v): v for f in (concrete, signature_concrete) for v in f.graph.variables}
    tables = {id(v) for v in module.tables}
    module.kept.extend(v for key, v in variables.items() if key not in tables and not is_proxy(v))
    module.kept.extend(call.resources())
    with scope.freezing(freezer):  # saving may trace once more
        tf.saved_model.save(module, model_dir, signatures={"serving_default": signature_concrete})
