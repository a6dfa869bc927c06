"""Estimators that begin with what other models have learnt."""

from __future__ import annotations

import copy
import dataclasses
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

if not hasattr(tf, "estimator"):
    pytest.skip("TensorFlow without tf.estimator", allow_module_level=True)

from warm_start_program import (
    Capture,
    Config,
    Params,
    State,
    create_fs_params,
    get_model_fn,
    input_fn,
    start,
    train_source,
)

from mx_rec.util.initialize import terminate_config_initializer
from mxrec.tf import WarmStartPath
from mxrec.tf.log import logger
from tf_adapter import NPUEstimator, NPURunConfig

cfg = config = Config()
access_and_evict = None
DENSE = ("mlp_layer_w", "mlp_layer_v", "bias")


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    yield
    terminate_config_initializer()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, State]]:
    """A directory with the models of the examples, and what each has learnt."""
    here = tmp_path_factory.mktemp("sources")
    ranges = {"warm_start": (0, 50), "warm_start_1": (0, 100), "warm_start_2": (60, 160)}
    ranges["warm_start_3"] = (500, 510)
    states = {
        name: train_source(str(here / name), cfg, seed, keys)
        for seed, (name, keys) in enumerate(ranges.items())
    }
    terminate_config_initializer()
    return here, states


@pytest.fixture
def learnt(
    sources: tuple[Path, dict[str, State]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, State]:
    """What each model has learnt; they are in the working directory."""
    start()
    monkeypatch.chdir(sources[0])
    return sources[1]


def begin(est: Any, cfg: Config = cfg, seed: int = 9) -> State:
    """What an estimator has when training begins."""
    capture = Capture()
    est.train(input_fn(cfg, seed), [capture], steps=1)
    assert capture.first is not None
    return capture.first


def begins(model_dir: Path, warm_start_from: Any, **changes: Any) -> State:
    """The same of a new model with this ``warm_start_from``."""
    cfg_ = dataclasses.replace(cfg, seed=9, **changes)
    model_fn = get_model_fn(create_fs_params, cfg_, None)
    return begin(
        tf.estimator.Estimator(model_fn, str(model_dir), warm_start_from=warm_start_from), cfg_
    )


def assert_dense(found: State, wanted: dict[str, State]) -> None:
    for name in DENSE:
        np.testing.assert_array_equal(found.dense[name], wanted[name].dense[name], name)


# --- The two examples of the product description -------------------------------------------------


def test_example_1(learnt: dict[str, State], tmp_path: Path) -> None:
    cold = begins(tmp_path / "cold", None)
    start()
    params = Params(model_dir=str(tmp_path / "model"))
    run_config = NPURunConfig(save_checkpoints_steps=10)

    warm_settings=tf.estimator.WarmStartSettings(ckpt_to_initialize_from="./warm_start",vars_to_warm_start ="user_table", var_name_to_prev_var_name=None)  # fmt: skip  # noqa: E501
    est = NPUEstimator( model_fn=get_model_fn(create_fs_params, cfg, access_and_evict), params=params, model_dir=params.model_dir, config=run_config, warm_start_from=warm_settings )  # fmt: skip  # noqa: E501

    state = begin(est)
    assert len(learnt["warm_start"].tables["user_table"]) == 50
    assert state.tables["user_table"] == learnt["warm_start"].tables["user_table"]
    assert state.steps == {"user_table": 5, "item_table": 0}
    assert state.tables["item_table"] == {}
    assert cold.dense.keys() == state.dense.keys()
    assert all(np.any(state.dense[n] != learnt["warm_start"].dense[n]) for n in DENSE)


def test_example_2(learnt: dict[str, State], tmp_path: Path) -> None:
    params = Params(model_dir=str(tmp_path / "model"))
    run_config = NPURunConfig(save_checkpoints_steps=10)

    ckpt_to_initialize_from_list = ["./warm_start_1", "./warm_start_2", "./warm_start_3"]
    vars_to_warm_start_list=[".*", ["user_table", "item_table"], "mlp_layer_w" ]  # fmt: skip
    var_name_to_prev_var_name_list = [{}, {}, {}]
    warm_settings=tf.estimator.WarmStartSettings( ckpt_to_initialize_from=ckpt_to_initialize_from_list, vars_to_warm_start = vars_to_warm_start_list, var_name_to_prev_var_name=var_name_to_prev_var_name_list )  # fmt: skip  # noqa: E501
    est = NPUEstimator( model_fn=get_model_fn(create_fs_params, config, access_and_evict), params=params, model_dir=params.model_dir, config=run_config, warm_start_from=warm_settings )  # fmt: skip  # noqa: E501

    state = begin(est)
    assert state.tables == learnt["warm_start_2"].tables
    assert min(state.tables["user_table"]) >= 60
    assert state.steps == {"user_table": 5, "item_table": 5}
    first, third = learnt["warm_start_1"], learnt["warm_start_3"]
    assert_dense(state, {"mlp_layer_w": third, "mlp_layer_v": first, "bias": first})
    assert np.any(first.dense["mlp_layer_w"] != third.dense["mlp_layer_w"])


# --- Estimators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["warm_start_1", "warm_start_1/model.ckpt-5"])
def test_a_plain_string_takes_everything(
    learnt: dict[str, State], tmp_path: Path, path: str
) -> None:
    state = begins(tmp_path, path)
    first = learnt["warm_start_1"]
    assert state.tables == first.tables
    assert_dense(state, dict.fromkeys(DENSE, first))


def test_training_goes_on_from_the_rows_and_not_again_from_the_source(
    learnt: dict[str, State], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del learnt
    caplog.set_level(logging.INFO, logger.name)

    def train(steps: int) -> Capture:
        capture = Capture()
        est = tf.estimator.Estimator(
            get_model_fn(create_fs_params, cfg, None), str(tmp_path), warm_start_from="warm_start"
        )
        est.train(input_fn(cfg, 3), [capture], steps=steps)
        return capture

    first = train(4)
    assert first.first is not None and first.last is not None
    assert first.last.tables != first.first.tables
    assert first.last.steps["user_table"] == 9
    start()
    second = train(4)
    assert second.first is not None
    assert second.first.tables == first.last.tables
    for name in DENSE:
        np.testing.assert_array_equal(second.first.dense[name], first.last.dense[name])
    reports = [r.getMessage() for r in caplog.records if "Warm start:" in r.getMessage()]
    assert len(reports) == 1


def test_evaluation_before_training_warm_starts_as_with_dense_variables(
    learnt: dict[str, State], tmp_path: Path
) -> None:
    del learnt
    source = tf.estimator.Estimator(get_model_fn(create_fs_params, cfg, None), "warm_start")
    wanted = source.evaluate(input_fn(cfg, 5, (0, 50)))
    start()
    model_fn = get_model_fn(create_fs_params, dataclasses.replace(cfg, seed=9), None)
    new = tf.estimator.Estimator(model_fn, str(tmp_path), warm_start_from="warm_start")
    assert new.evaluate(input_fn(cfg, 5, (0, 50)))["loss"] == wanted["loss"]
    predictions = [p["logits"] for p in new.predict(input_fn(cfg, 5, (0, 50)))]
    assert len(predictions) == 640 and np.std(predictions) > 0


def test_the_log_says_what_came_from_where(
    learnt: dict[str, State], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger.name)
    settings = tf.estimator.WarmStartSettings(
        ["warm_start_1", WarmStartPath("warm_start_2", slots="reset", mode="merge"), "warm_start"],
        [".*", ["user_table", "item_table", "bias"], ["item_table"]],
        var_name_to_prev_var_name=[{}, {}, {"item_table": "user_table"}],
    )
    begins(tmp_path, settings)
    (report,) = (r.getMessage() for r in caplog.records if "Warm start:" in r.getMessage())
    rows = {name: str(len(state.tables["user_table"])) for name, state in learnt.items()}
    items = {name: str(len(state.tables["item_table"])) for name, state in learnt.items()}
    place = {name: f"{name}/model.ckpt-5" for name in learnt}
    first, second, fourth = "warm_start_1", "warm_start_2", "warm_start"
    assert [line.split() for line in report.splitlines()[1:]] == [
        ["name", "from", "name", "there", "rows", "slots", "outcome"],
        ["table", "user_table", place[first], "user_table", rows[first], "kept", "replaced"],
        ["table", "item_table", place[first], "item_table", items[first], "kept", "superseded"],
        ["variable", "mlp_layer_w", place[first], "mlp_layer_w", "8", "replaced"],
        ["variable", "mlp_layer_v", place[first], "mlp_layer_v", "8", "replaced"],
        ["variable", "bias", place[first], "bias", "1", "superseded"],
        ["table", "user_table", place[second], "user_table", rows[second], "fresh", "merged"],
        ["table", "item_table", place[second], "item_table", items[second], "fresh", "superseded"],
        ["variable", "bias", place[second], "bias", "1", "replaced"],
        # Names in a list are scopes of all variables, to TensorFlow.
        ["variable", "bias/Adagrad", place[second], "bias/Adagrad", "1", "replaced"],
        ["table", "item_table", place[fourth], "user_table", rows[fourth], "kept", "replaced"],
    ]


def test_a_path_that_merges_with_fresh_slots_in_a_plain_estimator(
    learnt: dict[str, State], tmp_path: Path
) -> None:
    merged = WarmStartPath("warm_start_2", slots="reset", mode="merge")
    settings = tf.estimator.WarmStartSettings(["warm_start_1", merged], "user_table")
    state = begins(tmp_path, settings)
    first, second = (learnt[f"warm_start_{i}"].tables["user_table"] for i in (1, 2))
    fresh = np.full(cfg.dim, 0.9, np.float32).tobytes()  # Adagrad's first accumulator
    wanted = first | {key: (embedding, fresh) for key, (embedding, _) in second.items()}
    assert len(first) < len(wanted) < len(first) + len(second)
    assert state.tables["user_table"] == wanted


def test_a_path_keeps_what_it_says_in_copies_and_in_a_plain_string(
    learnt: dict[str, State], tmp_path: Path
) -> None:
    path = WarmStartPath(Path("warm_start"), slots="reset")
    assert path == "warm_start" and (path.slots, path.mode) == ("reset", "replace")
    copied = copy.deepcopy(path)
    assert (copied.slots, copied.mode) == ("reset", "replace")
    assert repr(copied) == "WarmStartPath('warm_start', slots='reset')"
    state = begins(tmp_path, copied)
    fresh = np.full(cfg.dim, 0.9, np.float32).tobytes()
    user = learnt["warm_start"].tables["user_table"]
    assert state.tables["user_table"] == {key: (row, fresh) for key, (row, _) in user.items()}
    assert state.steps["user_table"] == 0


def test_a_path_to_a_saved_model_keeps_what_it_says(tmp_path: Path) -> None:
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "exported"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("w", initializer=1.0)
        session.run(tf.compat.v1.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    path = WarmStartPath(tmp_path / "exported", slots="reset", mode="merge")
    for kind in (tf.estimator.Estimator, NPUEstimator):
        est = kind(get_model_fn(create_fs_params, cfg, None), "unused", warm_start_from=path)
        found = est._warm_start_settings.ckpt_to_initialize_from
        assert found == str(tmp_path / "exported" / "variables" / "variables")
        assert (found.slots, found.mode) == ("reset", "merge")


def test_another_optimizer_begins_with_fresh_slots(
    learnt: dict[str, State], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"user_table.*LazyAdam.*Adagrad.*slots='reset'"):
        begins(tmp_path / "kept", "warm_start", optimizer="LazyAdam")
    assert not (tmp_path / "kept").joinpath("checkpoint").exists()
    start()
    path = WarmStartPath("warm_start", slots="reset")
    state = begins(tmp_path / "reset", path, optimizer="LazyAdam")
    fresh = np.zeros(2 * cfg.dim, np.float32).tobytes()
    user = learnt["warm_start"].tables["user_table"]
    assert state.tables["user_table"] == {key: (row, fresh) for key, (row, _) in user.items()}


def test_values_of_another_type_are_rounded(learnt: dict[str, State], tmp_path: Path) -> None:
    state = begins(tmp_path, "warm_start", value_dtype=tf.bfloat16)
    for key, (row, slots) in learnt["warm_start"].tables["user_table"].items():
        rounded = tf.cast(tf.cast(np.frombuffer(row, np.float32), tf.bfloat16), tf.float32)
        assert state.tables["user_table"][key] == (rounded.numpy().tobytes(), slots)


def test_lists_of_another_length_are_refused_when_the_estimator_is_made() -> None:
    settings = tf.estimator.WarmStartSettings(["a", "b"], [".*", ".*", ".*"])
    with pytest.raises(ValueError, match=r"2 paths, but vars_to_warm_start has 3 elements"):
        NPUEstimator(get_model_fn(create_fs_params, cfg, None), "m", warm_start_from=settings)


def test_a_variable_of_another_type_is_found_before_tables_change(
    learnt: dict[str, State], tmp_path: Path
) -> None:
    del learnt
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("bias", initializer=tf.zeros([], tf.float64))
        session.run(tf.compat.v1.global_variables_initializer())
        doubles = tf.compat.v1.train.Saver().save(session, str(tmp_path / "doubles"))
    settings = tf.estimator.WarmStartSettings(["warm_start", doubles], ["user_table", "bias"])
    with pytest.raises(ValueError, match=r"cannot begin:\n- .*'bias' is of float32, but"):
        begins(tmp_path / "model", settings)


def test_reasons_come_before_training(learnt: dict[str, State], tmp_path: Path) -> None:
    del learnt
    settings = tf.estimator.WarmStartSettings(["warm_start", "nowhere"], [["shop_table"], ".*"])
    with pytest.raises(ValueError, match=r"(?s)'shop_table' matches nothing.*nowhere"):
        begins(tmp_path, settings)
    assert not list(tmp_path.glob("model.ckpt*"))


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_plain_estimator_takes_lists_where_mxrec_alone_is_imported(
    order: str, tmp_path: Path
) -> None:
    program = Path(__file__).parent / "estimator_lists_program.py"
    subprocess.run([sys.executable, program, tmp_path, order], check=True, timeout=120)
