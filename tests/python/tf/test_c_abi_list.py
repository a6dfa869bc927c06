"""Each entry of tf_c_functions.inc is checked, and exported by the installed TensorFlow."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

BINDINGS = Path(__file__).resolve().parents[3] / "bindings" / "tf"
LIST = "tf_c_functions.inc"
CHECK = "tf_c_abi_check.cc"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(const TF_Tensor*, int)", "(const TF_Tensor*, int64_t)"),
        ("MXREC_TF_FUNCTION(int64_t, TF_Dim", "MXREC_TF_FUNCTION(int, TF_Dim"),
        ("MXREC_TF_CODE(TF_DATA_LOSS, 15)", "MXREC_TF_CODE(TF_DATA_LOSS, 16)"),
        ("MXREC_TF_TYPE(TF_INT64, 9)", "MXREC_TF_TYPE(TF_INT64, 8)"),
    ],
)
def test_a_wrong_entry_does_not_compile(tmp_path: Path, right: str, wrong: str) -> None:
    text = (BINDINGS / LIST).read_text()
    assert text.count(right) == 1
    (tmp_path / LIST).write_text(text.replace(right, wrong))
    shutil.copy(BINDINGS / CHECK, tmp_path)
    result = subprocess.run(
        ["g++", "-std=c++20", "-fsyntax-only", "-isystem", tf.sysconfig.get_include(), CHECK],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode != 0
    assert "error" in result.stderr


def test_every_function_is_exported() -> None:
    library = ctypes.CDLL(str(Path(tf.sysconfig.get_lib()) / "libtensorflow_framework.so.2"))
    names = re.findall(r"MXREC_TF_FUNCTION\([^,]+,\s+(TF_\w+)", (BINDINGS / LIST).read_text())
    assert len(names) > 30
    assert [name for name in names if not hasattr(library, name)] == []
