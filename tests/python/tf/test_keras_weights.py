"""get_weights and set_weights of Keras models with tables, and callbacks that rely on them."""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents

import mxrec.tf as mx

K = tf.keras


def model() -> Any:
    """Two layers share a table."""
    ids = K.Input((3,), dtype="int64")
    parts = [
        mx.Embedding("user", 4, optimizer="sgd")(ids),
        mx.Embedding("user", layer_name="again")(ids),
    ]
    made = K.Model(ids, K.layers.Dense(1)(K.layers.Flatten()(K.layers.Concatenate()(parts))))
    made.compile(K.optimizers.SGD(0.3), "mse")
    return made


def data(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 50, (16, 3)), rng.normal(size=(16, 1)).astype("f")


def state(made: Any) -> list[bytes]:
    columns = [*contents(made.layers[1].table), *made.layers[-1].get_weights()]
    return [np.asarray(each).tobytes() for each in columns]


class States(K.callbacks.Callback):  # type: ignore[misc]
    """The model after each epoch, and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, list[bytes]]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append((logs["val_loss"], state(self.model)))


def test_early_stopping_brings_the_best_rows_back(start, seed, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start()
    made = model()
    ids, y = data(seed)
    states = States()
    stopping = K.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    # What is learnt is the opposite of what is evaluated: the first epoch is the best.
    made.fit(ids, y, epochs=9, verbose=0, validation_data=(ids, -y), callbacks=[states, stopping])
    assert len(states.seen) == 3
    best_loss, best = min(states.seen, key=lambda each: each[0])
    assert state(made) == best != states.seen[-1][1]
    assert made.evaluate(ids, -y, verbose=0) == pytest.approx(best_loss, rel=1e-5)
    assert len(list(tmp_path.glob("mxrec-keras-*"))) == 1
    stopping.best_weights = None
    assert not list(tmp_path.glob("mxrec-keras-*"))


def test_early_stopping_copies_no_table_that_it_does_not_restore(
    start, seed, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start()
    made = model()
    ids, y = data(seed)
    made.fit(ids, y, verbose=0, callbacks=[K.callbacks.EarlyStopping("loss")])
    made.get_weights()
    assert not list(tmp_path.glob("mxrec-keras-*"))


def test_weights_of_other_rows_are_refused(start, seed):
    start()
    made = model()
    ids, y = data(seed)
    made.fit(ids, y, verbose=0)
    weights = made.get_weights()
    made.set_weights(weights)  # the rows are those of get_weights
    made.fit(ids, y, verbose=0)
    before = state(made)
    for each in (weights, copy.deepcopy(weights), [array.copy() for array in weights]):
        with pytest.raises(ValueError, match=r"table 'user' are not those .*save_weights"):
            made.set_weights(each)
        with pytest.raises(ValueError, match="table 'user' are not those"):
            made.layers[1].set_weights(each[:1])
        assert state(made) == before
    made.layers[-1].set_weights(weights[-2:])  # dense alone
    assert state(made)[-2:] != before[-2:]


def test_weights_that_say_nothing_of_rows_are_warned_of(start, seed, caplog):
    start()
    made = model()
    ids, y = data(seed)
    made.fit(ids, y, verbose=0)
    halves = [weights * 0.5 for weights in made.get_weights()]
    with caplog.at_level("WARNING"):
        made.set_weights(halves)
    assert "table 'user' does not say which rows it goes with" in caplog.text
    np.testing.assert_array_equal(made.layers[-1].get_weights()[0], halves[-2])


def test_a_model_without_tables_is_as_before(start):
    start()
    model()  # the calls are wrapped now
    plain = K.Sequential([K.Input((2,)), K.layers.Dense(1)])
    weights = [array + 1 for array in plain.get_weights()]
    plain.set_weights(weights)
    for mine, theirs in zip(plain.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="weight"):
        plain.set_weights(weights[:1])
