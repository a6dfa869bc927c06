"""The API reference has every public name, and nothing else."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tensorflow as tf

import mxrec
import mxrec.tf as mx

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = {page: (DOCS / f"{page}.md").read_text("utf-8") for page in ("api-numpy", "api-tensorflow")}
HAS_ESTIMATOR = hasattr(tf, "estimator")
# What the pages are about, and of each the names that its users may import.
PUBLIC: dict[str, tuple[str, ...]] = {
    "mxrec": (*mxrec.__all__, *mxrec._OF_TENSORFLOW),
    "mxrec.tf": tuple(mx.__all__),
    "mxrec.tf.keras": ("Embedding", "TableSummaryCallback"),
    **{
        f"mxrec.tf.optimizers.{name}": ("create_hash_optimizer",)
        for name in ("gradient_descent", "lazy_adam", "adagrad", "ftrl", "momentum")
    },
    "mxrec.tf.hccl_ops": ("allreduce",),
    "mxrec.tf.npu_ops": ("dropout",),
    "mxrec.tf.optimizers.gradient_descent_by_addr": ("create_hash_optimizer_by_addr",),
    "mxrec.tf.optimizers.lazy_adam_by_addr": ("create_hash_optimizer_by_address",),
    "mxrec.tf.optimizers.adagrad_by_addr": ("create_hash_optimizer_by_address",),
}
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?: {4}.*\n)*)", re.MULTILINE)


def resolve(path: str) -> Any:
    """The object that a dotted path names."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def directives() -> Iterator[tuple[str, str]]:
    """Path and options of what the reference has the docstrings of."""
    for page in PAGES.values():
        yield from DIRECTIVE.findall(page + "\n")


def shown() -> dict[str, Any]:
    """By dotted path, the objects whose docstrings are in the reference."""
    found: dict[str, Any] = {}
    for path, options in directives():
        if path == "mxrec.tf.estimator" and not HAS_ESTIMATOR:
            continue
        thing = resolve(path)
        if not isinstance(thing, ModuleType):
            found[path] = thing
            continue
        left_out = re.findall(r'"!([^"]+)"', options) or ["^_"]
        for name, member in vars(thing).items():
            own = getattr(member, "__module__", None) == path
            if own and not any(re.search(pattern, name) for pattern in left_out):
                found[f"{path}.{name}"] = member
    return found


def mentioned(module: str) -> set[str]:
    """Names of a module that the pages tell about in words."""
    text = "\n".join(PAGES.values())
    return set(re.findall(rf"`{re.escape(module)}\.(\w+)[`(]", text))


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_in_the_reference(module: str) -> None:
    there = [id(thing) for thing in shown().values()]
    known = mentioned(module)
    namespace = importlib.import_module(module)
    missing = [
        name
        for name in PUBLIC[module]
        if id(getattr(namespace, name)) not in there and name not in known
    ]
    assert not missing


def test_what_is_in_the_reference_is_public() -> None:
    public = {
        id(getattr(importlib.import_module(module), name))
        for module, names in PUBLIC.items()
        for name in names
    }
    if HAS_ESTIMATOR:
        adapter = importlib.import_module("tf_adapter")
        public |= {id(getattr(adapter, name)) for name in adapter.__all__}
    assert not [path for path, thing in shown().items() if id(thing) not in public]


def test_names_in_words_exist() -> None:
    for module in PUBLIC:
        namespace = importlib.import_module(module)
        assert not [name for name in mentioned(module) if not hasattr(namespace, name)]


def test_all_is_sorted_out() -> None:
    """``__all__`` names what is there, each once."""
    for module, names in PUBLIC.items():
        namespace = importlib.import_module(module)
        assert len(set(names)) == len(names)
        assert not [name for name in names if not hasattr(namespace, name)]
