"""The hand-written declarations of TensorFlow's C API agree with the installed TensorFlow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

TF_BINDINGS = Path(__file__).resolve().parents[3] / "bindings" / "tf"


def compile_against_tensorflow(source: Path) -> subprocess.CompletedProcess[str]:
    command = ["g++", "-std=c++20", "-fsyntax-only", f"-isystem{tf.sysconfig.get_include()}"]
    command += [f"-I{TF_BINDINGS}", str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("check", ["tf_c_abi_check.cc", "grappler_abi_check.cc"])
def test_declarations_match_the_headers(check: str) -> None:
    result = compile_against_tensorflow(TF_BINDINGS / check)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_wrong_declaration_is_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.cc"
    wrong.write_text(
        f'#include "{TF_BINDINGS / "tf_c_abi_check.cc"}"\n'
        'extern "C" int TF_DeleteTensor(TF_Tensor*);\n'
    )
    result = compile_against_tensorflow(wrong)
    assert result.returncode != 0
    assert "TF_DeleteTensor" in result.stderr
