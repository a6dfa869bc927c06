"""The TensorFlow ops one by one: values, static shapes, modes of execution, errors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import mxrec  # noqa: E402
from mxrec import _mxrec  # noqa: E402

OPS = tf.load_op_library(str(Path(mxrec.__file__).parent / "_mxrec_tf.so"))
DIM = 3
INITIAL = 0.5

TableMaker = Callable[..., "_mxrec.Table"]


@pytest.fixture
def make_table() -> Iterator[TableMaker]:
    """Makes registered tables whose rows start at INITIAL and learn by plain SGD."""
    names: list[str] = []

    def make(name: str = "user", dim: int = DIM, **options: object) -> "_mxrec.Table":
        table = _mxrec.Table(
            name,
            dim,
            optimizer=_mxrec.OptimizerOptions("SGD"),
            initializer=_mxrec.InitializerOptions("Constant", value=INITIAL),
            **options,
        )
        _mxrec.register_table(name, table)
        names.append(name)
        return table

    yield make
    for name in names:
        _mxrec.unregister_table(name)


def resource(name: str) -> tf.Tensor:
    return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[0, DIM], shared_name=name)


def handle(name: str = "user") -> tf.Tensor:
    return resource("mxrec/" + name)


def proxy() -> tf.Tensor:
    return resource("proxy")


def like(dim: int = DIM) -> tf.Tensor:
    return tf.zeros([0, dim])


def lookup(ids: object, *, unique_size: int = 0, name: str = "user", dtype=tf.int64):
    return OPS.mxrec_lookup(
        table=handle(name),
        proxy=proxy(),
        ids=tf.convert_to_tensor(ids, dtype),
        like=like(),
        absent=[],
        timestamps=[],
        unique_size=unique_size,
    )


def lookup_unique(ids: object, *, unique_size: int = 0):
    return OPS.mxrec_lookup_unique(
        table=handle(),
        proxy=proxy(),
        ids=tf.convert_to_tensor(ids, tf.int64),
        like=like(),
        absent=[],
        timestamps=[],
        unique_size=unique_size,
    )


def read(ids: object, absent: object = (), dtype=tf.int64) -> tf.Tensor:
    return OPS.mxrec_read(
        table=handle(),
        ids=tf.convert_to_tensor(ids, dtype),
        like=like(),
        absent=tf.constant(absent, tf.float32),
    )


def insert(keys: list[int], values: np.ndarray) -> None:
    OPS.mxrec_insert(
        table=handle(),
        keys=tf.constant(keys, tf.int64),
        values=tf.constant(values, tf.float32),
    )


def rows_of(*keys: int) -> np.ndarray:
    """Values that tell rows and columns apart."""
    return np.array([[k + c / 10 for c in range(DIM)] for k in keys], np.float32)


# --- Lookups -------------------------------------------------------------------------------------


def test_lookup_returns_values_and_the_unique_keys_in_order(make_table: TableMaker) -> None:
    table = make_table()
    insert([5, -7], rows_of(5, -7))
    values, keys, addresses, inverse = lookup([[-7, 5, 9], [5, -7, 9]])
    np.testing.assert_array_equal(keys, [-7, 5, 9])
    np.testing.assert_array_equal(inverse, [[0, 1, 2], [1, 0, 2]])
    assert len(set(addresses.numpy())) == 3 and addresses.numpy().min() >= 0
    expected = np.concatenate([rows_of(-7, 5), np.full([1, DIM], INITIAL)])
    np.testing.assert_array_equal(values, expected[inverse.numpy()])
    assert len(table) == 3


def test_lookup_without_repetitions(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2, 3], rows_of(1, 2, 3))
    values, keys, _, inverse = lookup([3, 1, 2])
    np.testing.assert_array_equal(values, rows_of(3, 1, 2))
    np.testing.assert_array_equal(keys, [3, 1, 2])
    np.testing.assert_array_equal(inverse, [0, 1, 2])


def test_int32_ids_are_the_same_keys(make_table: TableMaker) -> None:
    make_table()
    wide = lookup([-1, 7, -1])
    narrow = lookup([-1, 7, -1], dtype=tf.int32)
    for a, b in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(read([7, -1], dtype=tf.int32), np.full([2, DIM], INITIAL))
    missing = OPS.mxrec_missing(table=handle(), ids=tf.constant([7, 8], tf.int32))
    np.testing.assert_array_equal(missing, [8])


def test_extreme_keys(make_table: TableMaker) -> None:
    make_table()
    keys = [0, -1, 2**63 - 1, -(2**63)]
    np.testing.assert_array_equal(lookup(keys)[1], keys)


def test_a_scalar_id(make_table: TableMaker) -> None:
    make_table()
    values, keys, _, inverse = lookup(4)
    assert values.shape == [DIM]
    assert keys.shape == [1]
    assert inverse.shape == []


@pytest.mark.parametrize("shape", [[0], [0, 4], [4, 0]])
def test_an_empty_batch(make_table: TableMaker, shape: list[int]) -> None:
    table = make_table()
    ids = np.zeros(shape, np.int64)
    values, keys, addresses, inverse = lookup(ids)
    assert values.shape == [*shape, DIM]
    assert keys.shape == addresses.shape == [0]
    assert inverse.shape == shape
    assert lookup_unique(ids).rows.shape == [0, DIM]
    assert read(ids).shape == [*shape, DIM]
    assert OPS.mxrec_missing(table=handle(), ids=ids).shape == [0]
    assert len(table) == 0


def test_unique_then_restore_is_lookup(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2, 3], rows_of(1, 2, 3))
    ids = [[3, 1], [1, 2], [3, 3]]
    fused = lookup(ids)
    rows, keys, addresses, inverse = lookup_unique(ids)
    np.testing.assert_array_equal(rows, rows_of(3, 1, 2))
    np.testing.assert_array_equal(keys, fused.unique_keys)
    np.testing.assert_array_equal(addresses, fused.addresses)
    np.testing.assert_array_equal(inverse, fused.inverse)
    restored = OPS.mxrec_restore(rows=rows, inverse=inverse)
    np.testing.assert_array_equal(restored, fused[0])


def test_unique_size_pads(make_table: TableMaker) -> None:
    make_table()
    insert([8], rows_of(8))
    rows, keys, addresses, inverse = lookup_unique([8, 8, 8], unique_size=3)
    np.testing.assert_array_equal(rows, np.concatenate([rows_of(8), np.zeros([2, DIM])]))
    np.testing.assert_array_equal(keys, [8, 8, 8])  # a key of the batch: no other is touched
    np.testing.assert_array_equal(addresses.numpy()[1:], [-1, -1])
    np.testing.assert_array_equal(inverse, [0, 0, 0])
    values, keys, _, _ = lookup([8, 8, 8], unique_size=5)
    np.testing.assert_array_equal(values, rows_of(8, 8, 8))
    assert keys.shape == [5]
    _, keys, _, _ = lookup(np.zeros(0, np.int64), unique_size=2)
    assert keys[0] == keys[1] != 8


def test_more_keys_than_unique_size_are_refused_and_not_inserted(make_table: TableMaker) -> None:
    table = make_table()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"3 distinct keys.*send_count"):
        lookup([1, 2, 3], unique_size=2)
    assert len(table) == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="unique_size is -1"):
        lookup([1], unique_size=-1)


def test_padding_keys_have_no_address(make_table: TableMaker) -> None:
    make_table(padding_keys=[0])
    _, keys, addresses, _ = lookup([0, 4, 0])
    np.testing.assert_array_equal(keys, [0, 4])
    assert addresses.numpy()[0] == -1 and addresses.numpy()[1] >= 0


def test_read_changes_nothing(make_table: TableMaker) -> None:
    table = make_table()
    insert([1], rows_of(1))
    np.testing.assert_array_equal(read([1, 2]), np.concatenate([rows_of(1), np.zeros([1, DIM])]))
    absent = [7.0, 8.0, 9.0]
    np.testing.assert_array_equal(read([2, 1], absent), np.concatenate([[absent], rows_of(1)]))
    assert len(table) == 1


# --- Ops without a table -------------------------------------------------------------------------


def test_restore_reads_zeros_for_negative_indices() -> None:
    values = OPS.mxrec_restore(rows=rows_of(1, 2), inverse=[[1, -1], [0, 1]])
    expected = [rows_of(2)[0], np.zeros(DIM)], rows_of(1, 2)
    np.testing.assert_array_equal(values, np.array([expected[0], expected[1]], np.float32))


def test_segment_sum() -> None:
    values = np.arange(4 * DIM, dtype=np.float32).reshape(2, 2, DIM)
    sums = OPS.mxrec_segment_sum(values=values, inverse=[[2, 0], [0, 0]], unique=[11, 12, 13, 14])
    flat = values.reshape(4, DIM)
    np.testing.assert_array_equal(
        sums, [flat[1] + flat[2] + flat[3], np.zeros(DIM), flat[0], np.zeros(DIM)]
    )


def test_indices_beyond_the_rows_are_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"inverse\[1\] is 2, there are 2"):
        OPS.mxrec_restore(rows=rows_of(1, 2), inverse=[0, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"inverse\[0\] is 1, there are 1"):
        OPS.mxrec_segment_sum(values=rows_of(1), inverse=[1], unique=[1])


def test_segment_sum_of_another_shape_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2, 3\], wanted \[1, 3\]"):
        OPS.mxrec_segment_sum(values=rows_of(1, 2), inverse=[0], unique=[1])


# --- Updates -------------------------------------------------------------------------------------


def apply_keys(keys: list[int], grads: np.ndarray, learning_rate: float = 0.5) -> None:
    OPS.mxrec_apply_keys(
        table=handle(),
        keys=tf.constant(keys, tf.int64),
        grads=tf.constant(grads, tf.float32),
        learning_rate=learning_rate,
    )


def apply_addresses(addresses, grads, stale: str = "reject") -> None:
    OPS.mxrec_apply_addresses(
        table=handle(), addresses=addresses, grads=grads, learning_rate=0.5, stale=stale
    )


def test_apply_to_keys(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2], rows_of(1, 2))
    apply_keys([2, 99], np.ones([2, DIM]))
    np.testing.assert_array_equal(read([1, 2, 99])[0], rows_of(1)[0])
    np.testing.assert_allclose(read([2])[0], rows_of(2)[0] - 0.5)
    apply_keys([], np.ones([0, DIM]))


def test_apply_to_addresses_skips_padding(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2], rows_of(1, 2))
    _, _, addresses, _ = lookup_unique([2, 1], unique_size=4)
    apply_addresses(addresses, np.ones([4, DIM], np.float32))
    np.testing.assert_allclose(read([1, 2]), rows_of(1, 2) - 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_are_refused(make_table: TableMaker, bad: float) -> None:
    make_table()
    insert([1, 2], rows_of(1, 2))
    grads = np.ones([2, DIM], np.float32)
    grads[1, 2] = bad
    addresses = lookup([1, 2]).addresses
    with pytest.raises(tf.errors.InvalidArgumentError):
        apply_keys([1, 2], grads)
    with pytest.raises(tf.errors.InvalidArgumentError):
        apply_addresses(addresses, grads)
    np.testing.assert_array_equal(read([1, 2]), rows_of(1, 2))


def test_addresses_of_no_row(make_table: TableMaker) -> None:
    make_table()
    insert([1], rows_of(1))
    invalid = tf.constant([2**60 + 12345], tf.int64)
    with pytest.raises(tf.errors.InvalidArgumentError):
        apply_addresses(invalid, np.ones([1, DIM], np.float32))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="stale"):
        apply_addresses(invalid, np.ones([1, DIM], np.float32), stale="ignore")
    np.testing.assert_array_equal(read([1]), rows_of(1))


def test_gradients_of_another_shape_are_refused(make_table: TableMaker) -> None:
    make_table()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"grads has shape \[2, 2\].*\[2, 3\]"):
        apply_keys([1, 2], np.ones([2, 2]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"learning_rate.*rank 0"):
        apply_keys([1], np.ones([1, DIM]), learning_rate=[0.1])


# --- Table information ---------------------------------------------------------------------------


def test_missing_and_insert(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2], rows_of(1, 2))
    ids = tf.constant([[9, 1], [8, 9]], tf.int64)
    np.testing.assert_array_equal(OPS.mxrec_missing(table=handle(), ids=ids), [9, 8])
    insert([2, 3], rows_of(20, 3))
    np.testing.assert_array_equal(read([1, 2, 3]), rows_of(1, 2, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"values has shape \[1, 3\]"):
        insert([4, 5], rows_of(4))


def test_size_and_capacity(make_table: TableMaker) -> None:
    make_table()
    make_table("bounded", memory_rows=100)
    lookup([1, 2, 1])
    assert OPS.mxrec_size(table=handle()) == 2
    assert OPS.mxrec_capacity(table=handle()) == -1
    assert OPS.mxrec_capacity(table=handle("bounded")) == 100


# --- Errors --------------------------------------------------------------------------------------


def test_an_unknown_table_is_not_found() -> None:
    with pytest.raises(tf.errors.NotFoundError, match=r"table 'nobody'.*create_table"):
        OPS.mxrec_size(table=handle("nobody"))


def test_a_resource_without_the_prefix_is_refused(make_table: TableMaker) -> None:
    make_table("other")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'other'.*no mxrec table"):
        OPS.mxrec_size(table=resource("other"))


def test_a_resource_of_another_kind_is_refused(make_table: TableMaker) -> None:
    make_table("hash")
    other = tf.raw_ops.HashTableV2(
        key_dtype=tf.int64, value_dtype=tf.float32, shared_name="mxrec/hash"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'mxrec/hash'.*no mxrec table"):
        OPS.mxrec_size(table=other)


def test_another_dim_is_refused(make_table: TableMaker) -> None:
    make_table(dim=4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'user' has dim 4.*dim 3"):
        lookup([1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="dim 4"):
        read([1])


def test_absent_of_another_width_is_refused(make_table: TableMaker) -> None:
    make_table()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"absent has shape \[2\].*\[3\]"):
        read([1], [1.0, 2.0])


def test_a_full_table_is_resource_exhausted(make_table: TableMaker) -> None:
    table = make_table(memory_rows=2, num_shards=1)
    lookup([1, 2])
    with pytest.raises(tf.errors.ResourceExhaustedError, match="user"):
        lookup([3])
    assert len(table) == 2


def test_a_closed_table_is_a_failed_precondition(make_table: TableMaker) -> None:
    make_table().close()
    with pytest.raises(tf.errors.FailedPreconditionError, match="user"):
        lookup([3])


# --- Modes of execution --------------------------------------------------------------------------


def test_function_keeps_the_order_of_ops_on_one_handle(make_table: TableMaker) -> None:
    """tf.function orders ops by the handle they share, not by the name inside it."""
    make_table()
    table = handle()

    @tf.function
    def step(ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        before = OPS.mxrec_size(table=table)
        found = OPS.mxrec_lookup(
            table=table, proxy=proxy(), ids=ids, like=like(), absent=[], timestamps=[]
        )
        OPS.mxrec_apply_addresses(
            table=table,
            addresses=found.addresses,
            grads=tf.ones([tf.shape(found.addresses)[0], DIM]),
            learning_rate=0.5,
        )
        after = OPS.mxrec_size(table=table)
        return before, after, OPS.mxrec_read(table=table, ids=ids, like=like(), absent=[])

    before, after, values = step(tf.constant([3, 4, 3], tf.int64))
    assert (before.numpy(), after.numpy()) == (0, 2)
    np.testing.assert_allclose(values, np.full([3, DIM], INITIAL - 0.5))


def test_session(make_table: TableMaker) -> None:
    make_table()
    insert([1, 2], rows_of(1, 2))
    with tf.Graph().as_default():
        ids = tf.compat.v1.placeholder(tf.int64, [None])
        found = lookup(ids)
        with tf.compat.v1.Session() as session:
            values, inverse = session.run([found[0], found.inverse], {ids: [2, 1, 2]})
            np.testing.assert_array_equal(values, rows_of(2, 1, 2))
            np.testing.assert_array_equal(inverse, [0, 1, 0])
            assert session.run(OPS.mxrec_size(table=handle())) == 2
            with pytest.raises(tf.errors.NotFoundError, match="'nobody'"):
                session.run(OPS.mxrec_size(table=handle("nobody")))


def static_shapes(tensors) -> list[list[int | None] | None]:
    return [None if t.shape.rank is None else t.shape.as_list() for t in tensors]


def test_static_shapes() -> None:
    with tf.Graph().as_default():
        ids = tf.compat.v1.placeholder(tf.int64, [None, 4])
        any_rank = tf.compat.v1.placeholder(tf.int32)
        rows = tf.compat.v1.placeholder(tf.float32, [7, DIM])
        assert static_shapes(lookup(ids)) == [[None, 4, DIM], [None], [None], [None, 4]]
        assert static_shapes(lookup_unique(ids)) == [[None, DIM], [None], [None], [None, 4]]
        assert static_shapes(lookup(any_rank, dtype=tf.int32)) == [None, [None], [None], None]
        restored = OPS.mxrec_restore(rows=rows, inverse=tf.zeros([2, 5], tf.int32))
        sums = OPS.mxrec_segment_sum(
            values=tf.zeros([2, 5, DIM]),
            inverse=tf.zeros([2, 5], tf.int32),
            unique=tf.zeros([7], tf.int64),
        )
        blurred = OPS.mxrec_segment_sum(
            values=tf.compat.v1.placeholder(tf.float32),
            inverse=any_rank,
            unique=tf.zeros([7], tf.int64),
        )
        assert static_shapes([read(ids), restored, sums, blurred]) == [
            [None, 4, DIM],
            [2, 5, DIM],
            [7, DIM],
            [7, None],
        ]
        missing = OPS.mxrec_missing(table=handle(), ids=ids)
        size = OPS.mxrec_size(table=handle())
        assert static_shapes([missing, size]) == [[None], []]


def test_wrong_ranks_fail_when_the_graph_is_built() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="rank"):
            OPS.mxrec_restore(rows=tf.zeros([3]), inverse=tf.zeros([2], tf.int32))
        with pytest.raises(ValueError, match="rank"):
            OPS.mxrec_apply_keys(
                table=handle(),
                keys=tf.zeros([2, 2], tf.int64),
                grads=tf.zeros([2, DIM]),
                learning_rate=0.1,
            )


def test_statefulness() -> None:
    """Ops on a table must not be pruned or folded; the others may be."""
    with tf.Graph().as_default():
        restored = OPS.mxrec_restore(rows=rows_of(1), inverse=[0])
        size = OPS.mxrec_size(table=handle())
        assert not restored.op.op_def.is_stateful
        assert size.op.op_def.is_stateful
