"""docs/format-sparse-directory.md is enough to write a reader: its example reads chains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from version_support import make_table, train

import mxrec
from mxrec.checkpoints import naming, tools

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = DOCS / "format-sparse-directory.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page's code defines."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_chains(page, tmp_path):
    tables = [make_table(name) for name in ("user", "a/b")]
    for step in range(1, 5):
        for table in tables:
            train(table, step)
        mxrec.save(tables, tmp_path, step=step, delta=step > 1)
    newest = mxrec.versions(tmp_path)[-1].path
    found = page["read_chain"](newest)
    assert [manifest["step"] for _, manifest in found] == [1, 2, 3, 4]
    assert [manifest["kind"] for _, manifest in found] == ["full", "delta", "delta", "delta"]
    for path, manifest in found:
        for name, table in manifest["tables"].items():
            info = mxrec._mxrec.read_checkpoint_info(str(path / page["table_directory"](name)))
            assert (info["uid"], info["parent"]) == (table["uid"], table["parent"])
            assert info["step"] == manifest["step"]
    tools.compact(mxrec.versions(tmp_path)[1].path)
    found = page["read_chain"](newest)
    assert ".old-" in found[1][0].name and len(found) == 4
    (tmp_path / "v000001-step-1").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="v000001-step-1, which is not there"):
        page["read_chain"](newest)


def test_names_of_directories(page):
    for name in (
        "user",
        "a/b",
        "..",
        ".",
        "ü%",
        "with space",
        "x" * 100,
        "checkpoint-manifest.json",
    ):
        assert page["table_directory"](name) == naming.table_directory(name)
        assert "/" not in naming.table_directory(name)
    long = naming.table_directory("ü" * 100)
    assert long.startswith("%C3%BC" * 25 + "%~") and len(long) == 150 + 2 + 32


def test_dense_halves_have_no_part_in_numbered_versions(page, tmp_path):
    table = make_table("user")
    mxrec.save(table, tmp_path, step=3)
    manifest = page["read_version"](mxrec.versions(tmp_path)[0].path)
    assert manifest["dense"] is None and manifest["parent"] is None
    assert np.isfinite(manifest["saved"]) and manifest["format"] == 2
