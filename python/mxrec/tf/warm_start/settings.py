"""What a user asks for: one source, or parallel lists of sources, applied in order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

SLOTS = ("keep", "reset")
MODES = ("replace", "merge")
_CHOICES = {"slots": SLOTS, "mode": MODES}  # the first is the default


class WarmStartPath(str):
    """A path to warm-start from, with a say in what becomes of tables.

    It is the path, as a str: it can stand wherever TensorFlow takes one
    (``WarmStartSettings.ckpt_to_initialize_from``, ``warm_start_from``), also in a list.

    What it leaves open, the arguments of ``mxrec.warm_start`` say. A path that is made of it by
    ``+`` or ``os.path.join`` says the same: TensorFlow makes the prefix in a SavedModel so.

    Attributes:
        said: "slots" and "mode", as given; None: left open.
    """

    said: dict[str, str | None]

    def __new__(
        cls, path: str | os.PathLike[str], slots: str | None = None, mode: str | None = None
    ) -> WarmStartPath:
        """Makes the path.

        Args:
            path: a directory with checkpoints, or the prefix of one.
            slots: "keep": rows keep the optimizer state of the source, which must be of the same
                kind of optimizer. "reset": they begin with a fresh one. None: left open, which is
                "keep" where nothing else says it.
            mode: "replace": the table has the rows of this source alone. "merge": they are added
                to the rows that are there, and replace those of equal keys. None: left open, which
                is "replace" where nothing else says it.

        Raises:
            TypeError: ``path`` is no path.
            ValueError: ``slots`` or ``mode`` is something else.
        """
        made = super().__new__(cls, tf.compat.as_text(os.fspath(path)))
        made.said = {"slots": slots, "mode": mode}
        for name, value in made.said.items():
            _effective(name, value)
        return made

    @property
    def slots(self) -> str:
        """What becomes of optimizer state: "keep", also where it is left open, or "reset"."""
        return _effective("slots", self.said["slots"])

    @property
    def mode(self) -> str:
        """What becomes of rows: "replace", also where it is left open, or "merge"."""
        return _effective("mode", self.said["mode"])

    def __add__(self, end: str) -> WarmStartPath:
        return WarmStartPath(str(self) + end, **self.said)

    def __repr__(self) -> str:
        said = [f", {name}={value!r}" for name, value in self.said.items() if value is not None]
        return f"WarmStartPath({str(self)!r}{''.join(said)})"


@dataclasses.dataclass(frozen=True)
class Source:
    """One source, and what is to be taken from it.

    Attributes:
        path: a directory with checkpoints, or the prefix of one.
        selection: ``vars_to_warm_start``.
        vocabularies: ``tf.train.VocabInfo`` by variable.
        names: name in the source by name in the model.
        slots: of ``SLOTS``.
        mode: of ``MODES``.
        label: which one it is, for messages.
    """

    path: str
    selection: Any
    vocabularies: Mapping[str, Any]
    names: Mapping[str, str]
    slots: str
    mode: str
    label: str


def sources_of(
    ckpt_to_initialize_from: Any,
    vars_to_warm_start: Any = ".*",
    var_name_to_vocab_info: Any = None,
    var_name_to_prev_var_name: Any = None,
    slots: Any = None,
    mode: Any = None,
) -> list[Source]:
    """The sources of a warm start, in order.

    Args:
        ckpt_to_initialize_from: a path, or a list of paths. In the second case the others may be
            lists of the same length; what is no list holds for each path.
        vars_to_warm_start: as in ``tf.estimator.WarmStartSettings``; beside a list of paths a list
            of such.
        var_name_to_vocab_info: a dict or None, or a list of them.
        var_name_to_prev_var_name: a dict or None, or a list of them.
        slots: "keep" or "reset", or a list of them, for paths that leave it open. None: "keep".
        mode: "replace" or "merge", or a list of them; likewise. None: "replace".

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: lists differ in length, or an argument is out of its range.
    """
    several = isinstance(ckpt_to_initialize_from, (list, tuple))
    paths = list(ckpt_to_initialize_from) if several else [ckpt_to_initialize_from]
    if not paths:
        raise ValueError("ckpt_to_initialize_from is an empty list; name at least one path.")
    columns = {
        "vars_to_warm_start": vars_to_warm_start,
        "var_name_to_vocab_info": var_name_to_vocab_info,
        "var_name_to_prev_var_name": var_name_to_prev_var_name,
        "slots": slots,
        "mode": mode,
    }
    if several:
        _check_lengths(len(paths), columns)
    sources = []
    for i, path in enumerate(paths):
        mine = {
            name: column[i] if several and isinstance(column, (list, tuple)) else column
            for name, column in columns.items()
        }
        where = f"[{i}]" if several else ""
        sources.append(_source(path, where, **mine))
    return sources


def check_settings(warm_start_from: Any) -> None:
    """Raises what ``sources_of`` raises for an Estimator's ``warm_start_from``.

    Args:
        warm_start_from: None, a path or ``tf.estimator.WarmStartSettings``.
    """
    if hasattr(warm_start_from, "ckpt_to_initialize_from"):
        sources_of(*warm_start_from)


def _effective(name: str, value: Any) -> str:
    """What a choice amounts to; ValueError if it is none."""
    choices = _CHOICES[name]
    if value is None:
        return choices[0]
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}.")
    return value


def _check_lengths(paths: int, columns: Mapping[str, Any]) -> None:
    lengths = {
        name: len(column) for name, column in columns.items() if isinstance(column, (list, tuple))
    }
    wrong = [f"{name} has {length}" for name, length in lengths.items() if length != paths]
    if wrong:
        raise ValueError(
            f"ckpt_to_initialize_from has {paths} paths, but {', '.join(wrong)} elements; give one "
            "for each path. A selection of several names is a list inside the list: "
            "[['user_table', 'item_table'], '.*']."
        )


def _source(path: Any, where: str, **fields: Any) -> Source:
    parameter = f"ckpt_to_initialize_from{where}"
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{parameter} must be a path, got {path!r} ({type(path).__name__}).")
    text = tf.compat.as_text(os.fspath(path))
    if not text:
        raise ValueError(f"{parameter} is an empty path; name a directory or a checkpoint.")
    return Source(
        path=text,
        selection=fields["vars_to_warm_start"],
        vocabularies=_mapping(f"var_name_to_vocab_info{where}", fields["var_name_to_vocab_info"]),
        names=_names(f"var_name_to_prev_var_name{where}", fields["var_name_to_prev_var_name"]),
        slots=_choice(path, "slots", fields["slots"]),
        mode=_choice(path, "mode", fields["mode"]),
        label=f"{parameter}={text!r}",
    )


def _choice(path: Any, name: str, value: Any) -> str:
    argument = _effective(name, value)
    said = path.said[name] if isinstance(path, WarmStartPath) else None
    return said or argument


def _mapping(parameter: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{parameter} must be a dict, got {value!r} ({type(value).__name__}).")
    return value


def _names(parameter: str, value: Any) -> Mapping[str, str]:
    names = _mapping(parameter, value)
    for new, old in names.items():
        if not isinstance(new, str) or not isinstance(old, str) or not old:
            raise TypeError(f"{parameter} must map names to names, got {new!r}: {old!r}.")
    return names
