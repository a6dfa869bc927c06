"""The import finder for the accelerator's packages."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mxrec.compat.places import PACKAGES, PLACES, ROOTS


class CompatFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of ``PLACES`` whose top package no other finder has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of a module of the accelerator's packages, None for any other.

        Args:
            fullname: of the module.
            path: of its package; not used.
            target: not used.

        Raises:
            ModuleNotFoundError: the accelerator has, or may have, such a module, and there is
                nothing here that it could stand for.
        """
        del path, target
        root, dot, _ = fullname.partition(".")
        if root not in ROOTS or (dot and not self._is_ours(root)):
            return None
        if fullname not in PLACES:
            # Without a name: Python passes over one that names the module itself, in "from".
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: {root} is not installed, and mxrec.compat has no "
                f"counterpart of this module; it has those of {_known_near(fullname)}. Take the "
                "import out, or install the package."
            )
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname in PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        """Fills a module with the names of its places."""
        name = module.__name__
        names: dict[str, Any] = {}
        for place in PLACES[name]:
            source = importlib.import_module(f"mxrec.compat.{place}")
            names.update({each: getattr(source, each) for each in source.__all__})
        module.__doc__ = f"Stands for {name}; the contents come from mxrec.compat."
        module.__dict__.update(names)
        module.__dict__["__all__"] = list(names)
        module.__dict__["__getattr__"] = _missing_in(name, names)

    def _is_ours(self, root: str) -> bool:
        package = sys.modules.get(root)
        return package is not None and getattr(package.__spec__, "loader", None) is self


def install() -> None:
    """Makes the imports work for this process, where the packages are not installed. Idempotent."""
    if not any(isinstance(finder, CompatFinder) for finder in sys.meta_path):
        sys.meta_path.append(CompatFinder())  # last: what is installed wins


def uninstall() -> None:
    """Takes back ``install``; the modules that were imported stay with those who hold them."""
    ours = [finder for finder in sys.meta_path if isinstance(finder, CompatFinder)]
    for finder in ours:
        sys.meta_path.remove(finder)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec.loader in ours:
            del sys.modules[name]


def _known_near(fullname: str) -> str:
    """The modules and packages that are there, beside one that is not."""
    package = fullname.rpartition(".")[0]
    near = [name for name in PLACES if name.rpartition(".")[0] == package]
    return ", ".join(sorted(near)) or package


def _missing_in(module: str, names: dict[str, Any]) -> Any:
    """The ``__getattr__`` of a module: submodules, and what to say of other names."""
    is_package = module in PACKAGES

    def __getattr__(name: str) -> Any:
        if f"{module}.{name}" in PLACES:
            return importlib.import_module(f"{module}.{name}")
        message = (
            f"{module} has no {name!r} here: the package is not installed, and mxrec.compat has no "
            f"counterpart of it; it has {', '.join(sorted(names)) or 'modules only'}. Take its use "
            "out."
        )
        # Packages: "from package import module" asks for the attribute first. Names with
        # underscores: tools ask for them everywhere.
        if is_package or name.startswith("_"):
            raise AttributeError(message)
        raise ImportError(message)

    return __getattr__
