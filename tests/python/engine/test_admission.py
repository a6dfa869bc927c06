"""Admission and eviction at the numpy level: arguments, errors, storage, statistics."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from contents import assert_identical, contents

import mxrec

KEYS = np.arange(6)


def make(threshold=2, mode="exact", eviction=None, **options):
    return mxrec.Table(
        "t",
        3,
        optimizer=mxrec.SGD(1.0),
        initializer=mxrec.Ones(),
        admission=mxrec.Admission(threshold, mode=mode, expected_keys=10_000),
        eviction=eviction,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(threshold=-1), ValueError, r"threshold .*\[0, 2147483647\].*-1"),
        (dict(threshold=2**31), ValueError, "threshold .*2147483648"),
        (dict(threshold=1.5), TypeError, r"threshold .*int.*1\.5"),
        (dict(threshold=True), TypeError, "threshold .*int.*True"),
        (dict(threshold=None), TypeError, "threshold .*int.*None"),
        (dict(coefficient=0), ValueError, "coefficient .*0"),
        (dict(coefficient=2**31), ValueError, "coefficient .*2147483648"),
        (dict(coefficient="2"), TypeError, "coefficient .*int"),
        (dict(mode="bloom"), ValueError, "mode .*'exact'.*'sketch'.*'bloom'"),
        (dict(mode=1), TypeError, "mode .*'exact'.*'sketch'.*1"),
        (dict(mode="sketch", threshold=16), ValueError, "threshold .*15.*4 bits.*16.*exact"),
        (dict(expected_keys=0), ValueError, "expected_keys .*0"),
        (dict(expected_keys=2**37), ValueError, "expected_keys .*137438953472"),
        (dict(expected_keys=1e6), TypeError, "expected_keys .*int"),
    ],
    ids=str,
)
def test_bad_admission(arguments, error, message):
    with pytest.raises(error, match=message):
        mxrec.Admission(**{"threshold": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(), ValueError, "max_age, max_rows or min_l2"),
        (dict(max_age=-1), ValueError, "max_age .*-1"),
        (dict(max_age=1.5), TypeError, "max_age .*int"),
        (dict(max_rows=0), ValueError, "max_rows .*0"),
        (dict(max_rows="5"), TypeError, "max_rows .*int"),
        (dict(min_l2=0.0), ValueError, "min_l2 .*above 0"),
        (dict(min_l2=-1.0), ValueError, "min_l2 .*above 0"),
        (dict(min_l2=float("nan")), ValueError, "min_l2"),
        (dict(min_l2=float("inf")), ValueError, "min_l2"),
        (dict(min_l2="1"), TypeError, "min_l2"),
    ],
    ids=str,
)
def test_bad_eviction(arguments, error, message):
    with pytest.raises(error, match=message):
        mxrec.Eviction(**arguments)


@pytest.mark.parametrize("parameter", ["admission", "eviction"])
def test_rules_are_of_their_types(parameter):
    with pytest.raises(TypeError, match=rf"{parameter} .*mxrec\..*3"):
        mxrec.Table("t", 3, **{parameter: 3})


def test_what_the_table_says_of_its_rules():
    admission, eviction = mxrec.Admission(3, 2, "sketch", 500), mxrec.Eviction(60, None, 0.1)
    table = mxrec.Table("t", 3, admission=admission, eviction=eviction)
    assert table.admission == admission and table.eviction == eviction
    plain = mxrec.Table("t", 3)
    assert plain.admission is None and plain.eviction is None


@pytest.mark.parametrize(
    ("timestamp", "error", "message"),
    [
        (-1, ValueError, r"timestamps\[0\] is -1.*\[0, 2\^32\)"),
        (2**32, ValueError, r"timestamps\[0\] is 4294967296.*milliseconds"),
        (1_700_000_000_000, ValueError, "milliseconds"),
        (2**80, ValueError, "timestamp"),
        (1.5, TypeError, r"timestamp must be an int.*got a float; pass int\(timestamp\)"),
        ("now", TypeError, "timestamp"),
        ([1, 2], TypeError, "timestamp"),
        (np.array([1.0, 2.0]), TypeError, "timestamp"),
        (np.array([[1, 2]]), ValueError, "timestamp"),
        (np.arange(4), ValueError, "timestamps has 4 elements and keys 6"),
        (np.arange(12), ValueError, "timestamps has 12 elements and keys 6"),
        (np.array([5, -5]), ValueError, r"timestamps\[1\] is -5"),
        (np.array([5, -5], np.int32), ValueError, r"timestamps\[1\] is -5"),
    ],
    ids=str,
)
def test_bad_timestamps(timestamp, error, message):
    table = make(1)
    table.lookup(KEYS[:2], timestamp=3)
    before = contents(table)
    bags = np.arange(7)
    for call in (
        lambda: table.lookup(KEYS, timestamp=timestamp),
        lambda: table.lookup_into(KEYS, np.zeros((6, 3), np.float32), timestamp=timestamp),
        lambda: table.lookup_pooled(KEYS, bags, timestamp=timestamp),
    ):
        with pytest.raises(error, match=message):
            call()
    for x, y in zip(before, contents(table), strict=True):
        np.testing.assert_array_equal(x, y)
    assert table.stats()["latest_time"] == 3


def test_timestamps_as_they_may_be_given():
    table = make(1, eviction=mxrec.Eviction(max_age=10))
    table.lookup(KEYS, timestamp=100)
    table.lookup(KEYS, timestamp=np.arange(101, 107))
    table.lookup(KEYS, timestamp=np.array([107, 109], np.int32))  # examples of three keys
    table.lookup(KEYS[:0], timestamp=110)
    table.lookup(KEYS, timestamp=50)  # backwards: the latest wins
    assert table.stats()["latest_time"] == 110
    assert table.evict(117) == 3  # those of 107
    np.testing.assert_array_equal(table.contains(KEYS), KEYS >= 3)


def test_evaluation_takes_no_notice():
    table = make(2, eviction=mxrec.Eviction(max_age=10))
    table.lookup(KEYS, timestamp=5)
    before = table.stats()
    assert not table.lookup(KEYS, train=False).any()
    assert not table.lookup(KEYS, train=False, timestamp=500).any()
    after = table.stats()
    np.testing.assert_array_equal(table.counts(KEYS), 1)
    assert after["latest_time"] == before["latest_time"] == 5
    assert after["refused_by_admission"] == before["refused_by_admission"] == 6


def test_timestamps_and_the_wall_clock_do_not_mix_where_ages_count():
    table = make(1, eviction=mxrec.Eviction(max_age=10))
    table.lookup(KEYS, timestamp=5)
    with pytest.raises(ValueError, match=r"'t' evicts by age.*timestamps, but this one has none"):
        table.lookup(KEYS)
    table = make(1, eviction=mxrec.Eviction(max_age=10))
    table.lookup(KEYS)
    with pytest.raises(ValueError, match=r"'t' evicts by age.*no timestamps, but this one has"):
        table.lookup(KEYS, timestamp=5)
    np.testing.assert_array_equal(table.counts(KEYS), 1)
    indifferent = make(1, eviction=mxrec.Eviction(max_rows=10))
    indifferent.lookup(KEYS, timestamp=5)
    indifferent.lookup(KEYS)


def test_ages_by_the_wall_clock():
    table = make(1, eviction=mxrec.Eviction(max_age=3600))
    table.lookup(KEYS)
    assert abs(table.stats()["latest_time"] - time.time()) < 60
    assert table.evict() == 0
    assert table.evict(int(time.time()) + 3700) == 6
    assert len(table) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(now=-1), ValueError, "now .*-1"),
        (dict(now=2**32), ValueError, "now .*4294967296"),
        (dict(now=1.5), TypeError, "now .*int"),
        (dict(budget=-1), ValueError, "budget .*-1"),
        (dict(budget=1.0), TypeError, "budget .*int"),
    ],
    ids=str,
)
def test_bad_evictions(arguments, error, message):
    table = make(1, eviction=mxrec.Eviction(max_age=0))
    table.lookup(KEYS, timestamp=5)
    with pytest.raises(error, match=message):
        table.evict(**arguments)
    assert len(table) == 6


def test_what_cannot_be_done():
    table = mxrec.Table("plain", 3)
    with pytest.raises(RuntimeError, match=r"'plain' has no rule of eviction.*mxrec\.Eviction"):
        table.evict()
    with pytest.raises(RuntimeError, match=r"'plain' has no admission.*mxrec\.Admission"):
        table.set_threshold(3)
    table.close()
    for call in (lambda: table.evict(), lambda: table.set_threshold(1), lambda: table.counts(KEYS)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("n", "error"), [(-1, ValueError), (2**31, ValueError), (1.0, TypeError), (None, TypeError)]
)
def test_bad_thresholds(n, error):
    table = make(3)
    with pytest.raises(error, match="n "):
        table.set_threshold(n)
    sketch = make(3, "sketch")
    with pytest.raises(ValueError, match=r"threshold .*16.*15.*sketch"):
        sketch.set_threshold(16)
    assert sketch.stats()["admission_threshold"] == 3


def test_a_budget_bounds_what_one_call_frees():
    table = make(1, eviction=mxrec.Eviction(max_age=10))
    table.lookup(KEYS, timestamp=5)
    table.lookup(KEYS[:1], timestamp=50)
    assert table.evict(budget=2) == 2
    assert len(table) == 1 and table.stats()["rows"] == 1 and table.stats()["evicting"]
    assert table.keys().tolist() == [0]
    assert table.evict(budget=0) == 0
    assert table.evict() == 3
    stats = table.stats()
    assert stats["evicted"] == stats["evicted_by_age"] == 5 and not stats["evicting"]


def test_a_key_that_is_refused_reads_zeros_and_gets_no_gradient():
    table = make(3)
    keys = np.array([7, 7, 8])
    assert not table.lookup(keys).any()
    assert table.apply_gradients(keys, np.ones((3, 3), np.float32)) == (0, 2)
    np.testing.assert_array_equal(table.counts(np.array([7, 8, 9])), [2, 1, 0])
    np.testing.assert_array_equal(table.lookup(keys)[:, 0], [1, 1, 0])  # 4 and 2
    stats = table.stats()
    assert stats["refused"] == stats["refused_by_admission"] == 3
    assert stats["admitted"] == 1 and stats["counted_keys"] == 1 and stats["rows"] == 1
    assert stats["seen"] == 6 == stats["hits"] + stats["misses"]
    parts = [value for name, value in stats.items() if name.startswith("bytes_")]
    assert stats["bytes"] == sum(parts) and len(parts) == 7


def test_threshold_zero_without_history_warns_once(tmp_path):
    table = make(0)
    with pytest.warns(UserWarning, match=r"'t' has admission threshold 0.*no key is admitted"):
        assert not table.lookup(KEYS).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.lookup(KEYS)
        table.lookup_pooled(KEYS, np.arange(7))
        make(0).lookup(KEYS, train=False)
    assert len(table) == 0
    np.testing.assert_array_equal(table.counts(KEYS), 0)
    assert table.stats()["admission_threshold"] is None and table.stats()["admission_frozen"]


def test_threshold_zero_with_a_history_goes_by_it(tmp_path):
    table = make(3)
    table.lookup(np.array([1, 1, 2]))
    table.save(tmp_path / "saved")
    other = make(0)
    other._engine.restore(str(tmp_path / "saved"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.lookup(np.array([1, 2, 3]))
    np.testing.assert_array_equal(other.counts(np.array([1, 2, 3])), [2, 1, 0])
    assert len(other) == 0 and other.stats()["admission_threshold"] == 3
    other.set_threshold(2)
    other.lookup(np.array([1, 2, 3]))
    assert sorted(other.keys().tolist()) == [1, 2]


@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_save_and_load(mode, rng, tmp_path):
    table = mxrec.Table(
        "t",
        4,
        optimizer=mxrec.Adagrad(0.1),
        admission=mxrec.Admission(4, 2, mode, 3000),
        eviction=mxrec.Eviction(max_age=100, max_rows=5000, min_l2=0.001),
    )
    for step in range(20):
        keys = rng.zipf(1.2, 500)
        table.lookup(keys, timestamp=1000 + step)
        table.apply_gradients(keys, rng.normal(size=(500, 4)).astype(np.float32))
    table.set_threshold(6)
    table.save(tmp_path / "saved")
    everything = np.arange(5000)
    for num_shards in (1, 64):
        loaded = mxrec.Table.load(tmp_path / "saved", num_shards=num_shards)
        assert loaded.admission == table.admission and loaded.eviction == table.eviction
        assert_identical(table, loaded)
        np.testing.assert_array_equal(loaded.counts(everything), table.counts(everything))
        same = ("rows", "counted_keys", "latest_time", "admission_threshold", "admission_frozen")
        a, b = table.stats(), loaded.stats()
        assert {k: a[k] for k in same} == {k: b[k] for k in same}
        assert a["latest_time"] == 1019 and a["admission_threshold"] == 6
    # Both go on alike.
    for each in (table, loaded):
        each.lookup(everything, timestamp=1100)
        each.evict(1110)
    assert_identical(table, loaded)
    np.testing.assert_array_equal(loaded.counts(everything), table.counts(everything))


def test_counts_of_another_kind_are_refused(tmp_path):
    table = make(3)
    table.lookup(KEYS)
    table.save(tmp_path / "saved")
    other = make(3, "sketch")
    other.lookup(KEYS)
    with pytest.raises(RuntimeError, match=r"mode sketch.*mode exact"):
        other._engine.restore(str(tmp_path / "saved"))
    np.testing.assert_array_equal(other.counts(KEYS), 1)


def test_stats_of_a_table_without_rules():
    stats = mxrec.Table("t", 3).stats()
    expected = {
        "refused": 0,
        "refused_by_capacity": 0,
        "refused_by_admission": 0,
        "admitted": 0,
        "evicted": 0,
        "evicted_by_age": 0,
        "evicted_by_rows": 0,
        "evicted_by_l2": 0,
        "evicting": False,
        "counted_keys": 0,
        "bytes_admission": 0,
        "latest_time": 0,
        "admission_threshold": None,
        "admission_frozen": False,
    }
    assert {key: stats[key] for key in expected} == expected


def test_erase_and_assign_and_counts():
    table = make(3)
    table.lookup(np.array([1, 1, 2]))
    assert table.erase(np.array([1])) == 0
    np.testing.assert_array_equal(table.counts(np.array([1, 2])), [0, 1])
    table.assign(np.array([2]), np.zeros((1, 3), np.float32))  # a row of its own accord
    assert len(table) == 1 and table.stats()["counted_keys"] == 0
    np.testing.assert_array_equal(table.counts(np.array([2])), [1])


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_without_keys_says_nothing_about_times(first):
    table = mxrec.Table("t", 2, eviction=mxrec.Eviction(max_age=10))
    nothing = np.zeros(0, np.int64)
    if not first:
        table.lookup(np.array([1]), timestamp=5)
    table.lookup(nothing, timestamp=nothing)
    table.lookup(np.array([1]), timestamp=np.array([7]))
    table.lookup(nothing)
    table.lookup(np.array([1]), timestamp=np.int64(8))
    table.lookup(np.array([1]), timestamp=np.array(9, np.int32))
    assert table.stats()["latest_time"] == 9
    with pytest.raises(ValueError, match="this one has none"):
        table.lookup(np.array([1]))
    with pytest.raises(TypeError, match="timestamp must be an int"):
        table.lookup(np.array([1]), timestamp=True)


def test_a_loaded_table_that_admits_nobody_says_so(tmp_path):
    mxrec.Table("t", 2, admission=mxrec.Admission(0)).save(tmp_path / "t")
    table = mxrec.Table.load(tmp_path / "t")
    with pytest.warns(UserWarning, match="no key is admitted"):
        table.lookup(np.array([1]))
    mxrec.Table("u", 2).save(tmp_path / "u")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mxrec.Table.load(tmp_path / "u").lookup(np.array([1]))


# --- Loading with other rules -------------------------------------------------------------------


def saved_with_counts(path, mode="exact", threshold=4):
    """1 has a row; 2 and 3 have counts of 2 and 1."""
    table = make(threshold, mode)
    table.lookup(np.array([1] * 4 + [2, 2, 3]), timestamp=100)
    table.save(path)
    return table


@pytest.mark.parametrize("mode", ["exact", "sketch"])
def test_load_with_another_threshold(mode, tmp_path):
    saved_with_counts(tmp_path / "saved", mode)
    rule = mxrec.Admission(3, 2, mode, 10_000)
    table = mxrec.Table.load(tmp_path / "saved", admission=rule, num_shards=4)
    assert table.admission == rule and table.num_shards == 4 and table.dim == make().dim
    assert table.keys().tolist() == [1]
    np.testing.assert_array_equal(table.counts(np.array([1, 2, 3])), [4, 2, 1])
    table.lookup(np.array([2, 4]))  # 2 and another occurrence, which counts two
    assert sorted(table.keys().tolist()) == [1, 2]
    # What was given is what is saved.
    table.save(tmp_path / "again")
    again = mxrec.Table.load(tmp_path / "again")
    assert again.admission == rule and again.stats()["admission_threshold"] == 3
    np.testing.assert_array_equal(again.counts(np.array([1, 2, 4])), [4, 4, 2])


def test_load_with_the_saved_threshold_keeps_the_one_in_force(tmp_path):
    table = saved_with_counts(tmp_path / "saved")
    table.set_threshold(7)
    table.save(tmp_path / "saved")
    for threshold, in_force in ((4, 7), (0, 7), (5, 5)):
        rule = mxrec.Admission(threshold, expected_keys=10_000)
        loaded = mxrec.Table.load(tmp_path / "saved", admission=rule)
        stats = loaded.stats()
        assert stats["admission_threshold"] == in_force
        assert stats["admission_frozen"] == (threshold == 0)
        loaded.set_threshold(2)  # also after a load
        loaded.lookup(np.array([3]))
        assert loaded.contains(np.array([3])).all()


def test_load_gives_admission_to_a_table_without(tmp_path):
    plain = mxrec.Table("t", 2, optimizer=mxrec.Adagrad(0.1), memory_rows=50)
    plain.lookup(np.array([1, 2]))
    plain.apply_gradients(np.array([1]), np.ones((1, 2), np.float32))
    plain.save(tmp_path / "saved")
    table = mxrec.Table.load(tmp_path / "saved", admission=mxrec.Admission(2))
    table.lookup(np.array([3, 4, 4]))
    assert sorted(table.keys().tolist()) == [1, 2, 4]
    assert table.memory_rows == 50 and table.optimizer == plain.optimizer
    np.testing.assert_array_equal(table.lookup(np.array([1])), plain.lookup(np.array([1])))


def test_load_with_other_eviction(tmp_path):
    saved_with_counts(tmp_path / "saved")
    table = mxrec.Table.load(tmp_path / "saved", eviction=mxrec.Eviction(max_age=10))
    assert table.eviction == mxrec.Eviction(max_age=10)
    assert table.admission == mxrec.Admission(4, expected_keys=10_000)
    assert table.evict(now=109) == 0 and table.evict(now=110) == 1


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        (dict(admission=3), TypeError, r"admission must be a mxrec\.Admission or None, got 3"),
        (dict(eviction=3), TypeError, r"eviction must be a mxrec\.Eviction or None, got 3"),
        (
            dict(admission=mxrec.Admission(3, mode="sketch")),
            RuntimeError,
            "admission mode sketch for 4194304 keys but the saved counts are of mode exact",
        ),
    ],
)
def test_load_refuses_rules(rules, error, message, tmp_path):
    saved_with_counts(tmp_path / "saved")
    with pytest.raises(error, match=message):
        mxrec.Table.load(tmp_path / "saved", **rules)
