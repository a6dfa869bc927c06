"""The models of examples/models learn from Criteo's format and from CSV, as static tables do."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clicks_csv import LABEL, write_clicks
from examples_runs import EXAMPLES, execute

from mxrec.cli.examples import Examples
from mxrec.cli.sources import FileSource, SyntheticSource

MODELS = ("dlrm", "deepfm", "dcnv2", "wide_deep", "mmoe")
SEEDS = (1, 2)
TOLERANCE = 0.003


def adult() -> Path:
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    return Path(os.environ.get("MXREC_TEST_DATA", default)) / "adult.csv.gz"


def test_every_model_is_tested() -> None:
    assert {path.stem for path in (EXAMPLES / "models").glob("*.py")} == {*MODELS, "ctr"}


def rows_of_tables(source: FileSource, model: str) -> int:
    """Keys of the rows to train on, in all tables of a model."""
    keys = Examples.concatenate(list(source.train())).keys
    columns = [len(np.unique(column)) for column in keys.T]
    if model == "mmoe":  # one column is the second task, and no feature
        return sum(columns) - min(columns)
    # Some have tables of width 1 beside those of width dim.
    return sum(columns) * (2 if model in ("deepfm", "wide_deep") else 1)


def test_models_learn(tmp_path: Path, rng: np.random.Generator) -> None:
    """From a CSV whose label depends on two columns and a number; one from Criteo's format too."""
    rows = 4000
    first, second = rng.integers(0, 12, rows), rng.integers(0, 9, rows)
    kind, number = rng.integers(0, 2, rows), rng.normal(size=rows)
    label = (2 * np.sin(first * 3) + 2 * np.cos(second * 5) + number > 0).astype(int)
    table = "\n".join(
        f"a{a},b{b},k{k},{n:.3f},{y}"
        for a, b, k, n, y in zip(first, second, kind, number, label, strict=True)
    )
    data = tmp_path / "rows.csv"
    data.write_text(f"first,second,kind,number,label\n{table}\n")
    source = FileSource(data, "label", 0.1)
    options = f"--data {data} --label label --dim 8 --epochs 4 --batch-size 128"
    clicks = tmp_path / "clicks.tsv"
    SyntheticSource(2000, seed=1, holdout=0.1).write_tsv(clicks)
    programs = [f"models/{model} {options}" for model in MODELS]
    *reports, criteo = execute(*programs, f"models/deepfm --data {clicks} --dim 4 --epochs 3")
    assert criteo["rows"] == 200 and criteo["last_loss"] < criteo["first_loss"]
    assert criteo["table_rows"] == rows_of_tables(FileSource(clicks, None, 0.1), "deepfm")
    for model, report in zip(MODELS, reports, strict=True):
        assert report["rows"] == rows // 10
        assert report["last_loss"] < 0.8 * report["first_loss"]
        assert report["auc"][0] > 0.85, model
        assert report["table_rows"] == rows_of_tables(source, model)
    assert len(reports[-1]["auc"]) == 2


@pytest.mark.slow
def test_models_run_on_clicks(tmp_path: Path) -> None:
    """Every model on Criteo's format."""
    clicks = tmp_path / "clicks.tsv"
    SyntheticSource(300, seed=1, holdout=0.1).write_tsv(clicks)
    source = FileSource(clicks, None, 0.1)
    reports = execute(*(f"models/{model} --data {clicks} --dim 2" for model in MODELS))
    for model, report in zip(MODELS, reports, strict=True):
        assert report["rows"] == 30
        assert report["table_rows"] == rows_of_tables(source, model)
        assert np.isfinite(report["last_loss"])


def test_models_run_on_one_category(tmp_path: Path) -> None:
    """And no number: DLRM has no pair of fields, DeepFM no linear part of numbers."""
    data = tmp_path / "one.csv"
    data.write_text("a,b\n" + "x,0\ny,1\n" * 40)
    options = f"--data {data} --label b --dim 2"
    programs = [f"models/{model} {options}" for model in MODELS[:-1]]
    *reports, static = execute(*programs, f"models/dlrm {options} --static")
    for model, report in zip(MODELS, reports, strict=False):
        assert report["rows"] == 8 and np.isfinite(report["last_loss"])
        assert report["table_rows"] == rows_of_tables(FileSource(data, "b", 0.1), model)
    assert static["rows"] == 8 and np.isfinite(static["last_loss"])


def test_unusable_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "models")
    mmoe = runpy.run_path(str(EXAMPLES / "models" / "mmoe.py"))
    data = tmp_path / "small.csv"
    data.write_text("a,b\n" + "x,0\ny,1\n" * 20)
    for task, text in {
        "c=1": "it must be COLUMN=VALUE, COLUMN one of a",
        "a": "it must be COLUMN=VALUE",
        "a=z": "no row to train on has that value",
    }.items():
        arguments = ["--data", str(data), "--label", "b", "--second-task", task]
        with pytest.raises(SystemExit) as stop:
            mmoe["main"](mmoe["mmoe"], "", arguments, tasks=2)
        assert stop.value.code == 2
        assert f"--second-task is {task!r}; {text}" in capsys.readouterr().err
    one_value = tmp_path / "same.csv"
    one_value.write_text("a,c,b\n" + "x,z,0\nx,z,1\n" * 20)
    for path, text in {
        data: "has one categorical column, a, which is the second task",
        one_value: "no categorical column (a, c) has two values",
    }.items():
        with pytest.raises(SystemExit) as stop:
            mmoe["main"](mmoe["mmoe"], "", ["--data", str(path), "--label", "b"], tasks=2)
        assert stop.value.code == 2
        assert text in capsys.readouterr().err
    for option, value, wanted in (
        ("--batch-size", "0", "in [1, 1048576]"),
        ("--epochs", "0", "in [1, 10000]"),
        ("--dim", "x", "an integer in [1, 1024]"),
        ("--seed", "-1", "in [0, 1000000]"),
        ("--holdout", "1.5", "between 0.0 and 1.0, both excluded"),
        ("--sparse-learning-rate", "20", "between 0.0 and 10.0, both excluded"),
        ("--dense-learning-rate", "0", "between 0.0 and 10.0, both excluded"),
    ):
        with pytest.raises(SystemExit) as stop:
            mmoe["main"](mmoe["mmoe"], "", ["--data", str(data), option, value], tasks=2)
        assert stop.value.code == 2
        message = capsys.readouterr().err
        shown = repr(value) if value == "x" else str(float(value) if "." in wanted else int(value))
        assert f"{option} is {shown}; it must be {wanted}" in message
    sys.modules.pop("ctr")


def check_auc(model: str, options: str, at_least: float) -> None:
    """Trains on mxrec tables and on static ones; means over seeds agree."""
    programs = [
        f"models/{model} {options} --holdout 0.2 --epochs 3 --seed {seed}{kind}"
        for kind in ("", " --static")
        for seed in SEEDS
    ]
    reports = execute(*programs, timeout=600)
    # Initial rows come from different generators: single runs differ by chance, means agree.
    ours, static = (
        np.mean([report["auc"] for report in part], axis=0) for part in (reports[:2], reports[2:])
    )
    print(model, ours, static)
    assert static[0] > at_least
    np.testing.assert_allclose(ours, static, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clicks(tmp_path_factory.mktemp("clicks") / "clicks.csv", 50_000)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_auc_equals_that_of_static_variables(model: str, clicks: Path) -> None:
    options = f"--data {clicks} --label {LABEL} --dense-learning-rate 0.003"
    check_auc(model, options, at_least=0.8)


@pytest.mark.slow
@pytest.mark.skipif(
    not adult().is_file(), reason="no adult.csv.gz; MXREC_TEST_DATA names its folder"
)
@pytest.mark.parametrize("model", MODELS)
def test_auc_equals_that_of_static_variables_on_adult(model: str) -> None:
    check_auc(model, f"--data {adult()} --label income", at_least=0.88)
