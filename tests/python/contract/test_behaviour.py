"""Ways of the public samples and statements of the contract that have no test elsewhere."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mx_rec.constants.constants import (
    ASCEND_SPARSE_LOOKUP_ID_OFFSET,
    ASCEND_SPARSE_LOOKUP_LOCAL_EMB,
    ApplyGradientsStrategy,
)
from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.asc.manager import start_asc_pipeline
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.optimizers import gradient_descent, gradient_descent_by_addr
from mx_rec.util.initialize import ConfigInitializer, get_initializer
from mx_rec.util.log import logger
from mx_rec.util.ops import import_host_pipeline_ops
from mx_rec.util.variable import get_dense_and_sparse_variable

v1 = tf.compat.v1
IDS = np.array([1, 2, 2, 3])


def make(name: str = "table", **kwargs: Any) -> Any:
    return create_table(
        key_dtype=tf.int64,
        dim=tf.TensorShape([2]),
        name=name,
        emb_initializer=tf.ones_initializer(),
        **{"device_vocabulary_size": 10, **kwargs},
    )


def rows_of(table: Any, *keys: int) -> list[float]:
    """The first column of the rows."""
    rows = table.engine.lookup(np.array(keys), train=False)
    return rows[:, 0].tolist()


# --- Tables -------------------------------------------------------------------------------------


def test_tables_with_and_without_a_host_tier_may_be_mixed(start) -> None:
    start()
    tables = [make("device"), make("both", host_vocabulary_size=20)]
    assert [table.capacity() for table in tables] == [10, 30]
    for table in tables:
        sparse_lookup(table, np.arange(10))
    sparse_lookup(tables[1], np.arange(30))
    with pytest.raises(tf.errors.ResourceExhaustedError, match="'device' is full"):
        sparse_lookup(tables[0], np.arange(11))
    assert [table.size() for table in tables] == [10, 30]


def test_expansion_sets_the_other_tiers_to_0(start, caplog) -> None:
    start(use_dynamic_expansion=True)
    table = make(host_vocabulary_size=5)
    assert "host_vocabulary_size=5" in caplog.text and table.capacity() == 2**63 - 1


@pytest.mark.parametrize("how", ["sum_gradients", "sum_gradients_and_div_by_ranksize"])
def test_gradients_of_one_rank_are_summed(start, how: str) -> None:
    start()
    table = make(all2all_gradients_op=how)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(sparse_lookup(table, IDS))
    proxy = table.nodes().proxy
    gradients = [(tape.gradient(loss, proxy), proxy)]
    gradient_descent.create_hash_optimizer(0.25).apply_gradients(gradients)
    assert rows_of(table, 1, 2, 3) == [0.75, 0.5, 0.75]


# --- FeatureSpecs -------------------------------------------------------------------------------


def test_feature_specs_and_lookup_names_repeat(start) -> None:
    """Two specs of one feature and one table, both looked up under one name."""
    start()
    specs = [FeatureSpec("ids", table_name="table", feat_count=1) for _ in range(2)]
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.from_tensor_slices({"ids": IDS}).batch(4)
        dataset = dataset.map(get_asc_insert_func(tgt_key_specs=specs)).prefetch(1)
        iterator = v1.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
        table = make()
        rows = [sparse_lookup(table, spec, 4, batch=batch, name="same") for spec in specs]
        _, variables = get_dense_and_sparse_variable()
        gradients = tf.gradients(tf.add_n([tf.reduce_sum(each) for each in rows]), variables)
        train = gradient_descent.create_hash_optimizer(0.125).apply_gradients(
            zip(gradients, variables, strict=True)
        )
        start_asc_pipeline()
        session.run(iterator.initializer)
        session.run(train)
    assert rows_of(table, 1, 2, 3) == [0.75, 0.5, 0.75]


# --- Gradients as the public samples take them ----------------------------------------------------


@pytest.mark.parametrize("expansion", [False, True])
def test_a_dense_optimizer_computes_the_gradients_of_both(start, expansion: bool) -> None:
    """``compute_gradients`` over dense variables and the sparse variable or local embeddings."""
    start(use_dynamic_expansion=expansion)
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        weight = v1.get_variable("weight", initializer=2.0)
        ids = v1.placeholder(tf.int64, [None])
        loss = weight * tf.reduce_sum(sparse_lookup(table, ids))
        dense_variables, sparse_variables = get_dense_and_sparse_variable()
        if expansion:
            sources = v1.get_collection(ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
            targets = v1.get_collection(ASCEND_SPARSE_LOOKUP_ID_OFFSET)
            sparse = gradient_descent_by_addr.create_hash_optimizer_by_addr(0.125, 0.0)
        else:
            sources = targets = sparse_variables
            sparse = gradient_descent.create_hash_optimizer(0.125)
        dense = v1.train.GradientDescentOptimizer(0.125)
        pairs = dense.compute_gradients(loss, var_list=[*dense_variables, sources[0]])
        gradients = list(pairs[-1])  # the gradient, and what it is of
        train = [
            dense.apply_gradients(pairs[:-1]),
            sparse.apply_gradients(list(zip(gradients, targets, strict=False))),
        ]
        session.run(v1.global_variables_initializer())
        session.run(train, {ids: IDS})
        assert session.run(weight) == 2.0 - 8 / 8
    assert rows_of(table, 1, 2, 3) == [0.75, 0.5, 0.75]


def test_a_dense_optimizer_s_minimize_touches_no_table(start) -> None:
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        table = make()
        weight = v1.get_variable("weight", initializer=1.0)
        loss = weight * tf.reduce_sum(sparse_lookup(table, [1]))
        train = v1.train.AdamOptimizer(0.5).minimize(loss)
        session.run(v1.global_variables_initializer())
        session.run(train)
        assert session.run(weight) < 1.0
    assert rows_of(table, 1) == [1.0] and table.stats()["optimizer_step"] == 0


# --- Settings -----------------------------------------------------------------------------------


def test_settings_that_scripts_write(start) -> None:
    start()
    config = ConfigInitializer.get_instance()
    config.if_load = True
    assert ConfigInitializer.get_instance().if_load is True
    names = config.train_params_config.ascend_global_hashtable_collection
    table = make()
    assert v1.get_collection(names) == [] and table.collection == names  # eager: no collections
    with tf.Graph().as_default():
        make()
        assert len(v1.get_collection(names)) == 1


def test_get_initializer_is_that_of_the_settings(start) -> None:
    from mx_rec.graph.modifier import modify_graph_and_start_emb_cache

    start()
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.from_tensor_slices({"ids": IDS}).batch(4)
        batch = v1.data.make_initializable_iterator(dataset).get_next()
        rows = sparse_lookup(make(), batch["ids"], modify_graph=True)
        modify_graph_and_start_emb_cache()
        params = ConfigInitializer.get_instance().train_params_config
        assert params.get_initializer(True) is get_initializer(True)
        session.run(params.get_initializer(True))
        ids, values = session.run([params.get_target_batch(True)["ids"], rows])
        np.testing.assert_array_equal(ids, IDS)
        assert values.shape == (4, 2)


def test_small_names(start) -> None:
    start()
    assert isinstance(logger, logging.Logger) and logger.name == "mxrec"
    module = import_host_pipeline_ops()
    assert module is ConfigInitializer.get_instance().host_pipeline_ops
    assert import_host_pipeline_ops("libtf_rec_v1_cpu.so") is module
    assert ApplyGradientsStrategy.mapping("direct_apply") is ApplyGradientsStrategy.DIRECT_APPLY
    dataset = tf.data.Dataset.range(3)
    assert dataset.eos_map(module, 1, -1, 5) is dataset
    with pytest.raises(ValueError, match=r"channel_id must be in \[0, 1\], got 2"):
        dataset.eos_map(module, 2)
