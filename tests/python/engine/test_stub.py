"""The checked-in and installed stub is what the module says of itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mxrec
from mxrec import _mxrec


def declarations(stub: str) -> str:
    """The stub without its layout and without the path of the module in its imports."""
    return ast.unparse(ast.parse(stub)).replace("mxrec._mxrec.", "")


def test_stub_has_not_drifted():
    stubgen = pytest.importorskip("nanobind.stubgen", reason="nanobind is not installed")
    generator = stubgen.StubGen(_mxrec)
    generator.put(_mxrec)
    installed = Path(mxrec.__file__).with_name("_mxrec.pyi")
    assert installed.exists(), "the wheel must install _mxrec.pyi"
    assert declarations(installed.read_text()) == declarations(generator.get()), (
        "the bindings have changed: cmake --build BUILD --target update_stub"
    )
    assert installed.with_name("py.typed").exists()


def test_public_names_are_documented():
    for name in mxrec.__all__:
        if name != "__version__":
            assert getattr(mxrec, name).__doc__, name
    for name, member in vars(mxrec.Table).items():
        if not name.startswith("_"):
            assert member.__doc__, name
