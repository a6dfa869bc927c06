"""
The engine of mxrec, as it is. The documented interface is the package mxrec.
"""

from collections.abc import Sequence
from typing import Any

import numpy
import numpy.typing


class CapacityError(MemoryError):
    """A table is full, or memory or disk space ran out."""

class DataLossError(OSError):
    """A stored file is damaged or truncated."""

class OptimizerOptions:
    """Hyperparameters of one optimizer; fields of other kinds are ignored."""

    def __init__(self, kind: str, *, learning_rate: float = 0.01, weight_decay: float = 0.0, momentum: float = 0.0, nesterov: bool = False, initial_accumulator_value: float = 0.1, learning_rate_power: float = -0.5, l1_regularization: float = 0.0, l2_regularization: float = 0.0, l2_shrinkage_regularization: float = 0.0, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-08) -> None:
        """Raises ValueError for a value outside its range."""

    @property
    def kind(self) -> str: ...

    @property
    def nesterov(self) -> bool: ...

    @property
    def slot_names(self) -> list[str]:
        """Names of the slots that a row carries behind its embedding, in order."""

    def __eq__(self, arg: object, /) -> bool: ...

    def __repr__(self) -> str: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def momentum(self) -> float: ...

    @property
    def initial_accumulator_value(self) -> float: ...

    @property
    def learning_rate_power(self) -> float: ...

    @property
    def l1_regularization(self) -> float: ...

    @property
    def l2_regularization(self) -> float: ...

    @property
    def l2_shrinkage_regularization(self) -> float: ...

    @property
    def beta1(self) -> float: ...

    @property
    def beta2(self) -> float: ...

    @property
    def epsilon(self) -> float: ...

class InitializerOptions:
    """How the rows of new keys are drawn; fields of other kinds are ignored."""

    def __init__(self, kind: str, *, value: float = 0.0, low: float = -0.05, high: float = 0.05, mean: float = 0.0, stddev: float = 1.0, scale: float = 1.0, mode: str = 'fan_in', distribution: str = 'truncated_normal', fan_in: int = 0, gain: float = 1.0) -> None:
        """Raises ValueError for a value outside its range."""

    @property
    def kind(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def distribution(self) -> str: ...

    @property
    def fan_in(self) -> int: ...

    def __eq__(self, arg: object, /) -> bool: ...

    def __repr__(self) -> str: ...

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def mean(self) -> float: ...

    @property
    def stddev(self) -> float: ...

    @property
    def scale(self) -> float: ...

    @property
    def gain(self) -> float: ...

class AdmissionOptions:
    """Which keys get a row in training."""

    def __init__(self, threshold: int, *, coefficient: int = 1, mode: str = 'exact', expected_keys: int = 4194304) -> None:
        """Raises ValueError for a value outside its range."""

    @property
    def threshold(self) -> int:
        """-1: every key is admitted."""

    @property
    def coefficient(self) -> int: ...

    @property
    def mode(self) -> str: ...

    @property
    def expected_keys(self) -> int: ...

    def __eq__(self, arg: object, /) -> bool: ...

    def __repr__(self) -> str: ...

class EvictionOptions:
    """Which rows evict() removes."""

    def __init__(self, *, max_age: int = -1, max_rows: int = 0, min_l2: float = 0.0) -> None:
        """Raises ValueError for a value outside its range."""

    @property
    def max_age(self) -> int:
        """Seconds; -1: no limit."""

    @property
    def max_rows(self) -> int:
        """0: no limit."""

    @property
    def min_l2(self) -> float: ...

    def __eq__(self, arg: object, /) -> bool: ...

    def __repr__(self) -> str: ...

MAX_DIM: int = 8192

MAX_SHARDS: int = 256

MAX_SSD_ROWS: int = 1300000000

class TableSave:
    """A table as it was at one instant, to be written."""

    def write(self, dir: str) -> dict[str, Any]:
        """
        Writes the new directory `dir`, synced; an error leaves nothing of it. Once.
        """

    def finish(self, saved: bool) -> None:
        """
        True: the version stands, and with `tracks` the next delta builds on it. False: it was
        given up.
        """

class Table:
    """An embedding table; see mxrec.Table."""

    def __init__(self, name: str, dim: int, *, memory_rows: int | None = None, seed: int = 0, num_shards: int | None = None, optimizer: OptimizerOptions | None = None, initializer: InitializerOptions | None = None, padding_keys: Sequence[int] = [], value_dtype: str = 'float32', stochastic_rounding: bool = False, use_hot: bool = True, admission: AdmissionOptions | None = None, eviction: EvictionOptions | None = None, ssd_rows: int = 0, ssd_paths: Sequence[str] = []) -> None: ...

    def lookup(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], train: bool = True, timestamp: int | numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32] | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """Rows of keys, [n, dim]."""

    def lookup_into(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], out: numpy.typing.NDArray[numpy.float32], train: bool = True, timestamp: int | numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32] | None = None) -> None: ...

    def counts(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]) -> numpy.typing.NDArray[numpy.int64]:
        """How often keys were used in training, times their coefficients."""

    def apply_gradients(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], grads: numpy.typing.NDArray[numpy.float32], *, learning_rate: float | None = None) -> tuple[int, int]:
        """Returns the rows updated and the distinct keys skipped."""

    def assign(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], values: numpy.typing.NDArray[numpy.float32]) -> None: ...

    def contains(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]) -> numpy.typing.NDArray[numpy.bool_]: ...

    def erase(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]) -> int: ...

    def missing(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]) -> numpy.typing.NDArray[numpy.int64]:
        """
        Distinct keys for which a training lookup would make a row, in the order of first
        occurrence.
        """

    def prefetch(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]) -> None:
        """Begins to read the rows of keys that are on SSD."""

    def scan(self, cursor: tuple[int, int], max_rows: int) -> tuple[tuple[int, int], numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.uint32], numpy.typing.NDArray[numpy.uint32]]:
        """
        The next rows: cursor, keys [n], values [n, dim], slots [n, slots * dim], frequency
        [n], last_time [n]. Start at (0, 0); n is 0 at the end.
        """

    def lookup_pooled(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], offsets: numpy.typing.NDArray[numpy.int64], weights: numpy.typing.NDArray[numpy.float32] | None = None, combiner: str = 'sum', train: bool = True, timestamp: int | numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32] | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """One row per bag, [bags, dim]."""

    def apply_pooled_gradients(self, keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32], offsets: numpy.typing.NDArray[numpy.int64], grads: numpy.typing.NDArray[numpy.float32], weights: numpy.typing.NDArray[numpy.float32] | None = None, combiner: str = 'sum', *, learning_rate: float | None = None) -> tuple[int, int]:
        """grads: of the bags, [bags, dim]. Returns as apply_gradients."""

    def save(self, dir: str, step: int = 0) -> dict[str, Any]: ...

    def restore(self, dir: str | list[str], *, tracks: bool = False, counts_recent: bool = False) -> dict[str, Any]:
        """
        Replaces the rows by those of a full checkpoint, or of one and its deltas in order. On
        an error the table is as it was. tracks: the next save may be a delta to this version.
        """

    def begin_save(self, *, step: int, parent: str = '', tracks: bool = False, recent_threshold: int = 0) -> TableSave:
        """
        Fixes what is to be saved: the rows of now. parent: the uid of the version to which it
        is a delta. Waits for the end of another save.
        """

    @property
    def lineage(self) -> str:
        """
        Uid of the version since which changes are counted; '' if they are not.
        """

    @staticmethod
    def load(dir: str | list[str], num_shards: int | None = None) -> Table: ...

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def capacity(self) -> int | None:
        """Rows; None: grows without limit."""

    @property
    def memory_rows(self) -> int | None:
        """Rows that memory holds; None: grows without limit."""

    @property
    def ssd_rows(self) -> int: ...

    @property
    def ssd_paths(self) -> list[str]: ...

    @property
    def optimizer(self) -> OptimizerOptions:
        """The optimizer that is bound now."""

    @property
    def initializer(self) -> InitializerOptions: ...

    @property
    def seed(self) -> int: ...

    @property
    def num_shards(self) -> int: ...

    @property
    def padding_keys(self) -> list[int]: ...

    @property
    def value_dtype(self) -> str:
        """How embeddings are stored: 'float32', 'float16' or 'bfloat16'."""

    @property
    def stochastic_rounding(self) -> bool: ...

    @property
    def use_hot(self) -> bool: ...

    @property
    def optimizer_step(self) -> int: ...

    @property
    def version(self) -> int:
        """Changes with every change of the rows."""

    @property
    def closed(self) -> bool: ...

    def bind_optimizer(self, optimizer: OptimizerOptions) -> None:
        """A bound optimizer is replaced only by one of the same kind."""

    @property
    def admission(self) -> AdmissionOptions: ...

    @property
    def eviction(self) -> EvictionOptions: ...

    def configure_admission(self, admission: AdmissionOptions) -> None:
        """Turns admission on; what is on can only be given again."""

    def configure_eviction(self, eviction: EvictionOptions) -> None:
        """Replaces the rules of evict()."""

    def set_threshold(self, threshold: int) -> None:
        """0 keeps the threshold and stops counting."""

    def evict(self, now: int | None = None, budget: int | None = None) -> int:
        """Returns the rows freed by this call."""

    def stats(self) -> dict[str, Any]: ...

    def close(self) -> None:
        """Waits for the calls in progress and releases all rows."""

    def __len__(self) -> int: ...

    def __eq__(self, arg: object, /) -> bool:
        """The same table, not equal rows."""

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

def register_table(name: str, table: Table) -> None:
    """Makes a table known by name to the TensorFlow ops of this process."""

def find_table(name: str) -> Table | None:
    """The table that is registered by this name; None where there is none."""

def unregister_table(name: str) -> bool:
    """False: no table had this name."""

def registered_tables() -> list[str]:
    """Names, sorted."""

def set_num_threads(n: int) -> None:
    """Threads that work on a batch, the calling one included; [1, 1024]."""

def num_threads() -> int: ...

def set_thread_binding(bound: bool) -> None:
    """Binds each worker thread to one processor, or lets them roam."""

def thread_binding() -> bool: ...

def end_threads() -> None:
    """
    Ends the worker threads; the next call that wants them starts new ones.
    """

def set_gather_mode(mode: str) -> None:
    """How lookups move rows: 'high_performance' or 'high_precision'."""

def gather_mode() -> str: ...

def version() -> str: ...

def compiler() -> str:
    """Compiler and flags of this build."""

def read_checkpoint_info(dir: str) -> dict[str, Any]:
    """
    What a saved table is: uid, step, rows, optimizer_step and the table's options; of a delta
    also parent and parent_step, and how many keys were erased and left_out.
    """

def verify_checkpoint(dir: str) -> dict[str, Any]:
    """
    Reads every byte of one checkpoint or delta. OSError names file and offset of damage.
    """

def checksum(data: bytes) -> int:
    """XXH3-64 with seed 0, as in every file of a checkpoint."""

def kernel_target() -> str:
    """The instruction set in use: 'AVX2', 'NEON', ..."""

def streaming_threshold_bytes() -> int:
    """
    Bytes of a lookup's output from which on it is written past the caches.
    """

class WarmStart:
    """
    Rows of other models, put together beside a table; commit() swaps them
    in. After an error the table is as it was.
    """

    def __init__(self, table: Table) -> None: ...

    def add_checkpoint(self, dirs: Sequence[str], *, slots: str = 'keep', mode: str = 'replace', int32_keys: bool = False) -> int:
        """
        Adds the rows of a saved table, a full checkpoint and its deltas in order; returns how
        many. slots: 'keep' or 'reset', mode: 'replace' or 'merge'. int32_keys: refuse others.
        """

    def add_matrix(self, values: numpy.typing.NDArray[numpy.float32], *, mode: str = 'replace', int32_keys: bool = False) -> int:
        """Adds rows [n, dim]: row i becomes key i. Returns n."""

    def commit(self) -> None: ...
