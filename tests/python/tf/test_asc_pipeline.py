"""FeatureSpec mode: get_asc_insert_func and start_asc_pipeline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from admission_runs import keys, make, train_op
from pipeline_runs import AGE, TABLES, assert_equal, elements, loss_of, specs, tables, trained

import mxrec.tf as mx

v1 = tf.compat.v1
HAS_ESTIMATOR = hasattr(tf, "estimator")
needs_estimator = pytest.mark.skipif(not HAS_ESTIMATOR, reason="TensorFlow without tf.estimator")


def of_specs(features: list[mx.FeatureSpec]) -> Any:
    return mx.get_asc_insert_func(tgt_key_specs=features, is_training=True)


def of_positions(features: list[mx.FeatureSpec]) -> Any:
    order = sorted([*(f"{name}_ids" for name in TABLES), "time", "label"])
    return mx.get_asc_insert_func(
        args_index_list=[order.index(f"{name}_ids") for name in TABLES], table_names=TABLES
    )


def prepares(dataset: Any) -> int:
    """How many tables' keys the functions of a dataset process."""
    graph = dataset._variant_tensor.graph
    functions = graph.as_graph_def().library.function
    return sum(node.op == "MxrecPrepare" for each in functions for node in each.node_def)


# --- Training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("insert", [of_specs, of_positions])
@pytest.mark.parametrize("access", [{}, AGE, AGE | {"access_threshold": 3}], ids=str)
def test_training_is_the_same_bit_by_bit(start, request, insert, access):
    seed = request.config.getoption("seed")
    evict_every = 30 if access else None
    plain = trained(None, seed=seed, evict_every=evict_every, **access)
    for depth in (0, 1, 8):
        processed = trained(insert, depth, seed=seed, evict_every=evict_every, **access)
        assert_equal(processed, plain)
        assert processed.prepared == [300] * len(TABLES)
    assert len(plain.contents[0]) > 0 and plain.prepared == [0] * len(TABLES)


def test_several_threads_process_elements(start, request):
    seed = request.config.getoption("seed")
    plain = trained(None, steps=100, seed=seed)
    original = tf.data.Dataset.map
    try:
        tf.data.Dataset.map = lambda self, function: original(self, function, 4)
        assert_equal(trained(of_specs, 4, steps=100, seed=seed), plain)
    finally:
        tf.data.Dataset.map = original


def test_an_abandoned_iterator_leaves_no_trace(start):
    start()
    with tf.Graph().as_default(), v1.Session() as session:
        features = specs(access_threshold=2, **AGE)
        dataset = elements(100, 1).map(of_specs(features)).prefetch(8)
        iterator = v1.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
        by_name = tables()
        loss = loss_of(by_name, features, batch)
        train = train_op(loss)
        session.run([iterator.initializer, v1.global_variables_initializer()])
        for _ in range(3):
            session.run(train)

        def state() -> list[Any]:
            stats = [table.stats() for table in by_name.values()]
            return [
                [table.engine.version for table in by_name.values()],
                [table.counts(keys(*range(300))).tolist() for table in by_name.values()],
                [{k: v for k, v in each.items() if "prepared" not in k} for each in stats],
            ]

        before = state()
        for _ in range(50):
            session.run(batch["label"])
        assert state() == before


@pytest.mark.parametrize("iterator", ["one shot", "initializable", "re-initializable"])
def test_every_kind_of_iterator(start, iterator):
    def without_ragged(batch: dict[str, Any]) -> dict[str, Any]:
        # Re-initializable iterators take none.
        return {name: tensor for name, tensor in batch.items() if name != "words_ids"}

    found = []
    for insert in (False, True):
        start()
        with tf.Graph().as_default(), v1.Session() as session:
            features = [spec for spec in specs() if spec.table_name != "words"]
            training, evaluation = (elements(20, seed).map(without_ragged) for seed in (1, 2))
            if insert:
                training = training.map(of_specs(features)).prefetch(2)
                evaluation = evaluation.map(mx.get_asc_insert_func(features, is_training=False))
            if iterator == "one shot":
                made, initializers = v1.data.make_one_shot_iterator(training), [tf.no_op()] * 2
            elif iterator == "initializable":
                made = v1.data.make_initializable_iterator(training)
                initializers = [made.initializer] * 2
            else:
                structure = v1.data.get_output_types(training), v1.data.get_output_shapes(training)
                classes = v1.data.get_output_classes(training)
                made = v1.data.Iterator.from_structure(*structure, output_classes=classes)
                initializers = [made.make_initializer(each) for each in (training, evaluation)]
            by_name = tables()
            loss = loss_of(by_name, features, made.get_next())
            train = train_op(loss)
            session.run(v1.global_variables_initializer())
            for initializer in initializers:
                session.run(initializer)
                found.append([session.run([loss, train])[0] for _ in range(8)])
    assert found[:2] == found[2:]


@needs_estimator
def test_the_estimator(start, tmp_path):
    losses = []
    for insert in (None, of_specs):
        start()
        features = specs()

        def input_fn(insert: Any = insert, features: Any = features) -> Any:
            dataset = elements(30, 3)
            return dataset if insert is None else dataset.map(insert(features)).prefetch(4)

        def model_fn(features: Any, mode: str, params: Any) -> Any:
            loss = loss_of(tables(), params["specs"], features)
            step = v1.train.get_or_create_global_step()
            train = tf.group(train_op(loss), v1.assign_add(step, 1))
            mx.start_asc_pipeline()
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

        from mxrec.tf.estimator import NPUEstimator, NPURunConfig

        estimator = NPUEstimator(
            model_fn,
            str(tmp_path / str(insert is None)),
            NPURunConfig(tf_random_seed=1),
            {"specs": features},
        )
        estimator.train(input_fn)
        losses.append(estimator.evaluate(input_fn, steps=5)["loss"])
    assert losses[0] == losses[1]


def test_a_script_as_it_was(start):
    from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
    from mx_rec.core.asc.manager import start_asc_pipeline
    from mx_rec.core.embedding import create_table, sparse_lookup

    start(max_steps=10, train_steps=10, eval_steps=1, use_dynamic=True)
    with tf.Graph().as_default(), v1.Session() as session:
        feature_specs = [
            FeatureSpec("user_ids", table_name="user_table", access_threshold=1),
            FeatureSpec("item_ids", table_name="item_table", faae_coefficient=1),
            FeatureSpec("timestamp", is_timestamp=True),
        ]
        columns = {name: np.arange(12) for name in ("user_ids", "item_ids", "timestamp")}
        dataset = tf.data.Dataset.from_tensor_slices(columns).batch(4)
        insert_fn = get_asc_insert_func(
            tgt_key_specs=feature_specs, is_training=True, dump_graph=False
        )
        dataset = dataset.map(insert_fn).prefetch(100)
        iterator = v1.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
        made = [
            create_table(tf.int64, 8, name, tf.ones_initializer(), device_vocabulary_size=100)
            for name in ("user_table", "item_table")
        ]
        rows = [
            sparse_lookup(table, spec, 1024, is_train=True, name=table.table_name, batch=batch)
            for table, spec in zip(made, feature_specs, strict=False)
        ]
        start_asc_pipeline()
        session.run(iterator.initializer)
        for _ in range(3):
            np.testing.assert_array_equal(session.run(rows), np.ones([2, 4, 8]))
        assert [table.size() for table in made] == [12, 12]


# --- Elements -----------------------------------------------------------------------------------

NESTED: list[tuple[Any, list[int | str], int]] = [
    ({"a": [1, 2], "b": [3, 4]}, ["a", "b"], 0),
    (([1, 2], [3, 4]), [0, 1], 0),
    (({"x": {"a": [1, 2]}}, ([5, 6], {"b": [3, 4]})), ["a", "b"], 0),
    (({"x": {"a": [1, 2]}}, ([5, 6], {"b": [3, 4]})), [0, 2], 0),
    (({"a": [1, 2], "time": [7, 8]}, [3, 4]), ["a", 2], 1),
    ([1, 2], [0, 0], 0),
]


@pytest.mark.parametrize(("element", "places", "times"), NESTED, ids=str)
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("eager", [True, False])
def test_elements_come_out_as_they_went_in(start, element, places, times, is_training, eager):
    start()

    def check() -> None:
        make("one"), make("two")
        features = [
            mx.FeatureSpec(name, name, place)
            for name, place in zip(("one", "two"), places, strict=True)
        ]
        features += [mx.FeatureSpec("time", is_timestamp=True)] * times
        before = tf.data.Dataset.from_tensors(element)
        after = before.map(mx.get_asc_insert_func(features, is_training=is_training))
        assert after.element_spec == before.element_spec
        if eager:
            got = next(iter(after))
        else:
            assert prepares(after) == 2 * is_training
            with v1.Session() as session:
                got = session.run(v1.data.make_one_shot_iterator(after).get_next())
        tf.nest.assert_same_structure(got, next(iter([before.element_spec])))
        flat = tf.nest.flatten(tf.nest.map_structure(lambda x: np.asarray(x).tolist(), got))
        assert flat == tf.nest.flatten(element)

    if eager:
        check()
    else:
        with tf.Graph().as_default():
            check()


def test_a_feature_is_processed_once_for_each_table(start):
    start()
    with tf.Graph().as_default():
        spec, same, other = (mx.FeatureSpec("a", name) for name in ("t", "t", "u"))
        third = mx.FeatureSpec("again", "t", index_key="a")
        dataset = tf.data.Dataset.from_tensors({"a": keys(1, 2)})
        after = dataset.map(mx.get_asc_insert_func([spec, same, other, third]))
        assert prepares(after) == 2
        assert prepares(dataset.map(mx.get_asc_insert_func(spec))) == 3  # two datasets


@pytest.mark.parametrize("eager", [True, False])
def test_a_table_that_is_not_there_when_elements_are_drawn(start, eager):
    start()
    if eager:
        dataset = tf.data.Dataset.from_tensors({"a": keys(1)})
        dataset = dataset.map(mx.get_asc_insert_func([mx.FeatureSpec("a", "later")]))
        with pytest.raises(tf.errors.NotFoundError, match="later"):
            next(iter(dataset))
        make("later")
        assert next(iter(dataset))["a"].numpy().tolist() == [1]
        return
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.from_tensors({"a": keys(1)})
        dataset = dataset.map(mx.get_asc_insert_func([mx.FeatureSpec("a", "later")]))
        iterator = v1.data.make_initializable_iterator(dataset)
        batch = iterator.get_next()
        with pytest.raises(tf.errors.NotFoundError, match="later"):
            session.run([iterator.initializer])
            session.run(batch)
        make("later")
        session.run(iterator.initializer)
        assert session.run(batch)["a"].tolist() == [1]


def test_a_feature_without_a_table_name(start, caplog):
    start()
    with tf.Graph().as_default(), caplog.at_level(logging.WARNING, "mxrec"):
        dataset = tf.data.Dataset.from_tensors({"t": keys(1)})
        assert prepares(dataset.map(mx.get_asc_insert_func([mx.FeatureSpec("t")]))) == 0
        assert caplog.text.count("FeatureSpec 't' has no table_name") == 1
        make("t")
        assert prepares(dataset.map(mx.get_asc_insert_func([mx.FeatureSpec("t")]))) == 1


def test_the_graph_of_the_function_is_dumped(start, tmp_path, monkeypatch):
    start()
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        dataset = tf.data.Dataset.from_tensors({"a": keys(1)})
        spec = mx.FeatureSpec("a", "t")
        for is_training in (True, True, False):
            dataset = dataset.map(mx.get_asc_insert_func([spec], None, None, is_training, True))
    names = ["asc_insert_func_eval_0", "asc_insert_func_train_0", "asc_insert_func_train_1"]
    assert sorted(path.stem for path in Path("mxrec_graphs").iterdir()) == names
    assert 'op: "MxrecPrepare"' in Path(f"mxrec_graphs/{names[1]}.pbtxt").read_text()
    assert 'op: "MxrecPrepare"' not in Path(f"mxrec_graphs/{names[0]}.pbtxt").read_text()


# --- Errors -------------------------------------------------------------------------------------

SPEC = mx.FeatureSpec("a", "t")


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({}, ValueError, r"either tgt_key_specs, or args_index_list and table_names; got none"),
        ({"tgt_key_specs": [SPEC], "table_names": ["t"]}, ValueError, "got both"),
        ({"args_index_list": [0]}, ValueError, "got no table_names"),
        ({"table_names": ["t"]}, ValueError, "got no args_index_list"),
        ({"args_index_list": [0], "table_names": ["t", "u"]}, ValueError, "got 1 and 2"),
        ({"args_index_list": [], "table_names": []}, ValueError, "at least 1, got 0 and 0"),
        ({"args_index_list": 0, "table_names": ["t"]}, TypeError, "args_index_list must be a list"),
        ({"args_index_list": [0], "table_names": "t"}, TypeError, "table_names must be a list"),
        ({"args_index_list": ["a"], "table_names": ["t"]}, TypeError, r"args_index_list\[0\]"),
        ({"args_index_list": [0, -1], "table_names": ["t", "u"]}, ValueError, r"got -1"),
        ({"args_index_list": [0], "table_names": [1]}, TypeError, r"table_names\[0\]"),
        ({"tgt_key_specs": []}, ValueError, "at least one FeatureSpec"),
        ({"tgt_key_specs": ["a"]}, TypeError, r"tgt_key_specs must be .*got 'a' \(str\)"),
        ({"tgt_key_specs": [SPEC], "is_training": 1}, TypeError, "is_training"),
        ({"tgt_key_specs": [SPEC], "dump_graph": None}, TypeError, "dump_graph"),
    ],
)
def test_rejected_arguments(start, kwargs, error, text):
    start()
    with pytest.raises(error, match=text):
        mx.get_asc_insert_func(**kwargs)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(
    ("element", "spec", "error", "text"),
    [
        ({"b": [1]}, {}, ValueError, "no feature at index_key='a' of FeatureSpec 'a'"),
        (([1], [2]), {"index_key": 2}, ValueError, "no feature at index_key=2"),
        (({"a": [1]}, {"a": [2]}), {}, ValueError, "2 features with index_key='a'"),
        ({"a": ["x"]}, {}, TypeError, "ids of FeatureSpec 'a' must be an integer .*got dtype str"),
        ({"a": [[1, 2]]}, {"feat_count": 3}, ValueError, "feat_count=3"),
        ({"b": [1]}, {"is_timestamp": True}, ValueError, "no feature at index_key='a'"),
        (
            {"a": ([1], [2]), "b": {"c": [3], "d": {"e": [4]}}, "f": ({"g": [5]}, {"g": [6]})},
            {},
            ValueError,
            r"index_key='a' of FeatureSpec 'a' must name a tensor .* names \('...', '...'\), a "
            r"tuple\. Possible: the keys 'c', 'e' or the positions 0 to 5\.",
        ),
        ({"a": {"a": [1]}}, {}, ValueError, r"a dict\. Possible: the position 0\."),
        (({"a": [[1]]}, ([1],)), {"index_key": "x"}, ValueError, "no feature at index_key='x'"),
    ],
)
def test_elements_that_do_not_fit(start, element, spec, error, text, is_training):
    start()
    make()
    insert = mx.get_asc_insert_func([mx.FeatureSpec("a", "t", **spec)], is_training=is_training)
    with pytest.raises(error, match=text):
        tf.data.Dataset.from_tensors(element).map(insert)


def test_unknown_arguments_are_one_warning(start, caplog):
    start()
    with caplog.at_level(logging.WARNING, "mxrec"):
        for _ in range(2):
            mx.get_asc_insert_func([SPEC], feature_numbers=[1], auto_change_graph=False)
    assert caplog.text.count("unknown arguments are ignored") == 1
    assert "auto_change_graph, feature_numbers" in caplog.text


def test_the_pipeline_starts_after_init(start):
    with pytest.raises(RuntimeError, match="not initialized"):
        mx.start_asc_pipeline()
    start()
    mx.start_asc_pipeline()
    mx.start_asc_pipeline()


def test_lookups_of_a_nested_part(start):
    start()
    with tf.Graph().as_default():
        table = make("t")
        batch = {"a": ([1], [2]), "b": [3]}
        data = v1.data.Dataset.from_tensors(batch)
        batch = v1.data.make_one_shot_iterator(data).get_next()
        with pytest.raises(ValueError, match=r"index_key='a' of .*the keys 'b' or the positions"):
            mx.sparse_lookup(table, mx.FeatureSpec("a", "t"), batch=batch)
