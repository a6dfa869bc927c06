"""What mxrec.compat's wrappers, hooks and configs do in training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec.compat import (
    config,
    estimator,
    hooks,
    iterations,
    loss_scale,
    npu_init,
    optimizers,
    unary_ops,
)
from mxrec.tf.optimizers import gradient_descent

v1 = tf.compat.v1


@pytest.fixture
def session():
    with tf.Graph().as_default(), v1.Session() as session:
        yield session


# --- Several steps in a run ---------------------------------------------------------------------


def test_a_loop_is_so_many_steps(session):
    counter = v1.get_variable("counter", initializer=0)
    step = v1.assign_add(counter, 1).op
    session.run(v1.global_variables_initializer())
    loop = iterations.set_iteration_per_loop(session, step, 5)
    session.run(step)
    assert session.run(counter) == 1
    session.run(loop)
    assert session.run(counter) == 6
    session.run({"train": [loop], "more": (counter.read_value(),)})
    assert session.run(counter) == 11
    session.run(loop.name)
    assert session.run(counter) == 16
    once = iterations.set_iteration_per_loop(session, step)
    session.run(once)
    assert session.run(counter) == 17


def test_a_loop_under_hooks(session):
    """Hooks see one run; what they fetch is of the last step."""
    global_step = v1.train.get_or_create_global_step()
    step = v1.assign_add(global_step, 1).op
    loop = iterations.set_iteration_per_loop(None, step, 4)
    seen = []
    with tf.control_dependencies([loop]):
        after = tf.identity(global_step.read_value())
    hook = hooks.NPUOutputTensorHook({"step": after}, None, seen.append, 2)
    with v1.train.SingularMonitoredSession([hook]) as monitored:
        for _ in range(3):
            monitored.run(loop)
    assert seen == [[{"step": 4}, {"step": 8}], [{"step": 12}]]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((tf.constant(1.0), 2), TypeError, "train_op must be a tf.Operation"),
        (("op", 2), TypeError, "train_op"),
        ((None, 0), ValueError, r"iterations_per_loop must be in \[1, 2147483647\], got 0"),
        ((None, 1.5), TypeError, "iterations_per_loop must be an int"),
    ],
)
def test_bad_loops(session, arguments, error, text):
    op, steps = arguments
    op = tf.no_op() if op is None else op
    with pytest.raises(error, match=text):
        iterations.set_iteration_per_loop(session, op, steps)
    with pytest.raises(RuntimeError, match="create_iteration_per_loop_var"):
        iterations.IterationPerLoop().load_iteration_per_loop_var(session, 2)


# --- Loss scaling -------------------------------------------------------------------------------


def test_scaled_gradients_are_those_of_the_loss(start, session):
    """A fixed scale changes nothing; steps whose gradients are not finite are left out."""
    start()
    table = mx.create_table(tf.int64, 2, "t", tf.ones_initializer(), device_vocabulary_size=9)
    weight = v1.get_variable("weight", initializer=2.0)
    factor = v1.placeholder(tf.float32, [])
    loss = factor * weight * tf.reduce_sum(mx.sparse_lookup(table, [1, 1]))
    manager = loss_scale.FixedLossScaleManager(1024.0)
    dense = loss_scale.NPULossScaleOptimizer(v1.train.GradientDescentOptimizer(0.125), manager)
    sparse = optimizers.NPUOptimizer(
        gradient_descent.create_hash_optimizer(0.125), manager, is_loss_scale=True
    )
    step = v1.train.get_or_create_global_step()
    pairs = [*dense.compute_gradients(loss, [weight]), (None, weight)]
    train = [
        dense.apply_gradients(pairs, step),
        sparse.apply_gradients(
            sparse.compute_gradients(loss, mx.get_dense_and_sparse_variable()[1])
        ),
    ]
    session.run(v1.global_variables_initializer())
    session.run(train, {factor: 1.0})
    assert session.run([weight, step]) == [1.5, 1]  # 2 - 4 / 8
    row = table.engine.lookup(np.array([1]), train=False)
    np.testing.assert_array_equal(row, [[0.5, 0.5]])  # 1 - 2 * 2 / 8
    session.run(train, {factor: np.inf})
    assert session.run([weight, step]) == [1.5, 1]
    np.testing.assert_array_equal(table.engine.lookup(np.array([1]), train=False), row)


def test_the_scale_grows_and_falls(session):
    manager = loss_scale.ExponentialUpdateLossScaleManager(4.0, 2, 2, 2.0, 0.5)
    finite = v1.placeholder(tf.bool, [])
    update = manager.update_loss_scale(finite)
    session.run(v1.global_variables_initializer())
    scales = []
    for is_finite in (True, True, False, True, True, False, False, False, False, False, False):
        session.run(update, {finite: is_finite})
        scales.append(float(session.run(manager.get_loss_scale())))
    assert scales == [4, 8, 8, 8, 16, 16, 8, 8, 4, 4, 2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: loss_scale.FixedLossScaleManager(0.5), r"loss_scale must be in \[1, "),
        (lambda: loss_scale.ExponentialUpdateLossScaleManager(2.0, 0), "incr_every_n_steps"),
        (lambda: loss_scale.ExponentialUpdateLossScaleManager(2.0, 1, 1, 1.0), "incr_ratio"),
        (lambda: loss_scale.ExponentialUpdateLossScaleManager(2.0, 1, 1, 2.0, 1.0), "decr_ratio"),
        (
            lambda: optimizers.NPUOptimizer(
                v1.train.GradientDescentOptimizer(0.1), is_loss_scale=True
            ),
            "needs loss_scale_manager",
        ),
    ],
)
def test_bad_scales(session, make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_distributed_optimizers_are_the_wrapped_ones(session):
    variable = v1.get_variable("variable", initializer=[1.0])
    adam = optimizers.npu_distributed_optimizer_wrapper(v1.train.AdamOptimizer(0.1))
    assert isinstance(adam, optimizers.NPUDistributedOptimizer)
    step = v1.train.get_or_create_global_step()
    train = adam.minimize(tf.reduce_sum(variable**2), step)
    session.run(v1.global_variables_initializer())
    session.run(train)
    np.testing.assert_allclose(session.run(variable), [0.9], rtol=1e-6)
    assert session.run(step) == 1 and adam.get_slot_names() == ["m", "v"]
    assert adam.get_slot(variable, "m") is not None and len(adam.variables()) == 4
    keras = tf.keras.optimizers.SGD()
    assert optimizers.npu_keras_optimizer(keras) is keras
    with pytest.raises(TypeError, match=r"must be a tf\.compat\.v1\.train\.Optimizer"):
        optimizers.npu_tf_optimizer(keras)


# --- Hooks, configs, operations -----------------------------------------------------------------


def test_hooks():
    hooks.NPUBroadcastGlobalVariablesHook(0, 0)
    with pytest.raises(ValueError, match="root_rank"):
        hooks.NPUBroadcastGlobalVariablesHook(1, 0)
    with pytest.raises(ValueError, match="iterations_per_loop"):
        hooks.SetIterationsVarHook(0)
    with pytest.raises(TypeError, match="NPUOutputTensorHook needs tensors"):
        hooks.NPUOutputTensorHook({}, None, None)


def test_checkpoint_saver_hook_covers_tables(start, tmp_path):
    start()
    with tf.Graph().as_default():
        table = mx.create_table(tf.int64, 2, "t", tf.ones_initializer(), device_vocabulary_size=9)
        step = v1.assign_add(v1.train.get_or_create_global_step(), 1)
        rows = mx.sparse_lookup(table, [1, 2])
        hook = hooks.NPUCheckpointSaverHook(str(tmp_path), save_steps=1)
        with v1.train.SingularMonitoredSession([hook]) as session:
            session.run([step, rows])
    assert (tmp_path / "sparse-model.ckpt-1" / "t").is_dir()


def test_session_configs(session):
    given = v1.ConfigProto(log_device_placement=True)
    made = config.npu_config_proto(config.npu_config_proto(given))
    assert made is given and made.allow_soft_placement and not made.log_device_placement
    assert [o.name for o in made.graph_options.rewrite_options.custom_optimizers] == [
        "NpuOptimizer"
    ]
    with tf.Graph().as_default(), v1.Session(config=made) as configured:
        assert configured.run(tf.constant(3) + 4) == 7
    assert config.npu_graph_options().optimizer_options.global_jit_level == -1
    kept = config.ProfilingConfig(True, profiling_options="trace")
    assert kept.args == (True,) and kept.profiling_options == "trace"


@pytest.mark.skipif(not hasattr(tf, "estimator"), reason="no tf.estimator")
def test_estimator_spec_and_run_config():
    with tf.Graph().as_default():
        loss = tf.constant(1.0)
        spec = estimator.NPUEstimatorSpec("eval", None, loss)
        assert isinstance(spec, tf.estimator.EstimatorSpec) and spec.loss is loss
        with pytest.raises(NotImplementedError, match="host_call"):
            estimator.NPUEstimatorSpec("eval", loss=loss, host_call=(print, [loss]))
    made = config.npu_run_config_init(tf.estimator.RunConfig(keep_checkpoint_max=3))
    assert made.keep_checkpoint_max == 3
    rewrite = made.session_config.graph_options.rewrite_options
    assert rewrite.custom_optimizers[0].name == "NpuOptimizer"


@pytest.mark.skipif(hasattr(tf, "estimator"), reason="has tf.estimator")
def test_estimator_spec_needs_an_older_tensorflow():
    with pytest.raises(ImportError, match=r"2\.15.*Session"):
        estimator.NPUEstimatorSpec("eval")


def test_sessions_of_the_accelerator():
    with tf.Graph().as_default():
        session, shutdown = npu_init.init_resource()
        assert session.run(npu_init.npu_ops.initialize_system()) is None
        npu_init.shutdown_resource(session, shutdown)
        npu_init.close_session(session)
        backend = v1.keras.backend
        if hasattr(backend, "set_session"):
            try:
                made = npu_init.set_keras_session_npu_config()
                assert backend.get_session() is made
            finally:
                backend.set_session(None)
        else:
            with pytest.raises(ImportError, match=r"Keras 2.*2\.15"):
                npu_init.set_keras_session_npu_config()
    assert npu_init.get_npu_rank_size() == 1 and npu_init.get_npu_rank_id() == 0


def test_gelu_is_that_of_tensorflow():
    x = tf.constant([-1.0, 0.5])
    np.testing.assert_array_equal(unary_ops.npu_unary_ops.gelu(x), tf.nn.gelu(x, approximate=True))
