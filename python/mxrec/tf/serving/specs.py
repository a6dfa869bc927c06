"""What an exported function is called with, and how a signature says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.trackable.resource import CapturableResource


@dataclasses.dataclass(frozen=True)
class Call:
    """How a model is called.

    Attributes:
        function: what is called.
        args: structures of type specs.
        kwargs: the same.
        names: of the flat tensors of ``args`` and ``kwargs``, in the order of ``tf.nest.flatten``.
        output_names: of the flat outputs; None: by their structure.
        owner: what may hold resources that the function uses.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...]
    output_names: tuple[str, ...] | None
    owner: Any

    def _flat_specs(self) -> list[Any]:
        return list(tf.nest.flatten((self.args, self.kwargs)))

    @property
    def signature_specs(self) -> dict[str, tf.TensorSpec]:
        """Named specs of the plain tensors that a signature takes."""
        named = {}
        for name, spec in zip(self.names, self._flat_specs(), strict=True):
            for suffix, part in _parts(spec).items():
                full = name + suffix
                if full in named:
                    raise ValueError(f"inputs: two are named {full!r}; give them other names.")
                named[full] = tf.TensorSpec(part.shape, part.dtype, full)
        return named

    def signature_function(self, called: Any) -> Callable[..., dict[str, Any]]:
        """Returns the function of plain tensors behind the signature.

        Args:
            called: is called as the model is.
        """
        specs = self._flat_specs()

        def serve(**tensors: Any) -> dict[str, Any]:
            flat = [
                _joined(spec, {suffix: tensors[name + suffix] for suffix in _parts(spec)})
                for name, spec in zip(self.names, specs, strict=True)
            ]
            args, kwargs = tf.nest.pack_sequence_as((self.args, self.kwargs), flat)
            return self._named(called(*args, **kwargs))

        return serve

    def _named(self, outputs: Any) -> dict[str, Any]:
        if isinstance(outputs, dict) and self.output_names is None:
            names: Any = list(outputs)
            flat = [outputs[name] for name in names]
        else:
            flat = list(tf.nest.flatten(outputs))
            names = self.output_names or [f"output_{i}" for i in range(len(flat))]
        named: dict[str, Any] = {}
        for name, value in zip(names, flat, strict=True):
            spec = tf.type_spec_from_value(value)
            for suffix, part in split(spec, value).items():
                named[name + suffix] = part
        return named

    def resources(self) -> list[Any]:
        """Returns lookup tables and the like that the function may use."""
        if not isinstance(self.owner, tf.__internal__.tracking.Trackable):
            return []
        below = tf.train.TrackableView(self.owner).descendants()
        return [each for each in below if isinstance(each, CapturableResource)]


def call_of(model: Any, inputs: Any) -> Call:
    """Returns how a Keras model or a function is called.

    Args:
        model: which of them.
        inputs: type specs, in the structure of its first argument; None: a Keras model's own.

    Raises:
        ValueError: they are missing.
        TypeError: they are no type specs.
    """
    keras = isinstance(model, tf.keras.Model)
    names: list[str] | None = None
    if inputs is None:
        if not keras or not getattr(model, "inputs", None):
            raise ValueError(
                "inputs must be given: tf.TensorSpecs, or specs of ragged or sparse tensors, in "
                "the structure that the model is called with."
            )
        inputs, names = _inputs_of(model)
    for spec in tf.nest.flatten(inputs):
        if not isinstance(spec, tf.TypeSpec):
            raise TypeError(f"inputs must be tf.TypeSpecs, got {spec!r} ({type(spec).__name__}).")
    names = names or _names_of(inputs)
    # Named specs would be traced apart from tensors of the same shapes.
    inputs = tf.nest.map_structure(_without_name, inputs)
    output_names = None
    if keras:
        output_names = tuple(getattr(model, "output_names", None) or ()) or None

        def function(*args: Any) -> Any:
            return model(args[0], training=False)
    else:
        function = model
    owner = model if keras else getattr(model, "__self__", None)
    args = tuple(inputs) if not keras and isinstance(inputs, (list, tuple)) else (inputs,)
    return Call(function, args, {}, tuple(names), output_names, owner)


def _inputs_of(model: Any) -> tuple[Any, list[str]]:
    """A functional model's specs in their structure, and their names."""
    structure = getattr(model, "_inputs_struct", None)  # Keras 3
    if structure is None:
        structure = getattr(model, "_nested_inputs", None)
    if structure is None:
        structure = model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)
    flat = tf.nest.flatten(structure)
    names = [each.name.split(":")[0] for each in flat]
    specs = [_spec_of(each) for each in flat]
    return tf.nest.pack_sequence_as(structure, specs), names


def _spec_of(keras_tensor: Any) -> tf.TypeSpec:
    if hasattr(keras_tensor, "type_spec"):  # Keras 2
        return keras_tensor.type_spec
    shape, dtype = keras_tensor.shape, tf.as_dtype(keras_tensor.dtype)
    if getattr(keras_tensor, "sparse", False):
        return tf.SparseTensorSpec(shape, dtype)
    if getattr(keras_tensor, "ragged", False):
        rank = getattr(keras_tensor, "ragged_rank", None) or 1
        return tf.RaggedTensorSpec(shape, dtype, rank, keras_tensor.row_splits_dtype or tf.int64)
    return tf.TensorSpec(shape, dtype)


def _without_name(spec: Any) -> Any:
    return tf.TensorSpec(spec.shape, spec.dtype) if isinstance(spec, tf.TensorSpec) else spec


def _names_of(specs: Any) -> list[str]:
    if isinstance(specs, dict) and not any(tf.nest.is_nested(each) for each in specs.values()):
        return [str(name) for name in sorted(specs)]  # as tf.nest.flatten orders them
    flat = tf.nest.flatten(specs)
    if len(flat) == 1:
        return [getattr(flat[0], "name", None) or "inputs"]
    return [getattr(spec, "name", None) or f"inputs_{i}" for i, spec in enumerate(flat)]


# --- Composite tensors as plain ones ------------------------------------------------------------


def _parts(spec: Any) -> dict[str, tf.TensorSpec]:
    """The plain tensors of a spec, by what is added to its name."""
    if isinstance(spec, tf.RaggedTensorSpec):
        inner = spec.shape[spec.ragged_rank + 1 :] if spec.shape.rank is not None else None
        shape = tf.TensorShape(None if inner is None else [None, *inner])
        parts = {"_values": tf.TensorSpec(shape, spec.dtype)}
        for axis in range(spec.ragged_rank):
            suffix = "_row_splits" if spec.ragged_rank == 1 else f"_row_splits_{axis}"
            parts[suffix] = tf.TensorSpec([None], spec.row_splits_dtype)
        return parts
    if isinstance(spec, tf.SparseTensorSpec):
        rank = spec.shape.rank
        return {
            "_indices": tf.TensorSpec([None, rank], tf.int64),
            "_values": tf.TensorSpec([None], spec.dtype),
            "_dense_shape": tf.TensorSpec([rank], tf.int64),
        }
    return {"": spec}


def _joined(spec: Any, parts: dict[str, Any]) -> Any:
    if isinstance(spec, tf.RaggedTensorSpec):
        values, *splits = parts.values()
        return tf.RaggedTensor.from_nested_row_splits(values, splits, validate=False)
    if isinstance(spec, tf.SparseTensorSpec):
        return tf.SparseTensor(parts["_indices"], parts["_values"], parts["_dense_shape"])
    return parts[""]


def split(spec: Any, value: Any) -> dict[str, Any]:
    """Returns the plain tensors of a value, by what is added to its name.

    Args:
        spec: the value's.
        value: a tensor, or a ragged or sparse one.
    """
    if isinstance(spec, tf.RaggedTensorSpec):
        tensors = [value.flat_values, *value.nested_row_splits]
    elif isinstance(spec, tf.SparseTensorSpec):
        tensors = [value.indices, value.values, value.dense_shape]
    else:
        return {"": value}
    return dict(zip(_parts(spec), tensors, strict=True))
