"""Gradients with respect to tensors whose iterator has been replaced."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gradients_util

from mxrec.tf.log import logger
from mxrec.tf.rewrite.fetches import bring_up_to_date
from mxrec.tf.rewrite.replacements import Replacements, known_replacements_of

_INSTALLED = "_mxrec_derivatives_installed"


def install() -> None:
    """Has ``tf.gradients`` take the new tensors where old ones are given. Idempotent."""
    if hasattr(gradients_util, _INSTALLED):
        return
    # What tf.gradients, tf.hessians and the gradients of branches and loops come down to.
    gradients_util._GradientsHelper = _following(gradients_util._GradientsHelper)
    setattr(gradients_util, _INSTALLED, True)


def _following(plain: Any) -> Any:
    @functools.wraps(plain)
    def gradients(ys: Any, xs: Any, *args: Any, **kwargs: Any) -> Any:
        for graph in {id(each.graph): each.graph for each in _tensors([ys, xs])}.values():
            # Ops that were built since the rewriting are not on the way from the new tensors yet.
            bring_up_to_date(graph)
        if kwargs.get("stop_gradients") is not None:
            kwargs["stop_gradients"] = _current(kwargs["stop_gradients"])
        for each in _tensors(xs):
            _warn_of_what_is_missing(each)
        return plain(_current(ys), _current(xs), *args, **kwargs)

    return gradients


def _tensors(given: Any) -> list[Any]:
    """The graph's tensors in what was given; TensorFlow takes composite ones apart itself."""
    if isinstance(given, (list, tuple)):
        return [tensor for part in given for tensor in _tensors(part)]
    return [given] if _known(given) is not None else []


def _current(given: Any) -> Any:
    if isinstance(given, (list, tuple)):
        return [_current(each) for each in given]
    known = _known(given)
    return given if known is None else known.tensor(given)


def _known(given: Any) -> Replacements | None:
    if not isinstance(given, tf.Tensor) or not hasattr(given, "graph"):
        return None
    return known_replacements_of(given.graph)


def _warn_of_what_is_missing(tensor: Any) -> None:
    known = _known(tensor)
    if known is None:
        return
    moved = known.underivable.get(tensor.name) or known.underivable.get(known.tensor(tensor).name)
    if moved is not None:
        logger.warning(
            "graph rewriting: the gradient with respect to %r leaves out what depends on it by way "
            "of %r, which the input pipeline computes now. Leave that op in the step: no "
            "LookupSubgraphSlicerHook of its type, no ACGPushOpsToDatasetHook.",
            tensor.name,
            moved,
        )
