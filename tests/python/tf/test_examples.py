"""The sample programs of examples/ run, and report what NumPy says that they must."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from examples_runs import EXAMPLES, execute

IN_SESSIONS = (
    "session_feature_spec",
    "session_auto_graph",
    "session_auto_graph --one-shot",
    "multi_lookup",
    "ddr",
    "ssd",
    "expansion",
    "admission_eviction",
)
STEPS, BATCH = 50, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, dict[str, Any]]:
    programs = {name: name for name in IN_SESSIONS}
    programs["predict"] = f"predict train {folder}/predict"
    if hasattr(tf, "estimator"):
        for style in ("feature_spec", "auto_graph"):
            programs[style] = f"estimator_styles {style} {folder}/{style}"
    return dict(zip(programs, execute(*programs.values()), strict=True))


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import clicks

        return clicks.columns()
    finally:
        sys.path.remove(str(EXAMPLES))


def falls(losses: list[float]) -> bool:
    first, last = losses[:10], losses[-10:]
    return float(np.mean(last)) < 0.9 * float(np.mean(first))


def distinct(*ids: np.ndarray) -> int:
    return len(np.unique(np.concatenate([each.reshape(-1) for each in ids])))


def test_every_program_is_run() -> None:
    there = {path.stem for path in EXAMPLES.glob("*.py")} - {"clicks"}
    others = {"predict", "estimator_styles", "serve"}
    assert there == {name.split()[0] for name in IN_SESSIONS} | others


def test_feature_spec_and_automatic_graph_train_the_same_model(reports, data) -> None:
    spec = reports["session_feature_spec"]
    assert len(spec["losses"]) == STEPS and falls(spec["losses"])
    assert spec["rows"] == [distinct(data["user_ids"]), distinct(data["item_ids"])]
    for name in ("session_auto_graph", "session_auto_graph --one-shot"):
        assert reports[name]["losses"] == spec["losses"]
        assert reports[name]["rows"] == spec["rows"]
        assert reports[name]["prepared"] > 0


def test_multi_lookup(reports, data) -> None:
    report = reports["multi_lookup"]
    assert falls(report["losses"])
    assert report["rows"] == distinct(data["user_ids"], data["item_ids"])


def test_ddr(reports, data) -> None:
    report = reports["ddr"]
    assert report["losses"][-1] < report["losses"][0]
    assert report["rows"] == distinct(data["user_ids"]) > 50
    assert report["capacity"] == 400 and report["rows_after"] == report["rows"]
    assert "user_table" in report["error"] and "400" in report["error"]


def test_ssd(reports, data) -> None:
    report = reports["ssd"]
    # Where the rows are makes no difference: the same model with all of them in memory.
    assert report["losses"] == reports["ddr"]["losses"]
    assert report["rows"] == distinct(data["user_ids"]) > 100 and report["capacity"] == 400
    tiers = report["tiers"]
    assert tiers["memory"]["rows"] + tiers["ssd"]["rows"] == report["rows"]
    assert tiers["memory"]["capacity"] == 40 and tiers["ssd"]["rows"] >= report["rows"] - 100
    assert 0.0 < report["memory_hit_rate"] < 1.0


def test_expansion(reports, data) -> None:
    report = reports["expansion"]
    assert falls(report["losses"])
    assert report["rows"] == [distinct(data["user_ids"]), distinct(data["item_ids"])]


def rows_by_rules(ids: np.ndarray, times: np.ndarray, batches: int, evicted: bool) -> int:
    """Keys with three occurrences or more, and the last of them less than 200 s ago."""
    rows = slice(batches * BATCH)
    keys, inverse, counts = np.unique(ids[rows], return_inverse=True, return_counts=True)
    last = np.zeros(len(keys), np.int64)
    np.maximum.at(last, inverse.ravel(), np.repeat(times[rows], ids.shape[1]))
    kept = counts >= 3
    if evicted:
        kept &= times[rows].max() - last < 200
    return int(kept.sum())


def test_admission_and_eviction(reports, data) -> None:
    report = reports["admission_eviction"]
    columns = data["user_ids"], data["item_ids"]
    times = data["timestamp"]
    assert report["rows_before"] == [rows_by_rules(c, times, STEPS - 1, False) for c in columns]
    assert report["rows"] == [rows_by_rules(c, times, STEPS, True) for c in columns]
    all_rows = [rows_by_rules(c, times, STEPS, False) for c in columns]
    assert report["evicted"] == list(np.subtract(all_rows, report["rows"])) and report["evicted"][0]


def test_a_new_process_predicts_the_same(reports, folder, data) -> None:
    trained = reports["predict"]
    (restored,) = execute(f"predict predict {folder}/predict")
    assert restored == trained
    assert trained["rows"] == distinct(data["user_ids"])
    assert len(set(trained["probabilities"])) > 15


@pytest.mark.skipif(not hasattr(tf, "estimator"), reason="no tf.estimator")
def test_estimators(reports, folder) -> None:
    spec = reports["feature_spec"]
    assert spec == reports["auto_graph"]
    assert spec["steps"] == 60 and spec["auc"] > 0.8 and spec["loss"] < 0.6
    assert len(spec["probabilities"]) == 10 * BATCH
    for served in execute(f"serve {folder}/feature_spec", f"serve {folder}/auto_graph"):
        assert served["probabilities"] == spec["probabilities"]
