"""What scripts do with iterators after a rewriting, and with graphs that outlive ``init``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rewrite_runs import (
    BATCH,
    ITERATORS,
    create,
    dataset,
    elements,
    initializable,
    keys_of,
    lookup,
    one_shot,
    op_between,
    warnings_of,
)

import mxrec.tf as mx

v1 = tf.compat.v1


def wordy(batch: Any) -> Any:
    return tf.strings.to_hash_bucket_fast(batch["word"], 100)


def part(columns: dict[str, np.ndarray], step: int) -> np.ndarray:
    return columns["label"][step * BATCH : (step + 1) * BATCH]


def structured(data: Any) -> Any:
    return v1.data.Iterator.from_structure(
        v1.data.get_output_types(data),
        v1.data.get_output_shapes(data),
        output_classes=v1.data.get_output_classes(data),
    )


# --- Methods of iterators -------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_make_initializer(start: Any, again: bool) -> None:
    """One that is made after one rewriting, or after two, prepares and trains as the others."""
    start()
    with tf.Graph().as_default():
        iterator = structured(dataset(1))
        first = iterator.make_initializer(dataset(2))
        batch = iterator.get_next()
        table, other = create("t"), create("u")
        rows = [lookup(table, wordy(batch))]
        mx.modify_graph_and_start_emb_cache()
        if again:
            rows.append(lookup(other, batch["small"] + 1))
            mx.modify_graph_and_start_emb_cache()
            assert op_between(keys_of(rows[1])) == []
        second = iterator.make_initializer(dataset(2, 1))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for initializer, seed in ((first, 0), (second, 1), (first, 0)):
                session.run(initializer)
                for step in range(2):
                    got, *_ = session.run([batch["label"], *rows])
                    np.testing.assert_array_equal(got, part(elements(2, seed), step))
                with pytest.raises(tf.errors.OutOfRangeError):
                    session.run(rows)
        assert table.stats()["prepared_lookups"] == 6
        assert other.stats()["prepared_lookups"] == 6 * again
        with pytest.raises(ValueError, match="nested structure"):
            iterator.make_initializer(dataset(1).map(lambda step: step["label"]))


@pytest.mark.parametrize(("make_iterator", "again"), [("one_shot", True), ("initializable", False)])
def test_get_next(start: Any, make_iterator: str, again: bool) -> None:
    start()
    with tf.Graph().as_default():
        make = getattr(v1.data, f"make_{make_iterator}_iterator")
        iterator = make(dataset(4))
        batch = iterator.get_next()
        table = create("t")
        rows = lookup(table, wordy(batch))
        mx.modify_graph_and_start_emb_cache()
        later = iterator.get_next("later")
        tf.nest.assert_same_structure(later, batch)
        assert later["label"].op.name == "later"
        more = []
        if again:
            more.append(lookup(table, wordy(later)))
            mx.modify_graph_and_start_emb_cache()
            assert op_between(keys_of(more[0])) == []
            assert tf.nest.map_structure(lambda t: t.shape, later) == {
                name: tensor.shape for name, tensor in batch.items()
            }
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            if make_iterator == "initializable":
                session.run(iterator.initializer)
            one, other, *_ = session.run([batch["label"], later["label"], rows, *more])
            pair = {one.tobytes(), other.tobytes()}
            assert pair == {part(elements(4), step).tobytes() for step in range(2)}
            for step in (2, 3):  # each by itself
                got = session.run(later["label"] if step == 2 else batch["label"])
                np.testing.assert_array_equal(got, part(elements(4), step))


def test_handles_and_optionals_are_refused(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(dataset(2))
        lookup(create("t"), wordy(iterator.get_next()))
        mx.modify_graph_and_start_emb_cache()
        for method in (iterator.string_handle, iterator.get_next_as_optional):
            with pytest.raises(RuntimeError, match=r"\(\) of iterator 'IteratorV2' was called aft"):
                method()


@pytest.mark.parametrize("kind", ["MakeIterator", "IteratorGetNext"])
def test_ops_on_the_old_iterator_are_refused(start: Any, kind: str) -> None:
    start()
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(dataset(2))
        handle = iterator._iterator_resource
        batch = iterator.get_next()
        rows = lookup(create("t"), wordy(batch))
        mx.modify_graph_and_start_emb_cache()
        if kind == "MakeIterator":
            tf.raw_ops.MakeIterator(dataset=dataset(1)._variant_tensor, iterator=handle)
        else:
            tensors = list(batch.values())
            tf.raw_ops.IteratorGetNext(
                iterator=handle,
                output_types=[each.dtype for each in tensors],
                output_shapes=[each.shape for each in tensors],
            )
        with v1.Session() as session, pytest.raises(RuntimeError, match=rf"{kind}.*IteratorV2"):
            session.run(rows)


def test_savers_are_told_that_preparing_is_state(start: Any, tmp_path: Path) -> None:
    start()
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(dataset(2))
        rows = lookup(create("t"), wordy(iterator.get_next()))
        mx.modify_graph_and_start_emb_cache()
        saver = v1.train.Saver([tf.data.experimental.make_saveable_from_iterator(iterator)])
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            session.run(rows)
            with pytest.raises(tf.errors.FailedPreconditionError, match="MxrecPrepare is stateful"):
                saver.save(session, str(tmp_path / "iterator"))


@pytest.mark.parametrize("way", ["saveable", "collection"])
def test_savers_save_the_new_iterator(start: Any, tmp_path: Path, way: str) -> None:
    start()
    with tf.Graph().as_default() as graph:
        iterator = v1.data.make_initializable_iterator(dataset(6))
        batch = iterator.get_next()
        rows = lookup(create("t"), wordy(batch))
        mx.modify_graph_and_start_emb_cache()
        (handle,) = graph.get_collection("iterators")
        assert handle.name.startswith("mxrec_rewrite/")
        if way == "saveable":
            saveable = tf.data.experimental.make_saveable_from_iterator(iterator, "ignore")
        else:  # as CheckpointInputPipelineHook does
            from tensorflow.python.data.ops import iterator_ops

            saveable = iterator_ops._IteratorSaveable(
                handle, handle.name, tf.data.experimental.ExternalStatePolicy.IGNORE
            )
        saver = v1.train.Saver([saveable])
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            for _ in range(3):
                session.run(rows)
            path = saver.save(session, str(tmp_path / "iterator"))
            rest = [session.run([batch["label"], rows])[0] for _ in range(3)]
            session.run(iterator.initializer)
            saver.restore(session, path)
            for step in range(3):
                got = session.run([batch["label"], rows])[0]
                np.testing.assert_array_equal(got, rest[step])
                np.testing.assert_array_equal(got, part(elements(6), step + 3))


# --- Lookups and merges ---------------------------------------------------------------------------


@pytest.mark.parametrize("make_iterator", ITERATORS)
def test_lookups_of_the_old_batch_move_in_a_later_rewriting(start: Any, make_iterator: Any) -> None:
    start()
    with tf.Graph().as_default():
        feed = make_iterator(dataset(2))
        table = create("t")
        rows = [lookup(table, wordy(feed.batch))]
        mx.modify_graph_and_start_emb_cache()
        rows.append(lookup(table, feed.batch["id"] + 7))
        with warnings_of() as warnings:
            mx.modify_graph_and_start_emb_cache()
        assert not warnings
        assert [op_between(keys_of(each)) for each in rows] == [[], []]
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            ids, *_ = session.run([feed.batch["id"], *rows])
            np.testing.assert_array_equal(ids, elements(2)["id"][:BATCH])
        assert (table.counts(ids.ravel() + 7) > 0).all()


def test_merging_after_a_rewriting_warns(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        feed = initializable(dataset(2))
        table = create("t")
        rows = [lookup(table, wordy(feed.batch)), lookup(table, feed.batch["small"])]
        mx.modify_graph_and_start_emb_cache()
        with warnings_of() as warnings:
            mx.do_merge_lookup()
        (warning,) = warnings
        assert "table 't'" in warning
        assert "do_merge_lookup before modify_graph_and_start_emb_cache" in warning
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), *feed.initializers])
            assert session.run(rows)[0].shape == (BATCH, 4)
        assert table.stats()["prepared_lookups"] == 0


def test_a_merge_before_the_rewriting_does_not_warn(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        batch = one_shot(dataset(2)).batch
        table = create("t")
        rows = [lookup(table, wordy(batch)), lookup(table, batch["id"][:, 0])]
        with warnings_of() as warnings:
            mx.do_merge_lookup()
            mx.modify_graph_and_start_emb_cache()
        assert not warnings
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(rows)
        assert table.stats()["prepared_lookups"] == 1


# --- Ids that cannot be computed ------------------------------------------------------------------


@pytest.mark.parametrize("rewritten", [False, True])
def test_bad_ids_fail_their_batch_whether_they_are_looked_up_or_not(
    start: Any, rewritten: bool
) -> None:
    """In a plain graph only the steps that look them up."""
    start()
    columns = elements(3)
    columns["number"] = columns["number"].astype("U7")
    columns["number"][BATCH] = "garbage"  # in the second of three batches
    with tf.Graph().as_default():
        data = v1.data.Dataset.from_tensor_slices(columns).batch(BATCH)
        batch = one_shot(data).batch
        table = create("t")
        rows = lookup(table, tf.strings.to_number(batch["number"], tf.int64))
        if rewritten:
            mx.modify_graph_and_start_emb_cache()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(rows)
            size = table.size()
            if rewritten:
                with pytest.raises(tf.errors.InvalidArgumentError, match="garbage"):
                    session.run(batch["label"])
            else:
                np.testing.assert_array_equal(session.run(batch["label"]), part(columns, 1))
            assert table.size() == size
            # The batch is gone, and the iterator goes on.
            got, _ = session.run([batch["label"], rows])
            np.testing.assert_array_equal(got, part(columns, 2))


# --- From one init to the next --------------------------------------------------------------------


def test_a_batch_from_before_init_keeps_its_structure(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        feed = initializable(dataset(2).map(lambda d: (d["word"], {"y": [d["label"]]})))
        start()
        rows = lookup(create("t"), tf.strings.to_hash_bucket_fast(feed.batch[0], 100))
        mx.modify_graph_and_start_emb_cache()
        batch = mx.get_target_batch(True)
        tf.nest.assert_same_structure(batch, feed.batch)
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), mx.get_initializer(True)])
            got, _ = session.run([batch[1]["y"][0], rows])
        np.testing.assert_array_equal(got, part(elements(2), 0))


def test_a_rewritten_graph_stays_one(start: Any) -> None:
    start()
    with tf.Graph().as_default():
        feed = initializable(dataset(4))
        lookup(create("t"), wordy(feed.batch))
        mx.modify_graph_and_start_emb_cache()
        start()
        create("t")  # the pipeline looks for it
        late = feed.batch["label"] + 1
        with v1.Session() as session:
            session.run(feed.initializers)
            got = session.run([feed.batch["label"], late, feed.batch["label"].name])
            np.testing.assert_array_equal(got[0], part(elements(4), 0))
            np.testing.assert_array_equal(got[1], got[0] + 1)
            np.testing.assert_array_equal(got[2], got[0])
