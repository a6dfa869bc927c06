"""create_table: validation, names and graphs, initial values."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx
from mxrec import _mxrec
from mxrec.tf.optimizers import gradient_descent

v1 = tf.compat.v1
ZEROS = tf.zeros_initializer()
SSD = {"host_vocabulary_size": 5, "ssd_vocabulary_size": 5}


def make(name="t", dim=4, initializer=ZEROS, **kwargs):
    return mx.create_table(tf.int64, dim, name, initializer, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"key_dtype": tf.float32}, ValueError, "key_dtype must be tf.int64 or tf.int32"),
        ({"key_dtype": "nonsense"}, TypeError, "key_dtype"),
        ({"dim": 0}, ValueError, r"dim must be in \[1, 8192\], got 0"),
        ({"dim": 8193}, ValueError, "dim"),
        ({"dim": 4.0}, TypeError, "dim must be an int"),
        ({"dim": tf.TensorShape([2, 3])}, ValueError, "dim"),
        ({"name": ""}, ValueError, "name"),
        ({"name": "a/b"}, ValueError, "name"),
        ({"name": ".."}, ValueError, "name"),
        ({"name": "x" * 101}, ValueError, "name"),
        ({"name": 7}, TypeError, "name must be a str"),
        ({"emb_initializer": 1.0}, TypeError, "emb_initializer"),
        ({"device_vocabulary_size": 0}, ValueError, "device_vocabulary_size"),
        ({"device_vocabulary_size": 10**9 + 1}, ValueError, "device_vocabulary_size"),
        ({"host_vocabulary_size": -1}, ValueError, "host_vocabulary_size"),
        ({"ssd_vocabulary_size": 5}, ValueError, "needs host_vocabulary_size > 0"),
        ({"ssd_data_path": "/data"}, TypeError, "ssd_data_path"),
        ({"is_save": 1}, TypeError, "is_save"),
        ({"is_dp": None}, TypeError, "is_dp"),
        ({"init_param": 10.5}, ValueError, r"init_param must be in \[-10, 10\], got 10.5"),
        ({"all2all_gradients_op": "max"}, ValueError, "all2all_gradients_op must be one of"),
        ({"padding_keys": [0.5]}, TypeError, "padding_keys"),
        ({"padding_keys": 2**63}, ValueError, "padding_keys"),
        ({"padding_keys": [1, 2], "padding_keys_len": 3}, ValueError, "padding_keys_len .* 2, got"),
        ({"padding_keys_len": 1}, ValueError, "padding_keys_len .* 0, got 1"),
        ({"value_dtype": tf.int32}, ValueError, "value_dtype"),
        ({"value_dtype": "nonsense"}, TypeError, "value_dtype must be tf.float32, tf.float16"),
        ({"stochastic_rounding": True}, ValueError, "stochastic_rounding=True needs value_dtype"),
        ({"stochastic_rounding": 1}, TypeError, "stochastic_rounding"),
        ({"enable_merge": 1}, TypeError, "enable_merge"),
        ({"admission": "sketchy"}, ValueError, "admission must be one of"),
        ({"admission": None}, (TypeError, ValueError), "admission"),
        ({"admission_keys": 0}, ValueError, r"admission_keys must be in \[1, 68719476736\], got 0"),
        ({"evict_max_rows": 0}, ValueError, r"evict_max_rows must be in \[1, .*\], got 0"),
        ({"evict_max_rows": 1.5}, TypeError, "evict_max_rows"),
        ({"evict_min_l2": 0.0}, ValueError, r"evict_min_l2 .* got 0"),
        ({"evict_min_l2": "x"}, TypeError, "evict_min_l2"),
        ({**SSD, "ssd_data_path": [1]}, TypeError, "ssd_data_path must hold directories"),
        ({**SSD, "ssd_data_path": []}, ValueError, "ssd_data_path is empty"),
        (
            {**SSD, "ssd_data_path": ["/", "/no/where"]},
            FileNotFoundError,
            "ssd_data_path: there is no directory /no/where; make it",
        ),
        (
            {**SSD, "ssd_data_path": [__file__]},
            NotADirectoryError,
            "ssd_data_path: .*test_create_table.py is no directory",
        ),
    ],
)
def test_rejected_arguments(start, kwargs, error, text):
    start()
    arguments = {"key_dtype": tf.int64, "dim": 4, "name": "t", "emb_initializer": ZEROS}
    with pytest.raises(error, match=text):
        mx.create_table(**{**arguments, **kwargs})
    assert mx.registered_tables() == []
    assert mx.create_table(**arguments).table_name == "t"


def test_needs_init(start):
    with pytest.raises(RuntimeError, match="init"):
        make()


def test_properties_and_capacity(start):
    start()
    table = make(dim=tf.TensorShape([6]), device_vocabulary_size=10, host_vocabulary_size=5)
    assert (table.table_name, table.dim, table.size(), table.capacity()) == ("t", 6, 0, 15)
    mx.sparse_lookup(table, tf.range(15))
    assert table.size() == 15
    with pytest.raises(tf.errors.ResourceExhaustedError, match=r"t.*15"):
        mx.sparse_lookup(table, tf.constant([99]))
    assert table.size() == 15


def test_dynamic_expansion_is_unbounded(start, caplog):
    start(use_dynamic_expansion=True)
    table = make(host_vocabulary_size=5, ssd_vocabulary_size=5)
    assert "set to 0" in caplog.text
    assert table.capacity() == 2**63 - 1
    mx.sparse_lookup(table, tf.range(1000))
    assert table.size() == 1000


def test_names_are_unique_per_graph(start):
    start()
    with tf.Graph().as_default():
        first = make(device_vocabulary_size=7)
        with pytest.raises(ValueError, match="taken"):
            make(device_vocabulary_size=7)
    with tf.Graph().as_default() as graph:
        second = make(device_vocabulary_size=7)
        assert second.engine is first.engine or len(mx.registered_tables()) == 1
        assert mx.tables_of_graph(graph) == [second]
    with tf.Graph().as_default(), pytest.raises(ValueError, match="memory_rows 7 != 8"):
        make(device_vocabulary_size=8)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="emb_initializer"):
        make(device_vocabulary_size=7, initializer=tf.ones_initializer())


def test_odd_names_are_valid_ops(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        for name in ("_x", ".y", "1", "a.b_c"):
            table = make(name, device_vocabulary_size=4)
            rows = mx.sparse_lookup(table, tf.constant([1, 2], tf.int64))
            assert session.run(rows).shape == (2, 4)


def test_sparse_variables_stay_out_of_tensorflows_collections(start):
    start()
    with tf.Graph().as_default() as graph:
        table = make()
        v1.get_variable("dense", [2])
        assert [v.op.name for v in v1.trainable_variables()] == ["dense"]
        assert [v.op.name for v in v1.global_variables()] == ["dense"]
        dense, sparse = mx.get_dense_and_sparse_variable()
        assert [v.op.name for v in dense] == ["dense"]
        assert sparse == [table.nodes().proxy]
        assert graph.get_collection(table.collection) == sparse
        v1.train.export_meta_graph()


def lookup(initializer, keys, dim=64, **kwargs):
    table = make(initializer=initializer, dim=dim, device_vocabulary_size=100000, **kwargs)
    return mx.sparse_lookup(table, tf.constant(keys, tf.int64)).numpy()


@pytest.mark.parametrize(
    ("initializer", "low", "high", "mean", "stddev"),
    [
        (v1.zeros_initializer(), 0, 0, 0, 0),
        (tf.keras.initializers.Ones(), 1, 1, 1, 0),
        (tf.ones_initializer, 1, 1, 1, 0),
        (v1.constant_initializer(0.25), 0.25, 0.25, 0.25, 0),
        (tf.keras.initializers.Constant(2), 2, 2, 2, 0),
        (v1.random_uniform_initializer(-1, 3), -1, 3, 1, 4 / 12**0.5),
        (tf.keras.initializers.RandomUniform(-0.5, 0.5), -0.5, 0.5, 0, 1 / 12**0.5),
        (v1.random_normal_initializer(1.0, 0.1), 0.3, 1.7, 1, 0.1),
        (tf.random_normal_initializer(0.0, 0.05), -0.4, 0.4, 0, 0.05),
        (v1.truncated_normal_initializer(stddev=0.1), -0.2, 0.2, 0, 0.088),
        (tf.keras.initializers.TruncatedNormal(stddev=0.1), -0.2, 0.2, 0, 0.088),
        (v1.glorot_uniform_initializer(), -0.217, 0.217, 0, 0.125),
        (tf.keras.initializers.HeNormal(), -0.5, 0.5, 0, (2 / 64) ** 0.5),
        (v1.variance_scaling_initializer(distribution="untruncated_normal"), -1, 1, 0, 0.125),
    ],
)
def test_initializers_of_the_engine(start, initializer, low, high, mean, stddev):
    start()
    rows = lookup(initializer, np.arange(2000))
    assert rows.min() >= low - 1e-6 and rows.max() <= high + 1e-6
    np.testing.assert_allclose(rows.mean(), mean, atol=0.01)
    np.testing.assert_allclose(rows.std(), stddev, rtol=0.02, atol=1e-6)


def test_init_param_scales(start):
    start()
    np.testing.assert_array_equal(lookup(tf.ones_initializer(), [1, 2], init_param=-2.5), -2.5)
    engine_free = make("c", initializer=lambda shape: tf.ones(shape), init_param=3.0)
    np.testing.assert_array_equal(mx.sparse_lookup(engine_free, [5]), np.full((1, 4), 3.0))


def values_with(seed, name="t", graph_seed=None):
    mx.terminate_config_initializer()
    mx.init()
    with tf.Graph().as_default(), v1.Session() as session:
        if graph_seed is not None:
            v1.set_random_seed(graph_seed)
        table = make(name, initializer=v1.random_normal_initializer(seed=seed))
        return session.run(mx.sparse_lookup(table, tf.constant([42])))


def test_seed_is_the_initializers_then_the_graphs_then_the_names(start):
    del start
    assert np.array_equal(values_with(3), values_with(3, "u", graph_seed=9))
    assert np.array_equal(values_with(None, graph_seed=9), values_with(None, "u", graph_seed=9))
    assert np.array_equal(values_with(None), values_with(None))
    assert not np.array_equal(values_with(None), values_with(None, "u"))
    assert not np.array_equal(values_with(3), values_with(4))


class KeyCounter(tf.keras.initializers.Initializer):
    """Gives the i-th row of a batch the value i; not one of the engine's."""

    def __call__(self, shape, dtype=None, **kwargs):
        rows = tf.cast(tf.range(shape[0]), tf.float32)
        return tf.tile(rows[:, None], [1, 4])


@pytest.mark.parametrize("mode", ["eager", "function", "session"])
def test_other_initializers_are_called_for_new_keys(start, mode):
    start()

    def batch(table, keys):
        return mx.sparse_lookup(table, tf.constant(keys, tf.int64))

    if mode == "session":
        with tf.Graph().as_default(), v1.Session() as session:
            table = make(initializer=KeyCounter(), device_vocabulary_size=9)
            first, second = batch(table, [7, 8, 7, 9]), batch(table, [9, 5, 6])
            rows = [session.run(first), session.run(second)]
    else:
        table = make(initializer=KeyCounter(), device_vocabulary_size=9)
        step = tf.function(batch, autograph=False) if mode == "function" else batch
        rows = [step(table, [7, 8, 7, 9]).numpy(), step(table, [9, 5, 6]).numpy()]
    assert rows[0][:, 0].tolist() == [0, 1, 0, 2]
    assert rows[1][:, 0].tolist() == [2, 0, 1]


def test_initializer_that_wants_a_static_shape(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make(initializer=v1.orthogonal_initializer(), device_vocabulary_size=9)
        rows = session.run(mx.sparse_lookup(table, tf.constant([1, 2, 3])))
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-5)


def test_a_finalized_graph_gets_no_half_a_table(start):
    start()
    with tf.Graph().as_default() as graph:
        graph.finalize()
        with pytest.raises(RuntimeError, match="finalized"):
            make(device_vocabulary_size=7)
        assert mx.tables_of_graph(graph) == [] and mx.registered_tables() == []
        assert _mxrec.find_table("t") is None
    with tf.Graph().as_default():
        table = make(device_vocabulary_size=8)
    with tf.Graph().as_default() as graph:
        graph.finalize()
        with pytest.raises(RuntimeError, match="finalized"):
            make(device_vocabulary_size=8)
    assert mx.registered_tables() == [table] and table.size() == 0
    assert make("u", padding_keys=3, padding_keys_len=1).size() == 0
    assert make("v", padding_keys=np.array([5, 0])).engine.padding_keys == [0, 5]


def test_in_a_function_that_is_traced_again(start):
    start()
    traces = []
    optimizer = gradient_descent.create_hash_optimizer(1.0)

    @tf.function
    def rows(ids):
        table = make(device_vocabulary_size=7)
        traces.append(table)
        with pytest.raises(ValueError, match="taken"):
            make(device_vocabulary_size=7)
        with tf.GradientTape() as tape:
            found = mx.sparse_lookup(table, ids)
        sparse = mx.get_dense_and_sparse_variable()[1]
        gradients = tape.gradient(found, sparse)
        optimizer.apply_gradients(zip(gradients, sparse, strict=True))
        return found

    assert rows(tf.constant([1, 2])).shape == (2, 4)
    assert rows(tf.constant([[1, 2]], tf.int64)).shape == (1, 2, 4)
    assert len(traces) > 1 and all(table is traces[0] for table in traces)
    assert mx.registered_tables() == traces[:1] and traces[0].size() == 2
    values = traces[0].engine.lookup(np.array([1, 2]), train=False)
    np.testing.assert_array_equal(values, np.full((2, 4), -2))
    with pytest.raises(ValueError, match="taken"):
        make(device_vocabulary_size=7)
    with pytest.raises(ValueError, match="memory_rows 7 != 8"):
        tf.function(lambda: make(device_vocabulary_size=8).size())()
