"""An embedding table for numpy arrays."""

import math
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mxrec import _mxrec, initializers, optimizers
from mxrec._admission_calls import AdmissionCalls
from mxrec._fields import boolean, integer, path_text, value_dtype_name
from mxrec._tier_calls import TierCalls, tier_options
from mxrec.admission import Admission, Eviction
from mxrec.checkpoints import foreign, loading
from mxrec.initializers import Initializer
from mxrec.optimizers import Optimizer

__all__ = ["ApplyResult", "Table"]

Keys = NDArray[np.int64] | NDArray[np.int32]
Floats = NDArray[np.float32]
Timestamp = int | NDArray[np.int64] | NDArray[np.int32] | None

_CHUNK_ROWS = 65_536


class ApplyResult(NamedTuple):
    """What became of the gradients of one call.

    Attributes:
        updated: Rows that were updated.
        skipped: Distinct keys that have no row; their gradients had no effect.
    """

    updated: int
    skipped: int


class Table(AdmissionCalls, TierCalls):
    """A table of embeddings that grows with its keys.

    A key is any int64; its row is ``dim`` values, followed by what the optimizer remembers about
    it. Values are float32 wherever they enter or leave the table, whatever they are stored as. The
    rows after a sequence of calls do not depend on the number of threads or shards.

    Every method may be called from any thread. A call works on its whole batch or, when it raises,
    has changed nothing. Arrays are taken as they are or refused: keys must be C-contiguous int64
    or int32 arrays of shape [n], values C-contiguous float32 arrays of shape [n, dim]; nothing is
    converted or copied silently. Keys may repeat within a batch.

    All methods raise ``TypeError`` for an argument of another type or an array of another dtype,
    ``ValueError`` for a wrong shape or layout, and ``RuntimeError`` when the table is closed.

    Args:
        name: A label, 1-100 characters. Names may repeat.
        dim: Floats per embedding, in [1, 8192].
        optimizer: Used by ``apply_gradients``; None: the table cannot apply gradients.
        initializer: First values of new rows; None: ``Uniform(-0.05, 0.05)``.
        memory_rows: Rows that memory holds, at least 1; None: as many as come. Without an SSD tier
            it is the capacity.
        seed: Of the initial values and of stochastic rounding, in [0, 2**64).
        num_shards: Parts that work in parallel, a power of two in [1, 256]; None: chosen from the
            machine.
        value_dtype: How embeddings are stored: "float32", "float16" or "bfloat16", or a numpy dtype
            of one of these names. Arithmetic and the optimizer's state are float32 in any case;
            values beyond the largest finite one of the type become that one.
        stochastic_rounding: ``apply_gradients`` rounds up or down at random, with the
            probabilities that keep the mean; a pure function of seed, key, column and optimizer
            step. False: to nearest. Needs float16 or bfloat16; costs 4 bytes a row.
        use_hot: Copies of the rows that are read most are kept where lookups find them sooner,
            within half of a core's second-level cache. Changes speed, never results; not stored by
            ``save``.
        admission: Which keys get a row in training; None: every key.
        eviction: Which rows ``evict`` removes; None: there is no rule, and ``evict`` raises.
        ssd_rows: Rows beyond ``memory_rows``, which must be given then, in [0, 1.3e9]: the capacity
            is their sum, and cold rows leave memory for files. Results do not depend on it. 0:
            there is no SSD tier.
        ssd_paths: Directories for these files, a list or tuple; the next one is used when a disk is
            full. They must exist and be writable. The files are the running table's alone and go
            when it is closed; those of a killed process, when another table is made there. None:
            the working directory.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of its range, or ``ssd_paths`` or ``ssd_rows`` is given
            without ``ssd_rows`` or ``memory_rows``.
        CapacityError: Memory or disk space ran out.
        FileNotFoundError: One of ``ssd_paths`` is not there.
        OSError: One of ``ssd_paths`` is no directory, or cannot be written.

    Example:
        >>> table = Table("user", dim=16, optimizer=Adagrad(0.05))
        >>> keys = np.array([7, 8, 7])
        >>> rows = table.lookup(keys)                       # float32 [3, 16]
        >>> table.apply_gradients(keys, np.ones_like(rows))
        ApplyResult(updated=2, skipped=0)
    """

    _engine: _mxrec.Table

    def __init__(
        self,
        name: str,
        dim: int,
        *,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        memory_rows: int | None = None,
        seed: int = 0,
        num_shards: int | None = None,
        value_dtype: DTypeLike = "float32",
        stochastic_rounding: bool = False,
        use_hot: bool = True,
        admission: Admission | None = None,
        eviction: Eviction | None = None,
        ssd_rows: int = 0,
        ssd_paths: Sequence[str | os.PathLike[str]] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {type(name).__name__}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be one of mxrec's, such as mxrec.SGD(0.01), got {optimizer!r}"
            )
        if initializer is not None and not isinstance(initializer, Initializer):
            raise TypeError(
                f"initializer must be one of mxrec's, such as mxrec.Zeros(), got {initializer!r}"
            )
        _check_rules(admission, eviction)
        self._engine = _mxrec.Table(
            name,
            integer("dim", dim, 1, _mxrec.MAX_DIM),
            optimizer=None if optimizer is None else optimizer.to_options(),
            initializer=None if initializer is None else initializer.to_options(),
            seed=integer("seed", seed, 0, 2**64 - 1),
            num_shards=_shards(num_shards),
            value_dtype=value_dtype_name(value_dtype),
            stochastic_rounding=boolean("stochastic_rounding", stochastic_rounding),
            use_hot=boolean("use_hot", use_hot),
            admission=None if admission is None else admission.to_options(),
            eviction=None if eviction is None else eviction.to_options(),
            **tier_options(memory_rows, ssd_rows, ssd_paths),
        )

        self._may_be_closed_to_all = admission is not None and admission.threshold == 0

    @classmethod
    def load(
        cls,
        dir: str | os.PathLike[str],
        *,
        num_shards: int | None = None,
        admission: Admission | None = None,
        eviction: Eviction | None = None,
        memory_rows: int | None = None,
        ssd_rows: int = 0,
        ssd_paths: Sequence[str | os.PathLike[str]] | None = None,
    ) -> Self:
        """Makes a table of what ``save`` has stored.

        Name, optimizer with its hyperparameters and state, initializer and seed are those of the
        saved table. So is the capacity, all of it in memory, unless ``memory_rows`` is given: what
        is saved does not say in which tier a row was.

        Args:
            dir: The directory given to ``save``.
            num_shards: As in the constructor. The rows do not depend on it.
            admission: The rule from now on; None: the saved one. Saved counts stay, and no row
                goes. The saved threshold, which ``set_threshold`` may have changed, stays in force
                if this one's is 0, which also stops counting, or what the saved rule had. The
                mode, and ``expected_keys`` of a sketch, must be those of the saved counts.
            eviction: The rules from now on; None: the saved ones.
            memory_rows: As in the constructor; None: the saved capacity.
            ssd_rows: As in the constructor; needs ``memory_rows``.
            ssd_paths: As in the constructor.

        Raises:
            FileNotFoundError: There is no saved table, or one of ``ssd_paths`` is not there.
            DataLossError: A file is damaged or truncated; the message names file and offset.
            OSError: The operating system refused to read.
            ValueError: ``ssd_rows`` is given without ``memory_rows``, or a value is out of its
                range.
            CapacityError: The rows exceed the capacity; or memory or disk space ran out.
            RuntimeError: The saved counts are of another mode than ``admission``.
        """
        _check_rules(admission, eviction)
        tiers = tier_options(memory_rows, ssd_rows, ssd_paths)
        table = cls.__new__(cls)
        options: dict[str, Any] = {"num_shards": _shards(num_shards)}
        if memory_rows is not None:
            options |= tiers
        if admission is not None:
            options["admission"] = admission.to_options()
        path = path_text("dir", dir)
        try:
            table._engine = loading.load(path, **options)
        except OSError as error:
            nothing = isinstance(error, FileNotFoundError) or os.path.isfile(path)
            is_there = os.path.exists(os.path.join(path, foreign.TABLE_MANIFEST))
            if not nothing or is_there or "interrupted save" in str(error):  # says what to do
                raise
            raise FileNotFoundError(f"{error}. {foreign.why_no_table(path)}") from error
        if eviction is not None:
            table._engine.configure_eviction(eviction.to_options())
        rule = table.admission
        table._may_be_closed_to_all = rule is not None and rule.threshold == 0
        return table

    # --- What the table is

    @property
    def name(self) -> str:
        """The table's label."""
        return self._engine.name

    @property
    def dim(self) -> int:
        """Floats per embedding."""
        return self._engine.dim

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer; None: there is none."""
        return optimizers.from_options(self._engine.optimizer)

    @property
    def initializer(self) -> Initializer:
        """The initializer of new rows."""
        return initializers.from_options(self._engine.initializer)

    @property
    def seed(self) -> int:
        """Seed of the initial values."""
        return self._engine.seed

    @property
    def num_shards(self) -> int:
        """Number of parts that work in parallel."""
        return self._engine.num_shards

    @property
    def value_dtype(self) -> str:
        """How embeddings are stored: "float32", "float16" or "bfloat16"."""
        return self._engine.value_dtype

    @property
    def stochastic_rounding(self) -> bool:
        """Whether updates round at random."""
        return self._engine.stochastic_rounding

    @property
    def use_hot(self) -> bool:
        """Whether copies of the rows that are read most are kept."""
        return self._engine.use_hot

    @property
    def admission(self) -> Admission | None:
        """The rule of admission that the table was made with; None: every key is admitted.

        ``stats()["admission_threshold"]`` is the threshold in force.
        """
        return Admission.from_options(self._engine.admission)

    @property
    def eviction(self) -> Eviction | None:
        """The rules of eviction; None: there are none."""
        return Eviction.from_options(self._engine.eviction)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._engine.closed

    # --- Reading and training

    def lookup(self, keys: Keys, train: bool = True, timestamp: Timestamp = None) -> Floats:
        """Reads the rows of a batch of keys.

        Args:
            keys: int64 or int32 [n].
            train: True inserts absent keys with their initial values, if ``admission`` admits them;
                the others read zeros. False reads absent keys as zeros and changes nothing.
            timestamp: When the batch happened, seconds in [0, 2**32): an int, or int64 or int32
                [m], where m divides n: the batch is cut into m equal parts, one after the other,
                each with a time of its own. A key was last used at the latest of its times. None:
                the wall clock. Ignored with ``train=False``.

        Returns:
            float32 [n, dim].

        Raises:
            ValueError: A timestamp is out of its range, or the table evicts by age and was given
                timestamps before but none now, or the other way round.
            CapacityError: Absent keys do not fit into the capacity or into memory.
        """
        self._warn_if_closed_to_all(train)
        return self._engine.lookup(keys, boolean("train", train), timestamp)

    def lookup_into(
        self, keys: Keys, out: Floats, train: bool = True, timestamp: Timestamp = None
    ) -> None:
        """Reads the rows of a batch of keys into an array of the caller.

        Args:
            keys: int64 or int32 [n].
            out: float32 [n, dim], C-contiguous and writable. Its contents are undefined when the
                call raises.
            train: As in ``lookup``.
            timestamp: As in ``lookup``.

        Raises:
            ValueError: As in ``lookup``.
            CapacityError: Absent keys do not fit into the capacity or into memory.
        """
        self._warn_if_closed_to_all(train)
        self._engine.lookup_into(keys, out, boolean("train", train), timestamp)

    def apply_gradients(
        self, keys: Keys, grads: Floats, *, learning_rate: float | None = None
    ) -> ApplyResult:
        """Does one step of the optimizer.

        Gradients of the same key are summed in batch order, each row is updated once. One call is
        one step for the powers of LazyAdam. Keys without a row are skipped and counted.

        Args:
            keys: int64 or int32 [n].
            grads: float32 [n, dim]. A NaN or infinite value refuses the whole call.
            learning_rate: Of this step, at least 0; None: the optimizer's own.

        Raises:
            ValueError: A gradient is NaN or infinite, or ``learning_rate`` is out of its range.
            RuntimeError: The table has no optimizer.
        """
        rate = None if learning_rate is None else _rate(learning_rate)
        return ApplyResult(*self._trainable().apply_gradients(keys, grads, learning_rate=rate))

    def lookup_pooled(
        self,
        keys: Keys,
        offsets: NDArray[np.int64],
        weights: Floats | None = None,
        combiner: str = "sum",
        train: bool = True,
        timestamp: Timestamp = None,
    ) -> Floats:
        """Reads one row for each bag of keys, without making one for each key.

        A bag's row is the sum of its keys' rows times their weights, in batch order, divided by 1
        ("sum"), the sum of the weights ("mean") or the square root of the sum of their squares
        ("sqrtn"), as in ``tf.nn.embedding_lookup_sparse``. An empty bag reads zeros, as does one
        whose divisor is 0.

        Args:
            keys: int64 or int32 [n], bag after bag.
            offsets: int64 [bags + 1], not descending, from 0 to n: bag b is
                ``keys[offsets[b]:offsets[b + 1]]``, as in a CSR matrix.
            weights: float32 [n]; None: all 1.
            combiner: "sum", "mean" or "sqrtn".
            train: True inserts absent keys with their initial values, if they are admitted; False
                changes nothing. Keys without a row read zeros, which count in the divisor.
            timestamp: As in ``lookup``.

        Returns:
            float32 [bags, dim].

        Raises:
            ValueError: ``offsets`` are not those of the keys, or ``combiner`` is none of these.
            CapacityError: Absent keys do not fit into the capacity or into memory.
        """
        _check_combiner(combiner)
        self._warn_if_closed_to_all(train)
        return self._engine.lookup_pooled(
            keys, offsets, weights, combiner, boolean("train", train), timestamp
        )

    def apply_pooled_gradients(
        self,
        keys: Keys,
        offsets: NDArray[np.int64],
        grads: Floats,
        weights: Floats | None = None,
        combiner: str = "sum",
        *,
        learning_rate: float | None = None,
    ) -> ApplyResult:
        """Does one step of the optimizer with gradients of pooled rows.

        Each occurrence of a key gets its bag's gradient times its weight, divided as the bag was;
        then as ``apply_gradients``. No array of one gradient per occurrence is made.

        Args:
            keys: int64 or int32 [n], as given to ``lookup_pooled``.
            offsets: int64 [bags + 1].
            grads: float32 [bags, dim]. A NaN or infinite value refuses the whole call.
            weights: float32 [n], finite; None: all 1.
            combiner: "sum", "mean" or "sqrtn".
            learning_rate: Of this step, at least 0; None: the optimizer's own.

        Raises:
            ValueError: A gradient or weight is NaN or infinite, ``offsets`` are not those of the
                keys, or ``combiner`` or ``learning_rate`` is out of its range.
            RuntimeError: The table has no optimizer.
        """
        _check_combiner(combiner)
        rate = None if learning_rate is None else _rate(learning_rate)
        return ApplyResult(
            *self._trainable().apply_pooled_gradients(
                keys, offsets, grads, weights, combiner, learning_rate=rate
            )
        )

    def assign(self, keys: Keys, values: Floats) -> None:
        """Sets the embeddings of keys; absent keys are inserted.

        What the optimizer remembers about a row stays. The last of repeated keys wins.

        Args:
            keys: int64 or int32 [n].
            values: float32 [n, dim].

        Raises:
            CapacityError: Absent keys do not fit into the capacity or into memory.
        """
        self._engine.assign(keys, values)

    def contains(self, keys: Keys) -> NDArray[np.bool_]:
        """Tells which keys have a row.

        Args:
            keys: int64 or int32 [n].

        Returns:
            bool [n].
        """
        return self._engine.contains(keys)

    def erase(self, keys: Keys) -> int:
        """Removes rows and counts; absent keys are passed over.

        Args:
            keys: int64 or int32 [n].

        Returns:
            The number of rows removed.
        """
        return self._engine.erase(keys)

    # --- Contents

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._open())

    def keys(self) -> NDArray[np.int64]:
        """Gives all keys.

        Returns:
            int64 [len(self)], in no particular order.
        """
        chunks = [keys for keys, _ in self.items()]
        return np.concatenate(chunks) if chunks else np.empty(0, np.int64)

    def items(self, chunk_rows: int = _CHUNK_ROWS) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Iterates over all rows, chunk by chunk.

        The table may be used and changed meanwhile: a row that is there throughout is given exactly
        once, with its values at the time of its chunk.

        Args:
            chunk_rows: The most rows of a chunk; at least 1.

        Yields:
            Keys, int64 [m], and their embeddings, float32 [m, dim], in no particular order.

        Raises:
            ValueError: ``chunk_rows`` is below 1.
        """
        chunk_rows = integer("chunk_rows", chunk_rows, 1, 2**31 - 1)
        return self._chunks(self._open(), chunk_rows)

    def _chunks(
        self, engine: _mxrec.Table, chunk_rows: int
    ) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        cursor = (0, 0)
        while True:
            cursor, keys, values, *_ = engine.scan(cursor, chunk_rows)
            if len(keys) == 0:
                return
            # The engine gives whole index segments, some thousand rows each.
            for begin in range(0, len(keys), chunk_rows):
                end = begin + chunk_rows
                yield keys[begin:end], values[begin:end]

    # --- Storage and end

    def save(self, dir: str | os.PathLike[str]) -> None:
        """Stores the table as it is at one instant.

        It is written beside ``dir``, synced and renamed: ``dir`` is complete or as it was before.

        Args:
            dir: Directory to make; its parent must exist. One that is there is replaced.

        Raises:
            OSError: The operating system refused to write.
            CapacityError: Disk space ran out.
        """
        self._open().save(path_text("dir", dir))

    def close(self) -> None:
        """Releases all rows, after waiting for the calls in progress, saves included.

        Later calls raise ``RuntimeError``. Closing twice does nothing.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"rows={len(self)}"
        return f"Table({self.name!r}, dim={self.dim}, {state})"

    def _trainable(self) -> _mxrec.Table:
        engine = self._open()
        if engine.optimizer.kind == "None":
            raise RuntimeError(
                f"table {self.name!r} has no optimizer and cannot apply gradients; create it with "
                "one, such as mxrec.Table(name, dim, optimizer=mxrec.SGD(0.01))"
            )
        return engine


def _check_rules(admission: Admission | None, eviction: Eviction | None) -> None:
    for parameter, value, kind in (
        ("admission", admission, Admission),
        ("eviction", eviction, Eviction),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{parameter} must be a mxrec.{kind.__name__} or None, got {value!r}")


def _check_combiner(combiner: str) -> None:
    if not isinstance(combiner, str):
        raise TypeError(f"combiner must be a str, got {combiner!r} ({type(combiner).__name__})")


def _rate(learning_rate: float) -> float:
    wanted = "learning_rate must be a finite number of at least 0"
    number = isinstance(learning_rate, int | float | np.integer | np.floating)
    if isinstance(learning_rate, bool) or not number:
        raise TypeError(f"{wanted}, got {learning_rate!r} ({type(learning_rate).__name__})")
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise ValueError(f"{wanted}, got {learning_rate!r}")
    return float(learning_rate)


def _shards(num_shards: int | None) -> int | None:
    if num_shards is None:
        return None
    number = integer("num_shards", num_shards, 1, _mxrec.MAX_SHARDS)
    if number & (number - 1):
        raise ValueError(
            f"num_shards must be a power of two in [1, {_mxrec.MAX_SHARDS}], got {number}"
        )
    return number
