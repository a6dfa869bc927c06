"""mxrec.compat: the accelerator's packages where they are not installed, and mxrec.run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from mxrec import compat, run
from mxrec.compat.places import PACKAGES, PLACES

PROGRAM = Path(__file__).with_name("npu_program.py")


@pytest.fixture(autouse=True)
def finder() -> Iterator[None]:
    compat.install()
    compat.install()
    yield
    compat.uninstall()
    assert not [name for name in sys.modules if name.partition(".")[0] == "npu_bridge"]


@pytest.mark.parametrize("module", PLACES)
def test_every_module_imports(module):
    found = importlib.import_module(module)
    assert found.__name__ == module and all(hasattr(found, name) for name in found.__all__)
    assert (module in PACKAGES) == hasattr(found, "__path__")


def test_both_packages_have_the_same_names():
    old = importlib.import_module("npu_bridge.npu_init")
    new = importlib.import_module("npu_device.compat.v1.npu_init")
    assert old.__all__ == new.__all__
    # What the public samples of mxRec and of the accelerator's model collection use.
    wanted = (
        "NPURunConfig NPUEstimator NPUEstimatorSpec NPUDistributedOptimizer NPUOptimizer "
        "DumpConfig NPUCheckpointSaverHook NPUOutputTensorHook NPULossScaleOptimizer "
        "FixedLossScaleManager ExponentialUpdateLossScaleManager RewriterConfig npu_ops "
        "npu_scope npu_plugin util npu_unary_ops hccl_ops npu_hooks_append npu_config_proto "
        "npu_run_config_init get_rank_id get_rank_size get_local_rank_id npu_tf_optimizer "
        "init_resource shutdown_resource"
    )
    assert not set(wanted.split()) - set(old.__all__)
    adapter = importlib.import_module("tf_adapter")
    assert old.NPUEstimator is adapter.NPUEstimator
    assert old.npu_ops.dropout is importlib.import_module("mxrec.tf").npu_ops.dropout


def test_the_page_names_what_only_the_hardware_can_do():
    page = Path(__file__).parents[3].joinpath("docs/compat.md").read_text("utf-8")
    section = page.partition("## What cannot work")[2]
    init = importlib.import_module("npu_bridge.npu_init")
    absent = {name for name in ("npu_rnn", "npu_strategy", "keras_to_npu") if hasattr(init, name)}
    for module in PLACES:
        found = importlib.import_module(module)
        for name in found.__all__:
            code = getattr(getattr(found, name), "__code__", None)
            if code is not None and code.co_name == "raise_absent":
                absent.add(name)
    assert {"npu_rnn", "LARSV2", "send", "init_rdma_pool"} < absent
    assert not [
        name for name in sorted(absent) if f"`{name}`" not in section and f".{name}`" not in section
    ]


@pytest.mark.parametrize(
    ("statement", "error", "text"),
    [
        ("import npu_bridge.npu_cpu", ModuleNotFoundError, "'npu_bridge.npu_cpu'.*npu_init"),
        ("from npu_bridge import embedding", ModuleNotFoundError, "'npu_bridge.embedding'"),
        (
            "from npu_bridge.estimator.npu.util import fair_division",
            ImportError,
            "npu.util has no 'fair_division' here.*set_iteration_per_loop",
        ),
        ("import npu_device; npu_device.gen_npu_ops", AttributeError, "no 'gen_npu_ops'"),
        (
            "from npu_bridge.estimator.npu_ops import LARSV2; LARSV2(1, 2, 3, 4)",
            NotImplementedError,
            r"npu_ops\.LARSV2 works on the accelerator's own hardware.*trust ratio",
        ),
        (
            "from npu_bridge.npu_init import npu_rnn; npu_rnn.DynamicRNN(8)",
            NotImplementedError,
            r"npu_rnn\.DynamicRNN.*dynamic_rnn",
        ),
        (
            "from npu_bridge.hccl import hccl_ops; hccl_ops.send(1, 2, 3)",
            NotImplementedError,
            r"hccl_ops\.send.*one rank",
        ),
        (
            "from hccl.manage.api import create_group; create_group('g', 2, [0, 1])",
            ValueError,
            r"there is one rank, 0; got rank_num=2",
        ),
        (
            "from mpi4py import MPI; MPI.COMM_WORLD.Send(1, dest=1)",
            AttributeError,
            "no 'Send' here: mpi4py is not installed",
        ),
    ],
)
def test_what_means_nothing_here_says_so(statement, error, text):
    with pytest.raises(error, match=text):
        exec(statement, {})


def test_an_installed_package_wins(tmp_path, monkeypatch):
    compat.uninstall()
    package = tmp_path / "npu_device"
    package.mkdir()
    (package / "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    compat.install()
    try:
        assert importlib.import_module("npu_device").real
        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module("npu_device.compat")
        assert "mxrec" not in str(caught.value)
    finally:
        del sys.modules["npu_device"]


def test_device_of_tensorflow_2():
    import npu_device

    npu_device.global_options().precision_mode = "allow_mix_precision"
    npu_device.global_options().dump_config.enable_dump = True
    assert npu_device.global_options().dump_config.enable_dump
    assert not npu_device.global_options().deterministic
    device = npu_device.open().as_default()
    assert tf.constant([1.0]).device.endswith(device.name().rpartition("/")[2])
    with npu_device.keep_dtype_scope():
        assert npu_device.distribute.all_reduce([tf.constant(2.0)])[0].numpy() == 2.0
    assert npu_device.distribute.shard_and_rebatch_dataset("dataset", 32) == ("dataset", 32)


def execute(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mxrec.run", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


def test_a_script_of_the_accelerator_runs_unchanged(tmp_path):
    """50 steps of 8 samples: five runs of ten steps each, to the end of the data."""
    result = execute("--tf1", str(PROGRAM), "--a", "b", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "['--a', 'b'] runs 5 steps 50 rows 50\nfalls True\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "is_old"),
    [
        ("tf.ConfigProto", True),
        ("tf.train.Saver", True),
        ("tf.data.Dataset.range(3).make_one_shot_iterator", True),
        ("tf.no_such_name", False),
        ("tf.train.no_such_name", False),
        ("sys.no_such_name", False),
    ],
)
def test_scripts_of_tensorflow_1_are_told_how(tmp_path, monkeypatch, name, is_old):
    script = tmp_path / "old.py"
    script.write_text(f"import sys\nimport tensorflow as tf\nimport npu_device\n{name}\n")
    monkeypatch.setattr(sys, "argv", ["mxrec.run"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(AttributeError) as caught:
        run.main([str(script)])
    hint = (
        "\nmxrec.run: the script uses names of TensorFlow 1, which this TensorFlow has in "
        f"tensorflow.compat.v1. Run it with: python -m mxrec.run --tf1 {script}"
    )
    assert getattr(caught.value, "__notes__", []) == ([hint] if is_old else [])


def test_the_script_sees_itself_as_the_program(tmp_path, monkeypatch, capsys):
    (tmp_path / "neighbour.py").write_text("word = 'beside'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport neighbour\nprint(__name__, sys.argv, neighbour.word)\nsys.exit(7)\n"
    )
    monkeypatch.setattr(sys, "argv", ["mxrec.run"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run.main(["script.py", "--tf1", "x"])
    sys.modules.pop("neighbour")
    assert stop.value.code == 7
    assert capsys.readouterr().out == "__main__ ['script.py', '--tf1', 'x'] beside\n"


def test_no_such_script(capsys):
    assert run.main(["nowhere.py"]) == 2
    assert "nowhere.py: no such file" in capsys.readouterr().err
