"""The description of a run: written beside the model, read by a new process that evaluates it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mxrec.cli.examples import NumericScaler
from mxrec.cli.lines import DataError

MODEL_FOLDER = "model"  # of checkpoints, in the directory of a run

_FILE = "run.json"
_FORMAT = 1


@dataclass(frozen=True)
class ModelConfig:
    """Shape and training of the model.

    Attributes:
        numeric_columns: number of numeric columns.
        table_names: one embedding table per categorical column.
        dim: width of the embeddings.
        bottom_units: hidden layers over the numeric columns.
        top_units: hidden layers over the interactions.
        sparse_optimizer: ``lazy_adam`` or ``adagrad``, for the tables.
        sparse_learning_rate: of the tables' optimizer.
        dense_learning_rate: of Adam for the dense layers.
        seed: of initial values.
        admission: occurrences in training that give a key a row; None: the first one.
        evict_after: seconds after its last use in training that a key goes; None: it stays.
        memory_rows: rows of each table that memory holds; None: as many as come.
        ssd_rows: rows of each table beyond them, in files.
        ssd_paths: directories for these files.
        timestamps: whether examples carry the time that ages count by, instead of the wall clock.
        static_rows: None trains mxrec tables; a row count per table trains static ``tf.Variable``
            tables instead, whose ids must be in [0, rows) and whose last row, for unseen keys, is
            read as zeros.
    """

    numeric_columns: int
    table_names: tuple[str, ...]
    dim: int = 16
    bottom_units: tuple[int, ...] = (64,)
    top_units: tuple[int, ...] = (128, 64)
    sparse_optimizer: str = "lazy_adam"
    sparse_learning_rate: float = 0.002
    dense_learning_rate: float = 0.001
    seed: int = 0
    admission: int | None = None
    evict_after: int | None = None
    timestamps: bool = False
    memory_rows: int | None = None
    ssd_rows: int = 0
    ssd_paths: tuple[str, ...] = ()
    static_rows: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.table_names:
            raise ValueError(
                "table_names is empty; the model needs at least one categorical column"
            )
        if self.sparse_optimizer not in ("lazy_adam", "adagrad"):
            raise ValueError(
                f"sparse_optimizer is {self.sparse_optimizer!r}; "
                "it must be 'lazy_adam' or 'adagrad'"
            )

    def rules(self) -> str | None:
        """Admission and eviction in words; None when there is neither."""
        rules = []
        if self.admission is not None:
            rules.append(f"admission {self.admission:,}")
        if self.evict_after is not None:
            rules.append(f"eviction after {self.evict_after:,} s")
        return " and ".join(rules) or None


@dataclass(frozen=True)
class RunConfig:
    """Everything that evaluating a trained model again needs.

    Attributes:
        source: ``Source.to_json()`` of the data.
        scaler: of the numeric columns.
        model: the model.
        batch_size: of the evaluation.
    """

    source: dict[str, Any]
    scaler: NumericScaler
    model: ModelConfig
    batch_size: int

    def save(self, directory: Path) -> None:
        """Writes ``run.json``."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=2)
        (directory / _FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(directory: Path) -> RunConfig:
        """Reads ``run.json``.

        Raises:
            DataError: when the file is missing, of another format or damaged.
        """
        path = directory / _FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise DataError(
                    f"{path}: format is {content['format']}; this version reads {_FORMAT}; "
                    "train again"
                )
            model = {name: _tuples(value) for name, value in content["model"].items()}
            scaler = {name: _tuples(value) for name, value in content["scaler"].items()}
            return RunConfig(
                content["source"],
                NumericScaler(**scaler),
                ModelConfig(**model),
                int(content["batch_size"]),
            )
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: no such file; --out names the directory of a finished run"
            ) from error
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged: {error!r}; train again") from error

    @staticmethod
    def present(directory: Path) -> bool:
        """Whether the directory holds a run."""
        return (directory / _FILE).is_file()


def checkpoints_in(path: Path) -> Path:
    """The directory of checkpoints that a path stands for: in that of a run its own, else itself.

    Args:
        path: what the command line named.
    """
    return path / MODEL_FOLDER if RunConfig.present(path) else path


def table_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Names of tables for columns.

    Other characters than ASCII letters, digits, _ and . become _; names stay distinct.
    """
    names: list[str] = []
    for column in columns:
        base = re.sub(r"[^A-Za-z0-9_.]", "_", column)[:90].strip(".") or "column"
        name, number = base, 2
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return tuple(names)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
