"""FeatureSpec mode: key processing in the input pipeline.

The function that ``get_asc_insert_func`` returns probes tables for the keys of an element while the
element is prefetched. The probe leaves a hint in the engine, by which the training lookup of the
same keys finds their rows. It changes no table, and no result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mxrec.tf import table as tables
from mxrec.tf.config import ConfigInitializer
from mxrec.tf.feature_spec import FeatureSpec
from mxrec.tf.graph_dump import dump
from mxrec.tf.keys import keys_of
from mxrec.tf.log import warn_once
from mxrec.tf.ops import library
from mxrec.tf.pooled import as_composite
from mxrec.tf.rewrite import prepared as prepared_keys
from mxrec.tf.validation import INT32_MAX, check_bool, check_int, check_str

_STYLES = (
    "get_asc_insert_func needs either tgt_key_specs, or args_index_list and table_names; got {}. "
    "Pass FeatureSpecs, or the positions of the ids and their tables."
)


def get_asc_insert_func(
    tgt_key_specs: FeatureSpec | Sequence[FeatureSpec] | None = None,
    args_index_list: Sequence[int] | None = None,
    table_names: Sequence[str] | None = None,
    is_training: bool = True,
    dump_graph: bool = False,
    **kwargs: Any,
) -> Callable[..., Any]:
    """Returns a function for ``dataset.map`` that starts the key processing of each element.

    The elements come out as they went in: structure, types, shapes and values. The tables of the
    features must exist when elements are drawn, not when the dataset is built.

    Args:
        tgt_key_specs: the features whose keys are processed: a FeatureSpec or a list of them. Those
            with ``is_timestamp=True`` must be in the element, and are left alone. A feature without
            a ``table_name`` is processed if there is a table of the feature's name already.
        args_index_list: positions of ids in the element, in the order of tf.nest.flatten: another
            way to say it, together with ``table_names``.
        table_names: the table of each position.
        is_training: False: elements are checked, and not processed; evaluation finds its rows by
            itself.
        dump_graph: write the graph of the function to a file in the directory ``mxrec_graphs``
            below the working directory, each time that TensorFlow traces it.
        **kwargs: ignored, with a warning.

    Raises:
        TypeError: an argument has the wrong type; from the function: ids are no numbers.
        ValueError: both ways are used, or none; the lists differ in length; a value is out of its
            range; from the function: an element does not have a feature.
    """
    check_bool("is_training", is_training)
    check_bool("dump_graph", dump_graph)
    if kwargs:
        names = ", ".join(sorted(kwargs))
        warn_once(
            ("get_asc_insert_func", names),
            "get_asc_insert_func: unknown arguments are ignored: %s",
            names,
        )
    if tgt_key_specs is None:
        specs = _specs_of_positions(args_index_list, table_names)
    elif args_index_list is None and table_names is None:
        specs = _checked_specs(tgt_key_specs)
    else:
        raise ValueError(_STYLES.format("both"))

    def insert(*args: Any) -> Any:
        element = args[0] if len(args) == 1 else args
        element = _processed(element, specs, is_training)
        if dump_graph:
            dump(f"asc_insert_func_{'train' if is_training else 'eval'}")
        return element

    plain: Callable[..., Any] = tf.autograph.experimental.do_not_convert(insert)
    return plain


def start_asc_pipeline() -> None:
    """Starts the key processing of the input pipelines.

    Pipelines process keys from their first element on, so there is nothing left to start; it may
    be called any number of times.

    Raises:
        RuntimeError: ``init`` has not been called.
    """
    ConfigInitializer.get_instance()


# --- Arguments ----------------------------------------------------------------------------------


def _checked_specs(given: Any) -> list[FeatureSpec]:
    specs = list(given) if isinstance(given, (list, tuple)) else [given]
    if not specs:
        raise ValueError("tgt_key_specs must hold at least one FeatureSpec, got none.")
    for spec in specs:
        if not isinstance(spec, FeatureSpec):
            raise TypeError(
                "tgt_key_specs must be a FeatureSpec or a list of them, got "
                f"{spec!r} ({type(spec).__name__})."
            )
    return specs


def _specs_of_positions(positions: Any, names: Any) -> list[FeatureSpec]:
    lists = {"args_index_list": positions, "table_names": names}
    missing = [name for name, value in lists.items() if value is None]
    if missing:
        what = "none of them" if len(missing) == 2 else f"no {missing[0]}"
        raise ValueError(_STYLES.format(what))
    for name, value in lists.items():
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list, got {value!r} ({type(value).__name__}).")
    if len(positions) != len(names) or not positions:
        raise ValueError(
            "args_index_list and table_names must have one length of at least 1, got "
            f"{len(positions)} and {len(names)}; give the table of each position."
        )
    return [
        FeatureSpec(
            f"args_index_list[{i}]",
            check_str(f"table_names[{i}]", name, 100),
            check_int(f"args_index_list[{i}]", position, 0, INT32_MAX),
        )
        for i, (position, name) in enumerate(zip(positions, names, strict=True))
    ]


# --- Elements -----------------------------------------------------------------------------------


def _processed(element: Any, specs: list[FeatureSpec], is_training: bool) -> Any:
    """The element, behind the processing of its keys."""
    features = tf.nest.flatten(element)
    numbers = tf.nest.pack_sequence_as(element, range(len(features)))
    done = set()
    for spec in specs:
        number = spec.tensor_of(numbers)
        if spec.is_timestamp:
            continue
        composite = as_composite(features[number])
        ids = tf.convert_to_tensor(features[number]) if composite is None else composite
        spec.check_shape(ids)
        given = _dense(ids)
        keys = keys_of(given, f"ids of FeatureSpec {spec.name!r}")
        if (spec.table_name, number) in done or not is_training or not _has_table(spec):
            continue
        done.add((spec.table_name, number))
        features[number] = _with_dense(ids, _prepared(given, keys, spec.table_name))
    return tf.nest.pack_sequence_as(element, features)


def _has_table(spec: FeatureSpec) -> bool:
    """Whether the feature has a table, as far as it is known now."""
    if spec.has_table_name or tables.table_of_name(spec.table_name) is not None:
        return True
    warn_once(
        ("get_asc_insert_func", spec.name),
        "get_asc_insert_func: FeatureSpec %r has no table_name, and there is no table of its name "
        "yet; its keys are not processed ahead of the lookup. Results are the same. Give it a "
        "table_name.",
        spec.name,
    )
    return False


def _prepared(ids: tf.Tensor, keys: tf.Tensor, table: str) -> tf.Tensor:
    """Dense ids, behind the processing of their keys."""
    prepared_keys.note(table)
    # By name: a function of a dataset must not capture a resource of the graph around it.
    prepared = library.mxrec_prepare(ids=keys, table=table)
    if keys is not ids:
        with tf.control_dependencies([prepared]):
            prepared = tf.identity(ids)
    if not tf.executing_eagerly():
        prepared.set_shape(ids.shape)
    return prepared


def _dense(ids: Any) -> tf.Tensor:
    if isinstance(ids, tf.SparseTensor):
        return ids.values
    return ids.flat_values if isinstance(ids, tf.RaggedTensor) else ids


def _with_dense(ids: Any, values: tf.Tensor) -> Any:
    if isinstance(ids, tf.SparseTensor):
        return tf.SparseTensor(ids.indices, values, ids.dense_shape)
    return ids.with_flat_values(values) if isinstance(ids, tf.RaggedTensor) else values
