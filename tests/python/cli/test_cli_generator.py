"""The generated impressions: determinism, the planted signal, keys that keep arriving."""

from __future__ import annotations

import numpy as np
import pytest

from mxrec.cli.criteo import CATEGORIES, to_hex
from mxrec.cli.criteo_synthetic import (
    CHUNK_ROWS,
    IMPRESSIONS_PER_SECOND,
    SLOTS,
    START_TIME,
    CriteoSynthetic,
)
from mxrec.cli.examples import Examples, NumericScaler, batches
from mxrec.cli.hashing import hash_bytes
from mxrec.cli.metrics import expected_auc, log_loss, roc_auc
from mxrec.cli.sources import SyntheticSource


def test_chunks_depend_on_seed_and_number_only() -> None:
    first = CriteoSynthetic(3)
    first.chunk(0)
    late = first.chunk(4)
    again = CriteoSynthetic(3).chunk(4)
    np.testing.assert_array_equal(late.rows.labels, again.rows.labels)
    np.testing.assert_array_equal(late.rows.integers, again.rows.integers)
    np.testing.assert_array_equal(late.rows.categories, again.rows.categories)
    np.testing.assert_array_equal(late.probabilities, again.probabilities)
    other = CriteoSynthetic(4).chunk(4)
    assert not np.array_equal(late.rows.categories, other.rows.categories)


def test_stream_does_not_depend_on_its_length() -> None:
    short = Examples.concatenate(list(SyntheticSource(1000, 0, 0.1).train()))
    long = next(iter(SyntheticSource(70_000, 0, 0.1).train()))
    np.testing.assert_array_equal(short.keys, long.keys[: len(short)])


def test_ranges_cover_the_stream() -> None:
    impressions = CHUNK_ROWS + 1000
    source = SyntheticSource(impressions, 0, 0.5)
    rows = [Examples.concatenate(list(part)) for part in (source.train(), source.holdout())]
    assert [len(part) for part in rows] == [source.train_rows, source.holdout_rows]
    generator = CriteoSynthetic(0)
    labels = np.concatenate([generator.chunk(0).rows.labels, generator.chunk(1).rows.labels])[
        :impressions
    ]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in rows]), labels)


def test_time_goes_on_with_the_impressions() -> None:
    impressions = CHUNK_ROWS + 1000
    source = SyntheticSource(impressions, 0, 0.5)
    rows = Examples.concatenate([*source.train(), *source.holdout()])
    assert rows.timestamps is not None
    assert rows.timestamps.dtype == np.int64
    np.testing.assert_array_equal(
        rows.timestamps, START_TIME + np.arange(impressions) // IMPRESSIONS_PER_SECOND
    )


def test_bayes_auc_is_that_of_the_true_probabilities() -> None:
    chunk = CriteoSynthetic(1).chunk(2)
    bayes = expected_auc(chunk.probabilities)
    assert 0.75 < bayes < 0.9
    # One standard error of the AUC of 65,536 impressions is about 0.002.
    assert roc_auc(chunk.rows.labels, chunk.probabilities) == pytest.approx(bayes, abs=0.01)
    assert chunk.rows.labels.mean() == pytest.approx(chunk.probabilities.mean(), abs=0.01)


def test_new_keys_keep_arriving_in_growing_slots() -> None:
    generator = CriteoSynthetic(0)
    early, late = generator.chunk(0).rows.categories, generator.chunk(10).rows.categories
    growing = [number for number, slot in enumerate(SLOTS) if slot.growth >= 0.05]
    fixed = [number for number, slot in enumerate(SLOTS) if slot.initial < 30]
    assert len(growing) >= 5
    for number in growing:
        assert len(np.setdiff1d(late[:, number], early[:, number])) > 1000
    for number in fixed:
        assert len(np.setdiff1d(late[:, number], early[:, number])) <= 3
    assert len(SLOTS) == CATEGORIES


def test_keys_follow_zipf() -> None:
    counts = np.sort(
        np.unique(CriteoSynthetic(0).chunk(0).rows.categories[:, 0], return_counts=True)[1]
    )[::-1]
    assert counts[0] > 5 * counts[9] > 10 * counts[99]


def test_seed_out_of_range() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        CriteoSynthetic(-1)


def test_hex_digits() -> None:
    codes = np.array([[0, 0xABCDEF], [0xFFFFFFFF, 0x68FD1E64]], dtype=np.uint32)
    assert to_hex(codes).tolist() == [[b"00000000", b"00abcdef"], [b"ffffffff", b"68fd1e64"]]


def test_hash_is_stable_and_independent_of_the_item_width() -> None:
    values = [b"", b"a", b"68fd1e64", b"more than eight bytes", b"68fd1e64" + b"x"]
    keys = hash_bytes(np.array(values))
    np.testing.assert_array_equal(keys, hash_bytes(np.array(values, dtype="S77")))
    np.testing.assert_array_equal(keys, [hash_bytes(np.array([value]))[0] for value in values])
    assert len(set(keys.tolist())) == len(values)
    # Fixed values: keys are stored in checkpoints, so they must never change.
    assert keys[:3].tolist() == [-2152535657050944081, 5718913436695043505, 8746588002480675573]
    with pytest.raises(TypeError, match="dtype"):
        hash_bytes(np.array([1, 2]))


def test_auc_counts_ties_as_half() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    scores = rng.integers(0, 20, 300).astype(np.float32)
    positive, negative = scores[labels == 1], scores[labels == 0]
    difference = positive[:, None] - negative[None, :]
    expected = np.mean(difference > 0) + 0.5 * np.mean(difference == 0)
    assert roc_auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert roc_auc([0, 1], [0.2, 0.3]) == 1.0
    assert np.isnan(roc_auc([1, 1], [0.2, 0.3]))


def test_log_loss_of_extreme_logits() -> None:
    assert log_loss([1, 0], [1000.0, -1000.0]) == 0.0
    assert log_loss([0], [1000.0]) == 1000.0


def test_batches_keep_every_row_in_order() -> None:
    sizes = [5, 1, 13, 2, 8]
    values = np.arange(sum(sizes), dtype=np.float32)
    ends = np.cumsum(sizes)
    chunks = [
        Examples(
            values[end - size : end],
            values[end - size : end, None],
            values[end - size : end, None].astype(np.int64),
        )
        for size, end in zip(sizes, ends, strict=True)
    ]
    cut = list(batches(chunks, 4))
    assert [len(batch) for batch in cut] == [4] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in cut]), values)
    shuffled = np.concatenate(
        [batch.labels for batch in batches(chunks, 4, np.random.default_rng(0))]
    )
    assert sorted(shuffled.tolist()) == values.tolist()


def test_scaler() -> None:
    numeric = np.float32([[1, 5, np.nan], [2, 5, np.nan], [np.nan, 5, np.nan], [1e30, 5, np.nan]])
    scaled = NumericScaler.fit(numeric)(numeric)
    assert np.isfinite(scaled).all()
    assert scaled[2, 0] == 0.0
    np.testing.assert_array_equal(scaled[:, 1:], 0.0)
