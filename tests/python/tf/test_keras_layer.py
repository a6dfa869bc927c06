"""mxrec.tf.Embedding: what it computes, how it trains, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_runs import contents

import mxrec
import mxrec.tf as mx

v1 = tf.compat.v1
opt = mx.optimizers
K = tf.keras
INITIALIZER = "uniform"

OPTIMIZERS = {
    "sgd": lambda: opt.gradient_descent.create_hash_optimizer(0.1),
    "momentum": lambda: opt.momentum.create_hash_optimizer(0.1, 0.9),
    "adagrad": lambda: opt.adagrad.create_hash_optimizer(0.1, 0.1),
    "lazy_adam": lambda: opt.lazy_adam.create_hash_optimizer(0.1),
    "ftrl": lambda: opt.ftrl.create_hash_optimizer(0.1),
}


def total_square(y: Any, predicted: Any) -> Any:
    """A loss whose gradient is the same whatever Keras averages over: a scalar."""
    return tf.reduce_sum(tf.square(predicted - y))


def batches(seed: int, count: int = 6) -> list[tuple[Any, Any, Any, Any]]:
    """(ids [8, 3], lengths [8], ragged values, y [8, 1]); keys repeat in and over batches."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        lengths = rng.integers(0, 4, 8)
        values = rng.integers(-20, 20, lengths.sum())
        made.append(
            (rng.integers(-9, 30, (8, 3)), lengths, values, rng.normal(size=(8, 1)).astype("f"))
        )
    return made


def features(batch: Any) -> dict[str, Any]:
    ids, lengths, values, _ = batch
    return {"ids": ids, "bag": tf.RaggedTensor.from_row_lengths(values, lengths)}


class Model(K.Model):  # type: ignore[misc]
    """Two layers share a table, a third combines bags of another."""

    def __init__(self, optimizer: Any, kernel: Any) -> None:
        super().__init__()
        self.first = mx.Embedding("user", 4, optimizer=optimizer, initializer=INITIALIZER)
        self.second = mx.Embedding("user", layer_name="again")
        self.bags = mx.Embedding(
            "item", 5, optimizer=optimizer, initializer=INITIALIZER, combiner="mean"
        )
        self.dense = K.layers.Dense(
            1, use_bias=False, kernel_initializer=K.initializers.Constant(kernel)
        )

    def call(self, inputs: Any, training: Any = None) -> Any:
        ids = inputs["ids"]
        one = tf.reshape(self.first(ids, training=training), [-1, 12])
        two = self.second(ids[:, 0], training=training)
        return self.dense(
            tf.concat([one, two, self.bags(inputs["bag"], training=training)], axis=1)
        )


def kernel() -> Any:
    return np.linspace(-1, 1, 21, dtype="f")[:, None]


def train_graph(start: Any, name: str, data: Any) -> tuple[list[Any], Any]:
    """The same model in a Session; the tables' contents, and the dense weights."""
    start(use_dynamic_expansion=True)
    with tf.Graph().as_default():
        initializer = K.initializers.get(INITIALIZER)
        user = mx.create_table(tf.int64, 4, "user", initializer)
        item = mx.create_table(tf.int64, 5, "item", initializer)
        ids = v1.placeholder(tf.int64, [None, 3])
        lengths = v1.placeholder(tf.int64, [None])
        values = v1.placeholder(tf.int64, [None])
        y = v1.placeholder(tf.float32, [None, 1])
        weights = v1.get_variable("w", initializer=kernel())
        bag = tf.RaggedTensor.from_row_lengths(values, lengths)
        rows = [
            tf.reshape(mx.sparse_lookup(user, ids), [-1, 12]),
            mx.sparse_lookup(user, ids[:, 0]),
            mx.sparse_lookup(item, bag, combiner="mean"),
        ]
        loss = total_square(y, tf.matmul(tf.concat(rows, axis=1), weights))
        step = tf.group(
            v1.train.GradientDescentOptimizer(0.01).minimize(loss, var_list=[weights]),
            OPTIMIZERS[name]().minimize(loss),
        )
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for batch in data:
                feed = zip((ids, lengths, values, y), batch, strict=True)
                session.run(step, dict(feed))
            return [contents(user), contents(item)], session.run(weights)


def fit(model: Any, data: Any) -> None:
    model.compile(K.optimizers.SGD(0.01), loss=total_square)
    for batch in data:
        steps = tf.data.Dataset.from_tensors((features(batch), batch[3]))
        model.fit(steps, verbose=0)


def loop(model: Any, data: Any) -> None:
    dense = K.optimizers.SGD(0.01)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = total_square(y, model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        dense.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    model(features(data[0]), training=False)
    dense.build(model.trainable_variables)
    for batch in data:
        step(features(batch), batch[3])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("train", [fit, loop])
def test_training_is_that_of_the_graph_bit_for_bit(start, seed, name, train):
    data = batches(seed)
    wanted, wanted_weights = train_graph(start, name, data)
    start()
    model = Model(OPTIMIZERS[name](), kernel())
    train(model, data)
    found = [contents(layer.table) for layer in (model.first, model.bags)]
    for mine, theirs in zip(found, wanted, strict=True):
        for column, other in zip(mine, theirs, strict=True):
            assert column.tobytes() == other.tobytes()
    assert model.dense.get_weights()[0].tobytes() == wanted_weights.tobytes()
    assert model.first.table.stats()["optimizer_step"] == len(data)


def functional(**options: Any) -> Any:
    ids = K.Input((3,), dtype="int64")
    rows = mx.Embedding("user", 4, **{"optimizer": "adagrad", **options})(ids)
    assert tuple(rows.shape) == (None, 3, 4)
    return K.Model(ids, K.layers.Dense(1)(K.layers.Flatten()(rows)))


def table_of(model: Any) -> Any:
    (layer,) = (each for each in model.layers if isinstance(each, mx.Embedding))
    return layer.table


def data(seed: int, rows: int = 32) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 50, (rows, 3)), rng.normal(size=(rows, 1)).astype("f")


def test_fit_learns_and_evaluation_inserts_nothing(start, seed):
    start()
    ids, y = data(seed)
    model = functional(serving_default_value=0.5)
    model.compile("adam", "mse")
    losses = model.fit(ids, y, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    table = table_of(model)
    before = contents(table)
    assert list(before[0]) == sorted(set(ids.ravel()))
    model.evaluate(ids + 1000, y, verbose=0)
    model.predict(ids + 1000, verbose=0)
    model(ids + 1000)
    rows = model.layers[1](tf.constant([[10**9]], tf.int64))
    np.testing.assert_array_equal(rows, np.full((1, 1, 4), 0.5))
    for mine, theirs in zip(contents(table), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_frozen_layer_does_not_change(start, seed):
    start()
    ids, y = data(seed)
    model = functional(trainable=False)
    model.compile("sgd", "mse")
    model.fit(ids, y, verbose=0)
    assert table_of(model).size() == 0
    assert len(model.trainable_variables) == 2


def test_freezing_one_of_two_layers_that_share_a_table(start):
    start()
    one = mx.Embedding("t", 1, optimizer=mxrec.SGD(1.0), initializer="zeros")
    two = mx.Embedding("t", layer_name="two")
    two.trainable = False
    dense = K.optimizers.SGD(1.0)
    ids = tf.constant([7], tf.int64)
    for wanted, trainable in [(-1.0, False), (-3.0, True)]:
        two.trainable = trainable
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(one(ids, training=True)) + tf.reduce_sum(two(ids, training=True))
        variables = one.trainable_variables + two.trainable_variables
        variables = list({id(variable): variable for variable in variables}.values())
        if trainable:
            dense = K.optimizers.SGD(1.0)
        dense.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        assert float(one(ids)[0, 0]) == wanted


def test_several_steps_in_one_execution(start, seed):
    start()
    ids, y = data(seed)
    model = functional()
    model.compile("sgd", "mse", steps_per_execution=3)
    model.fit(ids, y, batch_size=4, verbose=0)
    assert table_of(model).stats()["optimizer_step"] == 8
    assert int(model.optimizer.iterations) == 8


def test_only_embeddings(start, seed):
    """Nothing is left for the dense optimizer, which still counts the steps."""
    start()
    ids, y = data(seed)
    inputs = K.Input((3,), dtype="int64")
    model = K.Model(inputs, mx.Embedding("user", 1, optimizer="sgd")(inputs))
    model.compile("sgd", loss=lambda y, rows: tf.reduce_sum(rows))
    model.fit(ids, y, batch_size=8, verbose=0)
    assert int(model.optimizer.iterations) == 4
    assert table_of(model).stats()["optimizer_step"] == 4


def test_a_schedule_counts_the_steps_of_the_dense_optimizer(start):
    start()
    rates = [0.5, 0.25]
    schedule = K.optimizers.schedules.PiecewiseConstantDecay([0], rates)
    layer = mx.Embedding(
        "t", 1, optimizer=opt.gradient_descent.create_hash_optimizer(schedule), initializer="zeros"
    )
    dense = K.optimizers.SGD(1.0)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(tf.constant([7], tf.int64), training=True))
        variables = layer.trainable_variables
        dense.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    wanted = 0.0
    for number in range(3):
        step()
        wanted -= rates[min(number, 1)]
        assert float(layer(tf.constant([7], tf.int64))[0, 0]) == wanted


def test_loss_scales_are_taken_out(start):
    start()
    layer = mx.Embedding("t", 1, optimizer=mxrec.SGD(0.5), initializer="zeros")
    dense = K.mixed_precision.LossScaleOptimizer(K.optimizers.SGD(1.0))
    weight = tf.Variable(1.0)
    dense.build([weight, *layer.trainable_variables])

    @tf.function
    def step(factor: Any) -> None:
        variables = [weight, *layer.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(tf.constant([7], tf.int64), training=True)) * factor
            loss += weight * factor
            scale = getattr(dense, "scale_loss", None) or dense.get_scaled_loss
            loss = scale(loss)
        gradients = tape.gradient(loss, variables)
        if hasattr(dense, "get_unscaled_gradients"):
            gradients = dense.get_unscaled_gradients(gradients)
        dense.apply_gradients(zip(gradients, variables, strict=True))

    step(tf.constant(2.0))
    assert float(layer(tf.constant([7], tf.int64))[0, 0]) == -1.0
    assert float(weight) == -1.0
    step(tf.constant(float("inf")))  # a step that is not finite is dropped, for tables as well
    assert float(layer(tf.constant([7], tf.int64))[0, 0]) == -1.0
    assert float(weight) == -1.0


def test_kinds_of_ids(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd", combiner="sum")
    one = mx.Embedding("t", layer_name="each")
    ids = [[3, 5, 5], [7, 3, 9]]
    rows = one(tf.constant(ids, tf.int64), training=True).numpy()
    assert rows.shape == (2, 3, 2)
    wanted = (rows[:, 0] + rows[:, 1]) + rows[:, 2]
    ragged = tf.RaggedTensor.from_tensor(tf.constant(ids, tf.int64))
    np.testing.assert_array_equal(layer(ragged), wanted)
    np.testing.assert_array_equal(layer(tf.sparse.from_dense(ids)), wanted)
    np.testing.assert_array_equal(layer(tf.constant(ids)), wanted)
    np.testing.assert_array_equal(one(ragged).to_tensor(), rows)
    weights = tf.RaggedTensor.from_tensor(tf.constant([[1.0, 0, 0], [0, 0, 2.0]]))
    weighted = layer(ragged, sp_weights=weights)
    np.testing.assert_array_equal(weighted, [rows[0, 0], 2 * rows[1, 2]])
    with pytest.raises(ValueError, match="sp_weights need a combiner"):
        one(ragged, sp_weights=weights)


def test_functional_models_of_sparse_and_ragged_inputs(start):
    start()
    inputs = K.Input((None,), dtype="int64", sparse=True)
    pooled = mx.Embedding("t", 2, optimizer="sgd", combiner="mean")(inputs)
    model = K.Model(inputs, pooled)
    ids = tf.sparse.from_dense(tf.constant([[3, 0, 0], [7, 3, 9]], tf.int64))
    trained = model(ids, training=True)
    np.testing.assert_array_equal(model(ids), trained)
    assert model.layers[1].table.size() == 3


def test_names_of_layers(start):
    start()
    K.backend.clear_session()  # numbers of names start again
    inputs = K.Input((), dtype="int64", name="_.user")
    layers = [mx.Embedding("_.user", 2), mx.Embedding("_.user"), mx.Embedding("_.user")]
    names = ["embedding__.user", "embedding__.user_1", "embedding__.user_2"]
    assert [layer.name for layer in layers] == names
    model = K.Model(inputs, K.layers.Add()([layer(inputs) for layer in layers]))
    assert model(tf.constant([1], tf.int64), training=True).shape == [1, 2]
    assert mx.Embedding("_.user", layer_name="own").name == "own"


def test_masks(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd", mask_zero=True)
    mask = layer.compute_mask(tf.constant([[0, 4]]))
    np.testing.assert_array_equal(mask, [[False, True]])
    assert mx.Embedding("t", layer_name="no").compute_mask(tf.constant([0])) is None


def test_admission_and_table_options(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd", access_threshold=2, value_dtype=tf.float16)
    ids = tf.constant([1, 2, 2], tf.int64)
    layer(ids, training=True)
    assert layer.table.size() == 1
    assert layer.table.stats()["value_dtype"] == "float16"
    assert layer.get_config()["value_dtype"] == "float16"
    bounded = mx.Embedding("b", 2, optimizer="sgd", device_vocabulary_size=2)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="'b'"):
        bounded(tf.constant([1, 2, 3], tf.int64), training=True)


def test_training_may_be_a_tensor(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd")
    call = tf.function(lambda training: layer(tf.constant([1], tf.int64), training=training))
    call(tf.constant(False))
    assert layer.table.size() == 0
    call(tf.constant(True))
    assert layer.table.size() == 1


def test_half_precision_layers(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd", dtype="mixed_float16")
    assert layer(tf.constant([1], tf.int64), training=True).dtype == tf.float16


def test_without_init(start):
    mx.terminate_config_initializer()
    layer = mx.Embedding("t", 2, optimizer="sgd")
    layer(tf.constant([1], tf.int64), training=True)
    assert layer.table.size() == 1


def test_config(start):
    start()
    schedule = K.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    layer = mx.Embedding(
        "t",
        3,
        optimizer=opt.adagrad.create_hash_optimizer(schedule, 0.2),
        initializer=K.initializers.RandomNormal(stddev=0.2, seed=3),
        combiner="sqrtn",
        serving_default_value=np.float32(1.5),
        eviction_threshold=100,
        padding_keys=[0, 4],
    )
    config = layer.get_config()
    same = mx.Embedding.from_config(config)
    assert same.table is layer.table and same.get_config() == config
    spec, trainer = layer.table.spec, layer.table.trainer
    mx.terminate_config_initializer()
    mx.init()
    other = mx.Embedding.from_config(config)
    assert spec.difference(other.table.spec) is None
    assert other.table.trainer.options == trainer.options
    assert other.table.trainer.learning_rate.get_config() == schedule.get_config()
    tensor = opt.adagrad.create_hash_optimizer(tf.Variable(0.1))
    with pytest.raises(ValueError, match="a configuration cannot hold"):
        mx.Embedding("u", 3, optimizer=tensor).get_config()


def test_other_options_of_a_table_that_is_there_are_refused(start):
    start()
    mx.Embedding("t", 3, optimizer="sgd")
    mx.Embedding("t", 3, optimizer="sgd", layer_name="same")
    for kwargs, text in [
        ({"dim": 4, "optimizer": "sgd"}, "different options: dim 3 != 4"),
        ({"dim": 3, "optimizer": "sgd", "initializer": "zeros"}, "emb_initializer"),
        ({"dim": 3, "optimizer": "adagrad"}, "another optimizer"),
        ({"dim": 3, "optimizer": mxrec.SGD(0.5)}, "another optimizer"),
        ({"dim": None, "optimizer": "sgd"}, "optimizer is given too"),
    ]:
        with pytest.raises(ValueError, match=text):
            mx.Embedding("t", **kwargs)
    with pytest.raises(ValueError, match="there is no table 'u'"):
        mx.Embedding("u")


def test_rejected_arguments(start):
    start()
    for kwargs, error, text in [
        ({"optimizer": "adam"}, ValueError, "'lazy_adam'"),
        ({"optimizer": K.optimizers.SGD()}, TypeError, "dense optimizers go to model.compile"),
        ({"combiner": "max"}, ValueError, "combiner"),
        ({"combiner": "sum", "mask_zero": True}, ValueError, "mask_zero"),
        ({"access_threshold": -2}, ValueError, "access_threshold"),
        ({"dim": 0}, ValueError, "dim"),
        ({"dim": 2.5}, TypeError, "dim"),
        ({"name": "a b"}, ValueError, "name"),
    ]:
        with pytest.raises(error, match=text):
            mx.Embedding(**{"name": "t", "dim": 2, **kwargs})
    assert mx.tables_of_graph(None) == []


def test_xla_is_refused_by_name(start):
    start()
    layer = mx.Embedding("t", 2, optimizer="sgd")
    compiled = tf.function(lambda: layer(tf.constant([1], tf.int64)), jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile"):
        compiled()
    assert layer.supports_jit is False


def test_fit_with_xla(start, seed):
    start()
    ids, y = data(seed)
    model = functional()
    if hasattr(K, "Operation"):  # Keras 3 turns it off, and says so
        with pytest.warns(UserWarning, match="jit_compile"):
            model.compile("sgd", "mse", jit_compile=True)
            model.fit(ids, y, verbose=0)
        assert table_of(model).size() > 0
    else:
        model.compile("sgd", "mse", jit_compile=True)
        with pytest.raises(ValueError, match="jit_compile"):
            model.fit(ids, y, verbose=0)
        assert table_of(model).size() == 0


@pytest.mark.skipif(not hasattr(K, "Operation"), reason="Keras 2 accumulates no gradients")
def test_accumulated_gradients_are_refused(start, seed):
    start()
    ids, y = data(seed)
    model = functional()
    model.compile(K.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2"):
        model.fit(ids, y, verbose=0)


def test_a_table_without_optimizer_is_refused_by_dense_ones(start):
    start()
    mx.Embedding("t", 1, optimizer="sgd")  # from now on Keras's optimizers know tables
    table = mx.create_table(tf.int64, 2, "other", v1.zeros_initializer(), 10)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mx.sparse_lookup(table, tf.constant([1], tf.int64)))
    proxy = mx.get_dense_and_sparse_variable()[1][-1]
    gradient = tape.gradient(loss, proxy)
    with pytest.raises(ValueError, match=r"'other' has no optimizer.*optimizer=\.\.\."):
        K.optimizers.SGD(0.1).apply_gradients([(gradient, proxy)])


def test_several_replicas_are_refused(start, monkeypatch):
    start()

    class TwoReplicas:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    with pytest.raises(ValueError, match="2 replicas"):
        mx.Embedding("t", 2)
