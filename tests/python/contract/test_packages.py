"""The packages of the import paths: re-exports only; mxrec itself needs NumPy only."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

THIN = ("mx_rec", "tf_adapter", "rec_sdk_common")


def modules(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))


def is_re_export(node: ast.stmt) -> bool:
    """Whether a statement is an import, ``__all__``, a docstring, or takes a name away again."""
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["__all__"]
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.Delete)) or is_docstring


@pytest.mark.parametrize("package", THIN)
def test_no_logic_in_thin_packages(package: str) -> None:
    found = modules(package)
    assert found
    for path in found:
        logic = [node for node in ast.parse(path.read_text("utf-8")).body if not is_re_export(node)]
        assert not logic, f"{path}: {ast.unparse(logic[0])}"


def test_mxrec_needs_numpy_only() -> None:
    code = (
        "import sys, sysconfig, os\n"
        "import numpy\n"
        "before = set(sys.modules)\n"
        "import mxrec\n"
        "site = os.path.realpath(sysconfig.get_path('purelib'))\n"
        "def is_package(name):\n"
        "    return (getattr(sys.modules[name], '__file__', None) or '').startswith(site)\n"
        "new = filter(is_package, set(sys.modules) - before)\n"
        "others = {name.partition('.')[0] for name in new} - {'mxrec', 'numpy'}\n"
        "assert not others, others\n"
        "with mxrec.Table('t', 2) as table:\n"
        "    assert table.lookup(numpy.arange(3)).shape == (3, 2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_scripts_reach_through_packages() -> None:
    """After importing a package, scripts use its modules by their full path."""
    code = (
        "import rec_sdk_common\n"
        "import mx_rec.util as mxrec_util\n"
        "assert rec_sdk_common.communication.hccl.hccl_info.get_rank_size() == 1\n"
        "assert mxrec_util.communication.hccl_ops.get_local_rank_size() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
