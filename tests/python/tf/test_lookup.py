"""sparse_lookup: ids of all kinds, modes, shapes, reading without change."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow as tf

import mxrec.tf as mx

v1 = tf.compat.v1
NORMAL = v1.random_normal_initializer(seed=1)


def make(name="t", dim=4, initializer=NORMAL, rows=10000):
    return mx.create_table(tf.int64, dim, name, initializer, device_vocabulary_size=rows)


@pytest.mark.parametrize("expansion", [False, True])
def test_any_rank_and_every_mode_agree(start, expansion):
    start(use_dynamic_expansion=expansion)
    table = make()
    ids = np.array([[[3, -1], [3, 0]], [[2**63 - 1, -(2**63)], [7, 7]]], np.int64)
    eager = mx.sparse_lookup(table, tf.constant(ids)).numpy()
    assert eager.shape == (2, 2, 2, 4)
    assert table.size() == 6
    np.testing.assert_array_equal(eager[0, 0, 0], eager[0, 1, 0])
    in_function = tf.function(lambda x: mx.sparse_lookup(table, x))
    np.testing.assert_array_equal(in_function(tf.constant(ids)), eager)
    np.testing.assert_array_equal(in_function(tf.constant(ids[0, 0])), eager[0, 0])
    with tf.Graph().as_default(), v1.Session() as session:
        same = make()
        fed = v1.placeholder(tf.int64, [None, 2, 2])
        rows = mx.sparse_lookup(same, fed)
        assert rows.shape.as_list() == [None, 2, 2, 4]
        np.testing.assert_array_equal(session.run(rows, {fed: ids}), eager)
        assert session.run(rows, {fed: ids[:0]}).shape == (0, 2, 2, 4)
        unknown = mx.sparse_lookup(same, v1.placeholder_with_default(ids, None))
        np.testing.assert_array_equal(session.run(unknown), eager)
        scalar = mx.sparse_lookup(same, tf.constant(3))
        assert scalar.shape.as_list() == [4]
        np.testing.assert_array_equal(session.run(scalar), eager[0, 0, 0])


def test_reading_changes_nothing(start):
    start()
    table = make()
    known = mx.sparse_lookup(table, tf.constant([1])).numpy()
    before = table.engine.version
    read = mx.sparse_lookup(table, [1, 2], is_train=False).numpy()
    np.testing.assert_array_equal(read, np.concatenate([known, np.zeros((1, 4))]))
    default = mx.sparse_lookup(table, [1, 2], is_train=False, serving_default_value=0.5)
    np.testing.assert_array_equal(default[1], [0.5] * 4)
    row = [1.0, 2.0, 3.0, 4.0]
    default = mx.sparse_lookup(table, [1, 2], is_train=False, serving_default_value=row)
    np.testing.assert_array_equal(default[1], row)
    np.testing.assert_array_equal(default[:1], known)
    assert (table.size(), table.engine.version) == (1, before)
    for bad in ([1.0, 2.0], np.zeros((1, 4))):
        with pytest.raises(ValueError, match="serving_default_value"):
            mx.sparse_lookup(table, [1], is_train=False, serving_default_value=bad)
    with pytest.raises(TypeError, match="serving_default_value"):
        mx.sparse_lookup(table, [1], is_train=False, serving_default_value="x")


def test_ids_of_other_types(start, caplog):
    start()
    table = make()
    with caplog.at_level(logging.WARNING, "mxrec"):
        floats = mx.sparse_lookup(table, tf.constant([1.9, -1.9]))
        mx.sparse_lookup(table, tf.constant([2.0], tf.float64))
    assert caplog.text.count("2^24") == 1
    np.testing.assert_array_equal(mx.sparse_lookup(table, tf.constant([1, -1])), floats)
    small = mx.sparse_lookup(table, tf.constant([1, -1], tf.int8))
    np.testing.assert_array_equal(small, floats)
    assert mx.sparse_lookup(table, []).shape == (0, 4)
    for ids in (tf.constant(["a"]), tf.constant([True])):
        with pytest.raises(TypeError, match="ids must be an integer tensor"):
            mx.sparse_lookup(table, ids)


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"send_count": 0}, ValueError, "send_count"),
        ({"send_count": 1.5}, TypeError, "send_count"),
        ({"is_train": 1}, TypeError, "is_train"),
        ({"is_grad": None}, TypeError, "is_grad"),
        ({"modify_graph": "x"}, TypeError, "modify_graph"),
        ({"name": 3}, TypeError, "name"),
        ({"combiner": "max"}, ValueError, "combiner"),
        ({"access_and_evict_config": 3}, TypeError, "access_and_evict_config"),
        ({"access_and_evict_config": {"a": 1}}, ValueError, "unknown keys"),
        (
            {"access_and_evict_config": {"access_threshold": -2}},
            ValueError,
            r"access_threshold must be in \[-1, 2147483647\], got -2",
        ),
        (
            {"access_and_evict_config": {"eviction_threshold": -5}},
            ValueError,
            r"eviction_threshold must be in \[-1, 2147483647\], got -5",
        ),
        (
            {"access_and_evict_config": {"faae_coefficient": 0}},
            ValueError,
            r"faae_coefficient must be in \[1, 2147483647\], got 0",
        ),
        ({"access_and_evict_config": {"access_threshold": 2.0}}, TypeError, "access_threshold"),
        ({"access_and_evict_config": {"eviction_threshold": "1"}}, TypeError, "eviction_threshold"),
        ({"access_and_evict_config": {"access_threshold": True}}, TypeError, "access_threshold"),
    ],
)
def test_rejected_arguments(start, kwargs, error, text):
    start()
    table = make()
    with pytest.raises(error, match=text):
        mx.sparse_lookup(table, [1], **kwargs)
    assert table.size() == 0 and not table.admits and not table.evicts


def test_other_rejections(start, caplog):
    start()
    table = make()
    with pytest.raises(TypeError, match="hashtable"):
        mx.sparse_lookup("t", [1])
    off = {"access_threshold": -1, "eviction_threshold": None}
    with caplog.at_level(logging.WARNING, "mxrec"):
        for _ in range(2):
            mx.sparse_lookup(table, [1], access_and_evict_config=off, combiner=None, feature=3)
    assert caplog.text.count("unknown arguments are ignored: feature") == 1


def test_feature_specs(start):
    start()
    table = make()
    ids = tf.constant([4, 5], tf.int64)
    rows = mx.sparse_lookup(table, ids)
    nested = ({"user": ids, "deep": {"item": ids + 1}}, tf.constant([0.0, 1.0]))
    cases = [
        (mx.FeatureSpec("user"), {"user": ids}),
        (mx.FeatureSpec("user"), nested),
        (mx.FeatureSpec("u", index_key="user", access_threshold=-1), nested),
        (mx.FeatureSpec("u", index_key=1), (tf.constant([0.0]), ids)),
        (mx.FeatureSpec("u", index_key=1), ({"b": ids, "a": ids + 9}, tf.constant([0.0]))),
    ]
    for spec, batch in cases:
        np.testing.assert_array_equal(mx.sparse_lookup(table, spec, 2, batch=batch), rows)
    with pytest.raises(ValueError, match="batch must be given"):
        mx.sparse_lookup(table, mx.FeatureSpec("user"))
    with pytest.raises(ValueError, match="index_key='nobody'"):
        mx.sparse_lookup(table, mx.FeatureSpec("nobody"), batch=nested)
    with pytest.raises(ValueError, match="index_key=9"):
        mx.sparse_lookup(table, mx.FeatureSpec("u", index_key=9), batch=nested)
    with pytest.raises(ValueError, match="2 features"):
        mx.sparse_lookup(table, mx.FeatureSpec("user"), batch=({"user": ids}, {"user": ids}))
    with pytest.raises(ValueError, match="is_timestamp"):
        mx.sparse_lookup(table, mx.FeatureSpec("user", is_timestamp=True), batch=nested)


@pytest.mark.parametrize("expansion", [False, True])
def test_static_unique_size(start, expansion):
    start(use_dynamic=False, use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        fed = v1.placeholder(tf.int64, [None])
        rows = mx.sparse_lookup(table, fed, send_count=3)
        gradient = v1.gradients(tf.reduce_sum(rows), mx.get_dense_and_sparse_variable()[1])[0]
        assert gradient.indices.shape.as_list() == [3]
        assert gradient.values.shape.as_list() == [3, 4]
        addresses, sums = session.run([gradient.indices, gradient.values], {fed: [5, 6, 5]})
        assert addresses[2] == -1 and (addresses[:2] != -1).all()
        np.testing.assert_array_equal(sums[:, 0], [2, 1, 0])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"send_count x ranks.*raise send"):
            session.run(rows, {fed: [1, 2, 3, 4]})


def test_names_repeat_and_are_made_unique(start):
    start()
    with tf.Graph().as_default():
        table = make()
        names = {mx.sparse_lookup(table, [1], name=n).op.name for n in ("user", "user", "_a b")}
        assert len(names) == 3


@pytest.mark.parametrize("v2_control_flow", [True, False])
def test_refused_in_while_loop(start, v2_control_flow):
    start()
    with tf.Graph().as_default():
        table = make()
        (v1.enable_control_flow_v2 if v2_control_flow else v1.disable_control_flow_v2)()
        try:
            with pytest.raises(ValueError, match=r"'mine' is inside tf\.while_loop"):
                tf.while_loop(
                    lambda i: i < 3,
                    lambda i: i + tf.cast(mx.sparse_lookup(table, i, name="mine")[0], tf.int32),
                    [0],
                )
        finally:
            v1.enable_control_flow_v2()


def test_inside_a_dataset_and_a_loop_of_a_function(start):
    start()
    table = make()

    @tf.function
    def looped():
        total = tf.zeros([4])
        for i in tf.range(3):
            total += mx.sparse_lookup(table, i)
        return total

    with pytest.raises(ValueError, match=r"inside tf\.while_loop"):
        looped()


def test_a_dynamic_unique_size_is_warned_of(start, caplog):
    start(use_dynamic=False)
    table = make()
    with caplog.at_level(logging.WARNING, "mxrec"):
        mx.sparse_lookup(table, [1], is_train=False)
        mx.sparse_lookup(table, [1], send_count=1)
        assert "send_count" not in caplog.text
        for _ in range(2):
            assert mx.sparse_lookup(table, [1, 2]).shape == (2, 4)
    assert caplog.text.count("stays dynamic") == 1


def test_int64_ids_in_an_int32_table_are_warned_of(start, caplog):
    start()
    table = mx.create_table(tf.int32, 4, "small", NORMAL, device_vocabulary_size=2)
    with caplog.at_level(logging.WARNING, "mxrec"):
        mx.sparse_lookup(table, tf.constant([1], tf.int32))
        mx.sparse_lookup(make(), tf.constant([1], tf.int64))
        assert "key_dtype" not in caplog.text
        for _ in range(2):
            mx.sparse_lookup(table, tf.constant([2**40], tf.int64))
    assert caplog.text.count("table 'small' of key_dtype=tf.int32") == 1
    assert table.engine.contains(np.array([2**40])).all()


def test_a_feature_spec_must_fit_table_and_tensor(start):
    start()
    table = make()
    ids = {"f": tf.zeros([2, 3], tf.int64), "g": tf.zeros([6], tf.int64)}
    for name, kwargs in [
        ("f", {"table_name": table.table_name, "batch_size": 2, "feat_count": 3}),
        ("g", {"batch_size": 2, "feat_count": 3}),
        ("g", {"batch_size": 6}),
        ("g", {"feat_count": 2}),
    ]:
        mx.sparse_lookup(table, mx.FeatureSpec(name, **kwargs), batch=ids)
    with pytest.raises(ValueError, match=f"'{table.table_name}'.*FeatureSpec 'f'.*'other'"):
        mx.sparse_lookup(table, mx.FeatureSpec("f", "other"), batch=ids)
    for name, kwargs in [
        ("f", {"batch_size": 3}),
        ("f", {"feat_count": 2}),
        ("g", {"batch_size": 2}),
        ("g", {"batch_size": 3, "feat_count": 3}),
        ("g", {"feat_count": 4}),
    ]:
        with pytest.raises(ValueError, match=f"FeatureSpec '{name}'.*ids have shape"):
            mx.sparse_lookup(table, mx.FeatureSpec(name, **kwargs), batch=ids)
    with tf.Graph().as_default():
        spec = mx.FeatureSpec("f", batch_size=2, feat_count=3)
        for shape in (None, [None], [None, 3], [2, None]):
            spec.check_shape(tf.compat.v1.placeholder(tf.int64, shape))
