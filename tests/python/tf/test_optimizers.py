"""Every optimizer factory: arguments, parity with TensorFlow's optimizers, one update per step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt

v1 = tf.compat.v1
KEYS, DIM, BATCH, STEPS = 40, 3, 32, 200


def assert_close(found, wanted):
    """Each value is within 1e-5: absolute up to 1, relative above."""
    assert found.shape == wanted.shape
    errors = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    assert errors.max(initial=0.0) <= 1e-5, errors.max()


class ReferenceLazyAdam:
    """Adam on the rows seen in a step, with the powers of all steps, in float64."""

    def __init__(self, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.hyper = learning_rate, beta1, beta2, epsilon
        self.m = np.zeros((KEYS, DIM))
        self.v = np.zeros((KEYS, DIM))
        self.step = 0

    def apply(self, rows, keys, grads):
        rate, beta1, beta2, epsilon = self.hyper
        self.step += 1
        rate *= np.sqrt(1 - beta2**self.step) / (1 - beta1**self.step)
        self.m[keys] = beta1 * self.m[keys] + (1 - beta1) * grads
        self.v[keys] = beta2 * self.v[keys] + (1 - beta2) * grads**2
        rows[keys] -= rate * self.m[keys] / (np.sqrt(self.v[keys]) + epsilon)

    def slots(self):
        return [self.m, self.v]


class ReferenceSgd:
    """Gradient descent with weight decay, in float64."""

    def __init__(self, learning_rate, decay):
        self.learning_rate, self.decay = learning_rate, decay

    def apply(self, rows, keys, grads):
        rows[keys] -= self.learning_rate * (grads + self.decay * rows[keys])

    def slots(self):
        return []


def tf_ftrl(**kwargs):
    return lambda: v1.train.FtrlOptimizer(0.1, **kwargs)


FTRL = {
    "learning_rate_power": -0.6,
    "initial_accumulator_value": 0.2,
    "l1_regularization_strength": 0.01,
    "l2_regularization_strength": 0.02,
}
CASES = {
    "sgd": (
        lambda: opt.gradient_descent.create_hash_optimizer(0.1),
        lambda: v1.train.GradientDescentOptimizer(0.1),
    ),
    "sgd_decay": (
        lambda: opt.gradient_descent.create_hash_optimizer(0.1, weight_decay=0.01),
        lambda: ReferenceSgd(0.1, 0.01),
    ),
    "sgd_by_addr": (
        lambda: opt.gradient_descent_by_addr.create_hash_optimizer_by_addr(0.1),
        lambda: ReferenceSgd(0.1, 0.0001),
    ),
    "momentum": (
        lambda: opt.momentum.create_hash_optimizer(0.05, 0.9),
        lambda: v1.train.MomentumOptimizer(0.05, 0.9),
    ),
    "nesterov": (
        lambda: opt.momentum.create_hash_optimizer(0.05, 0.9, use_nesterov=True),
        lambda: v1.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
    ),
    "adagrad": (
        lambda: opt.adagrad.create_hash_optimizer(0.1, 0.1),
        lambda: v1.train.AdagradOptimizer(0.1, 0.1),
    ),
    "adagrad_by_addr": (
        lambda: opt.adagrad_by_addr.create_hash_optimizer_by_address(0.1),
        lambda: v1.train.AdagradOptimizer(0.1, 0.9),
    ),
    "ftrl": (lambda: opt.ftrl.create_hash_optimizer(0.1), tf_ftrl()),
    "ftrl_all": (lambda: opt.ftrl.create_hash_optimizer(0.1, **FTRL), tf_ftrl(**FTRL)),
    "ftrl_shrinkage": (
        lambda: opt.ftrl.create_hash_optimizer(0.1, l2_shrinkage_regularization_strength=0.05),
        tf_ftrl(l2_shrinkage_regularization_strength=0.05),
    ),
    "lazy_adam": (
        lambda: opt.lazy_adam.create_hash_optimizer(0.01),
        lambda: ReferenceLazyAdam(0.01),
    ),
    "lazy_adam_by_addr": (
        lambda: opt.lazy_adam_by_addr.create_hash_optimizer_by_address(0.01, 0.8, 0.99, 1e-6),
        lambda: ReferenceLazyAdam(0.01, 0.8, 0.99, 1e-6),
    ),
}


SLOTS = {"SGD": [], "Momentum": ["momentum"], "Adagrad": ["accumulator"]}
SLOTS["Ftrl"] = ["accum", "linear"]


def reference_rows(reference, initial, batches, kind):
    """Rows and slots after the steps, by TensorFlow on a static variable or by NumPy."""
    if not isinstance(reference, v1.train.Optimizer):
        rows = initial.astype(np.float64)
        for ids, grads in batches:
            keys, inverse = np.unique(ids, return_inverse=True)
            sums = np.zeros((len(keys), DIM))
            np.add.at(sums, inverse, grads)
            reference.apply(rows, keys, sums)
        return np.hstack([rows, *reference.slots()])
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("static", initializer=initial)
        ids = v1.placeholder(tf.int64, [None])
        grads = v1.placeholder(tf.float32, [None, DIM])
        step = reference.minimize(
            tf.reduce_sum(tf.nn.embedding_lookup(variable, ids) * grads), var_list=[variable]
        )
        session.run(v1.global_variables_initializer())
        for batch in batches:
            session.run(step, dict(zip((ids, grads), batch, strict=True)))
        slots = [reference.get_slot(variable, name) for name in SLOTS[kind]]
        return np.hstack(session.run([variable, *slots]))


def make(name="t", **kwargs):
    return mx.create_table(
        tf.int64, DIM, name, v1.zeros_initializer(), device_vocabulary_size=1000, **kwargs
    )


def random_batches(rng):
    return [
        (
            rng.integers(0, KEYS, BATCH),
            rng.normal(size=(BATCH, DIM)).astype(np.float32),
        )
        for _ in range(STEPS)
    ]


@pytest.mark.parametrize("mode", ["session", "addresses", "keys", "function"])
@pytest.mark.parametrize("case", CASES)
def test_parity(start, rng, case, mode):
    factory, reference = CASES[case]
    start(use_dynamic_expansion=mode in ("addresses", "keys"))
    initial = rng.normal(size=(KEYS, DIM)).astype(np.float32)
    batches = random_batches(rng)
    with tf.Graph().as_default():
        kind = factory().options.kind
        expected = reference_rows(reference(), initial, batches, kind)
    if mode == "function":
        table = run_function(factory, initial, batches)
    else:
        table = run_session(factory, initial, batches, mode)
    assert_close(rows_and_slots(table), expected)


def rows_and_slots(table):
    _, keys, values, slots, *_ = table.engine.scan((0, 0), 10 * KEYS)
    return np.hstack([values, slots])[np.argsort(keys)]


def run_session(factory, initial, batches, mode):
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        table.engine.assign(np.arange(KEYS), initial)
        ids = v1.placeholder(tf.int64, [None])
        grads = v1.placeholder(tf.float32, [None, DIM])
        loss = tf.reduce_sum(mx.sparse_lookup(table, ids) * grads)
        if mode == "session":
            targets = sources = mx.get_dense_and_sparse_variable()[1]
        else:
            kind = "ID_OFFSET" if mode == "addresses" else "UNIQUE_KEYS"
            sources = v1.get_collection(mx.ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
            targets = v1.get_collection(getattr(mx, f"ASCEND_SPARSE_LOOKUP_{kind}"))
        step = factory().apply_gradients(zip(tf.gradients(loss, sources), targets, strict=True))
        for batch in batches:
            session.run(step, dict(zip((ids, grads), batch, strict=True)))
    return table


def run_function(factory, initial, batches):
    table = make()
    table.engine.assign(np.arange(KEYS), initial)
    optimizer = factory()

    @tf.function
    def step(ids, grads):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(mx.sparse_lookup(table, ids) * grads)
        sparse = mx.get_dense_and_sparse_variable()[1]
        optimizer.apply_gradients(zip(tape.gradient(loss, sparse), sparse, strict=True))

    for ids, grads in batches:
        step(tf.constant(ids), tf.constant(grads))
    return table


@pytest.mark.parametrize(
    ("make_optimizer", "text"),
    [
        (lambda: opt.gradient_descent.create_hash_optimizer(-0.1), "learning_rate"),
        (lambda: opt.gradient_descent.create_hash_optimizer(10.1), r"learning_rate .* \[0, 10\]"),
        (lambda: opt.gradient_descent.create_hash_optimizer(float("nan")), "learning_rate"),
        (lambda: opt.gradient_descent.create_hash_optimizer(0.1, weight_decay=0.1), "weight_decay"),
        (lambda: opt.gradient_descent.create_hash_optimizer(0.1, weight_decay=0.0), "weight_decay"),
        (
            lambda: opt.gradient_descent_by_addr.create_hash_optimizer_by_addr(0.1, 1.5),
            "weight_decay",
        ),
        (lambda: opt.lazy_adam.create_hash_optimizer(beta1=0.0), r"beta1 must be in \(0, 1\)"),
        (lambda: opt.lazy_adam.create_hash_optimizer(beta1=1.0), "beta1"),
        (lambda: opt.lazy_adam.create_hash_optimizer(beta2=1.1), r"beta2 must be in \[0, 1\]"),
        (lambda: opt.lazy_adam.create_hash_optimizer(epsilon=0.0), r"epsilon must be in \(0, 1\]"),
        (
            lambda: opt.adagrad.create_hash_optimizer(initial_accumulator_value=0.0),
            "initial_accumulator_value",
        ),
        (
            lambda: opt.ftrl.create_hash_optimizer(0.1, learning_rate_power=0.1),
            "learning_rate_power",
        ),
        (
            lambda: opt.ftrl.create_hash_optimizer(0.1, l1_regularization_strength=-1.0),
            "l1_regularization_strength",
        ),
        (lambda: opt.momentum.create_hash_optimizer(0.1, 1.5), "momentum"),
    ],
)
def test_values_out_of_range(start, make_optimizer, text):
    start()
    with pytest.raises(ValueError, match=text):
        make_optimizer()


def test_wrong_types(start):
    start()
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        opt.adagrad.create_hash_optimizer("fast")
    with pytest.raises(TypeError, match="use_nesterov"):
        opt.momentum.create_hash_optimizer(0.1, 0.9, use_nesterov=1)
    with pytest.raises(TypeError, match="use_locking"):
        opt.gradient_descent.create_hash_optimizer(0.1, use_locking="no")
    with pytest.raises(TypeError, match="unknown arguments: l3"):
        opt.ftrl.create_hash_optimizer(0.1, l3=0.1)
    with pytest.raises(TypeError, match="name"):
        opt.adagrad.create_hash_optimizer(0.1, name=3)


def one_step(optimizer, table, global_step=None):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(mx.sparse_lookup(table, [1, 1, 2]))
    sparse = [table.nodes().proxy]
    optimizer.apply_gradients(zip(tape.gradient(value, sparse), sparse, strict=True), global_step)


@pytest.mark.parametrize(
    "rate",
    [
        lambda: tf.constant(0.5),
        lambda: tf.Variable(0.5),
        lambda: lambda: 0.5,
        lambda: tf.keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.5, 0.1]),
    ],
)
def test_learning_rates(start, rate):
    start()
    table = make()
    step = tf.Variable(0, dtype=tf.int64)
    one_step(opt.gradient_descent.create_hash_optimizer(rate()), table, global_step=step)
    np.testing.assert_array_equal(
        table.engine.lookup(np.array([1, 2]), train=False)[:, 0], [-1, -0.5]
    )
    assert step.numpy() == 1


def test_learning_rate_tensor_changes_in_a_session(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        rate = v1.placeholder(tf.float32, [])
        global_step = v1.train.get_or_create_global_step()
        train_op = opt.gradient_descent.create_hash_optimizer(rate).minimize(
            tf.reduce_sum(mx.sparse_lookup(table, [1])), global_step
        )
        session.run(v1.global_variables_initializer())
        session.run(train_op, {rate: 0.5})
        session.run(train_op, {rate: 0.25})
        assert session.run(global_step) == 2
    assert table.engine.lookup(np.array([1]), train=False)[0, 0] == -0.75


def test_many_lookups_of_one_table_are_one_update_per_key(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        tables = make("a"), make("b")
        loss = tf.zeros([])
        for i in range(128):
            loss += tf.reduce_sum(mx.sparse_lookup(tables[0], [7, i]))
        loss += tf.reduce_sum(mx.sparse_lookup(tables[1], [7]))
        optimizer = opt.adagrad.create_hash_optimizer(1.0, 1.0)
        train_op = optimizer.minimize(loss)
        ops = [op.type for op in v1.get_default_graph().get_operations()]
        assert [op for op in ops if "Apply" in op] == ["MxrecGroupedApplyAddresses"]
        session.run(train_op)
    gradient = 129.0
    expected = -gradient / np.sqrt(1 + gradient**2)
    rows = tables[0].engine.lookup(np.array([7, 8]), train=False)
    np.testing.assert_allclose(rows[0], expected, rtol=1e-6)
    np.testing.assert_allclose(rows[1], -1 / np.sqrt(2), rtol=1e-6)
    assert tables[0].engine.optimizer_step == 1


def test_padding_keys_are_not_updated(start):
    start()
    table = make(padding_keys=[1])
    other = make("u", padding_keys=[1], padding_keys_mask=False)
    optimizer = opt.gradient_descent.create_hash_optimizer(1.0)
    one_step(optimizer, table)
    one_step(optimizer, other)
    assert table.engine.lookup(np.array([1, 2]), train=False)[:, 0].tolist() == [0, -1]
    assert other.engine.lookup(np.array([1, 2]), train=False)[:, 0].tolist() == [-2, -1]


def test_none_gradients_and_foreign_variables(start, caplog):
    start()
    table = make()
    optimizer = opt.gradient_descent.create_hash_optimizer(1.0)
    proxy = table.nodes().proxy
    step = tf.Variable(0)
    optimizer.apply_gradients([(None, proxy)], global_step=step)
    assert step.numpy() == 1 and "no gradient" in caplog.text
    with pytest.raises(TypeError, match="no sparse variable"):
        optimizer.apply_gradients([(tf.ones([2]), tf.Variable([1.0, 2.0]))])
    with pytest.raises(TypeError, match="IndexedSlices"):
        optimizer.apply_gradients([(tf.ones([2, DIM]), proxy)])
    with pytest.raises(TypeError, match="grads_and_vars must pair"):
        optimizer.apply_gradients([(tf.ones([2, DIM]), tf.ones([2]))])


@pytest.mark.parametrize("shape", [(), (2 * DIM,), (1, 2 * DIM), (2, DIM + 1), (DIM, 2)])
def test_gradients_of_another_width_are_refused(start, shape):
    start()
    table = make()
    optimizer = opt.gradient_descent.create_hash_optimizer(1.0)
    proxy = table.nodes().proxy
    slices = tf.IndexedSlices(tf.ones(shape), tf.constant([0, 0], tf.int64))
    with pytest.raises(ValueError, match=rf"table 't' has the shape .*must be .* dim, {DIM}"):
        optimizer.apply_gradients([(slices, proxy)])


def test_another_kind_of_optimizer_is_refused(start):
    start()
    table = make()
    one_step(opt.adagrad.create_hash_optimizer(0.1), table)
    one_step(opt.adagrad.create_hash_optimizer(0.2), table)
    with pytest.raises(RuntimeError, match="Adagrad"):
        one_step(opt.lazy_adam.create_hash_optimizer(0.1), table)


def test_one_graph_has_one_set_of_hyperparameters_per_table(start):
    start()
    with tf.Graph().as_default():
        table = make()
        loss = tf.reduce_sum(mx.sparse_lookup(table, [1]))
        opt.adagrad.create_hash_optimizer(0.1, 0.1).minimize(loss)
        opt.adagrad.create_hash_optimizer(0.2, 0.1).minimize(loss)
        with pytest.raises(ValueError, match=r"Table 't'.*0\.1.*0\.5.*only learning rates"):
            opt.adagrad.create_hash_optimizer(0.1, 0.5).minimize(loss)
        with pytest.raises(ValueError, match=r"Table 't'.*Adagrad.*SGD"):
            opt.gradient_descent.create_hash_optimizer(0.1).minimize(loss)
        assert "0.5" not in repr(table.engine.optimizer)


def test_an_eager_update_does_not_change_the_hyperparameters_of_a_function(start):
    start()
    table = make()
    one_step(opt.adagrad.create_hash_optimizer(0.1, 0.5), table)
    tf.function(lambda: one_step(opt.adagrad.create_hash_optimizer(0.1, 0.1), table))()
    one_step(opt.adagrad.create_hash_optimizer(0.3, 0.1), table)
    with pytest.raises(ValueError, match="only learning rates"):
        one_step(opt.adagrad.create_hash_optimizer(0.1, 0.5), table)


def test_another_learning_rate_keeps_the_slots(start):
    start()
    table = make()
    one_step(opt.adagrad.create_hash_optimizer(0.1, 0.1), table)
    bound = table.engine.optimizer
    one_step(opt.adagrad.create_hash_optimizer(0.2, 0.1), table)
    assert table.engine.optimizer == bound
    slots = rows_and_slots(table)[:, DIM:]
    np.testing.assert_allclose(slots, [[8.1] * DIM, [2.1] * DIM], rtol=1e-6)


def test_the_learning_rate_is_scaled_as_that_of_adam(start):
    """Programs with a loss scale divide ``_lr`` by it before they apply gradients."""
    start()
    table = mx.create_table(tf.int64, 2, "t", tf.zeros_initializer(), 10)
    for rate in (0.5, tf.constant(0.5), tf.Variable(0.5), lambda: 0.5):
        optimizer = opt.gradient_descent.create_hash_optimizer(rate)
        before = table.engine.lookup(np.array([2]), train=False)
        optimizer._lr = optimizer._lr / 4.0
        one_step(optimizer, table)
        moved = table.engine.lookup(np.array([2]), train=False) - before
        np.testing.assert_array_equal(moved, [[-0.125, -0.125]])
    with pytest.raises(ValueError, match=r"learning_rate must be in \[0, 10\]"):
        optimizer._lr = 11.0
    for module in (opt.adagrad, opt.lazy_adam, opt.ftrl):
        assert module.create_hash_optimizer(0.25)._lr == 0.25


@pytest.mark.parametrize("wrong", [[1, 2], 5, tf.zeros([2, 2]), [(tf.zeros([1, 2]),)]])
def test_what_is_no_pair_is_refused(start, wrong):
    start()
    with pytest.raises(TypeError, match="grads_and_vars must be pairs of a gradient and a sparse"):
        opt.gradient_descent.create_hash_optimizer(0.1).apply_gradients(wrong)
