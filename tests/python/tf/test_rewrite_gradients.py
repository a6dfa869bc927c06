"""Gradients with respect to tensors of a batch, built after the graph was rewritten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import ITERATORS, create, dataset, initializable, lookup, warnings_of

import mxrec.tf as mx
from mx_rec.graph import GraphModifierHook, LookupSubgraphSlicerHook

v1 = tf.compat.v1


def loss_of(batch: Any) -> Any:
    rows = lookup(create("t"), batch["id"] + 1)
    return tf.reduce_sum(rows) * tf.reduce_sum(batch["price"] ** 2) + tf.reduce_sum(batch["price"])


def values(start: Any, make_iterator: Any, build: Any, rewritten: bool) -> list[Any]:
    """What gradients that ``build`` makes of the loss and the batch are, in three steps."""
    start()
    with tf.Graph().as_default():
        feed = make_iterator(dataset(3))
        loss = loss_of(feed.batch)
        if rewritten:
            mx.modify_graph_and_start_emb_cache()
        gradients = build(loss, feed.batch)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            return [session.run(gradients) for _ in range(3)]


def later(loss: Any, batch: Any) -> list[Any]:
    """Of ops that are there before the rewriting, and of some that come later."""
    more = tf.reduce_sum(tf.math.exp(batch["price"]))
    return tf.gradients([loss + more, more], [batch["price"]])


def second(loss: Any, batch: Any) -> list[Any]:
    return [*tf.hessians(loss, batch["price"]), *tf.gradients(loss, batch["price"])]


def stopped(loss: Any, batch: Any) -> list[Any]:
    square = batch["price"] ** 2
    both = tf.reduce_sum(square * batch["price"])
    return tf.gradients(both, batch["price"], stop_gradients=[square])


def of_itself(loss: Any, batch: Any) -> list[Any]:
    return tf.gradients(batch["price"], [batch["price"]])


@pytest.mark.parametrize("make_iterator", ITERATORS)
@pytest.mark.parametrize("build", [later, second, stopped, of_itself])
def test_gradients_of_a_batch(start: Any, make_iterator: Any, build: Any) -> None:
    plain = values(start, make_iterator, build, False)
    moved = values(start, make_iterator, build, True)
    for one, other in zip(plain, moved, strict=True):
        assert np.abs(one[0]).max() > 0
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_a_later_batch(start: Any) -> None:
    """After two rewritings an old tensor stands for the newest."""
    start()
    with tf.Graph().as_default():
        feed = initializable(dataset(3))
        loss = loss_of(feed.batch)
        mx.modify_graph_and_start_emb_cache()
        lookup(create("u"), feed.batch["small"])
        mx.modify_graph_and_start_emb_cache()
        batches = (feed.batch, mx.get_target_batch(True))
        of_old, of_new = (tf.gradients(loss, batch["price"])[0] for batch in batches)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            np.testing.assert_array_equal(*session.run([of_old, of_new]))


@pytest.mark.parametrize("which", ["price", "moved"])
def test_gradients_by_way_of_the_pipeline_warn(start: Any, which: str) -> None:
    start()
    with tf.Graph().as_default():
        feed = initializable(dataset(3))
        moved = tf.math.exp(feed.batch["price"])
        loss = loss_of(feed.batch) + tf.reduce_sum(moved)
        before = tf.gradients(loss, feed.batch["price"])
        LookupSubgraphSlicerHook(["Exp"]).begin()
        GraphModifierHook().begin()
        with warnings_of() as warnings:
            tf.gradients(loss, feed.batch["label"])
            assert not warnings
            tf.gradients(loss, {"price": feed.batch["price"], "moved": moved}[which])
        (warning,) = warnings
        assert "leaves out what depends on it by way of 'Exp:0'" in warning
        assert before[0] is not None


def test_tapes_follow(start: Any) -> None:
    """A tape that recorded the old tensor, asked after the rewriting."""
    got = []
    for rewritten in (False, True):
        start()
        with tf.Graph().as_default():
            feed = initializable(dataset(3))
            with tf.GradientTape() as tape:
                tape.watch(feed.batch["price"])
                loss = loss_of(feed.batch)
            if rewritten:
                mx.modify_graph_and_start_emb_cache()
            gradient = tape.gradient(loss, feed.batch["price"])
            with v1.Session() as session:
                session.run([v1.global_variables_initializer(), *feed.initializers])
                got.append([session.run(gradient) for _ in range(3)])
    assert np.abs(got[0]).max() > 0
    np.testing.assert_array_equal(*got)
