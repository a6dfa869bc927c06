"""``checkpoint-manifest.json``: what a version directory holds and what it builds on."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from mxrec import _mxrec
from mxrec.checkpoints import files, regular
from mxrec.checkpoints.naming import MANIFEST_NAME, is_component
from mxrec.errors import DataLossError

FORMAT = 2
_OLD_FORMAT = 1  # no kind, no parent, no checksum
MAX_BYTES = 64 << 20
_CHECKSUM = re.compile(rb"#xxh3-64: [0-9a-f]{16}\n")
_CHECKSUM_BYTES = 27
_UID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{16}")
_MAX_STEP = 2**63 - 1

Kind = Literal["full", "delta"]


@dataclasses.dataclass(frozen=True)
class Parent:
    """The version that a delta builds on.

    Attributes:
        name: of its directory, beside that of the delta.
        step: its step.
    """

    name: str
    step: int


@dataclasses.dataclass(frozen=True)
class SavedTable:
    """One table of a version.

    Attributes:
        uid: of its data: 32 hexadecimal digits.
        parent: uid of the data that it builds on; empty: none.
    """

    uid: str
    parent: str = ""


@dataclasses.dataclass(frozen=True)
class Dense:
    """The half of a checkpoint that TensorFlow writes.

    Attributes:
        step: value of the graph's global step variable at the instant of the tables; None: there
            was none.
        step_name: name of that variable.
        index: checksum of the ``.index`` file, 16 hexadecimal digits; None: not known.
    """

    step: int | None = None
    step_name: str | None = None
    index: str | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Contents of a manifest.

    Attributes:
        step: of the version; every table was saved with it.
        tables: by name.
        parent: what it builds on; None: it is a full version.
        dense: what is known of the dense half; None: there is none.
        saved: when, seconds since 1970; 0.0: not known.
        tiers: of the tables that had an SSD tier, by name, what ``mxrec.tier_figures`` needs of
            their ``stats()`` at the instant.
        format: version of the format.
    """

    step: int
    tables: dict[str, SavedTable]
    parent: Parent | None = None
    dense: Dense | None = None
    saved: float = 0.0
    tiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    @property
    def kind(self) -> Kind:
        """``full`` or ``delta``."""
        return "full" if self.parent is None else "delta"

    @property
    def uids(self) -> dict[str, str]:
        """The uid of each table's data."""
        return {name: table.uid for name, table in self.tables.items()}

    @property
    def dense_step(self) -> int | None:
        """Step of the dense half, if it has one."""
        return None if self.dense is None else self.dense.step

    def encode(self) -> bytes:
        """The bytes of the file."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "step": self.step,
            "saved": self.saved,
            "parent": None if self.parent is None else dataclasses.asdict(self.parent),
            "tables": {name: dataclasses.asdict(table) for name, table in self.tables.items()},
            "dense": None if self.dense is None else dataclasses.asdict(self.dense),
        }
        if self.tiers:
            fields["tiers"] = self.tiers
        text = json.dumps(fields, indent=1).encode() + b"\n"
        return text + b"#xxh3-64: %016x\n" % _mxrec.checksum(text)


def write(directory: str, manifest: Manifest) -> None:
    """Writes the manifest of a version whose tables are there, and syncs both.

    Args:
        directory: of the version.
        manifest: what to write.
    """
    files.write_file(os.path.join(directory, MANIFEST_NAME), manifest.encode())
    files.sync_directory(directory)


def is_there(directory: str) -> bool:
    """Whether a directory has a manifest, or what has taken its place and cannot be read."""
    return os.path.lexists(os.path.join(directory, MANIFEST_NAME))


def read(directory: str) -> Manifest:
    """Reads the manifest of a version.

    Args:
        directory: of the version.

    Raises:
        FileNotFoundError: there is none.
        DataLossError: it is damaged, or no regular file.
        ValueError: it is of a later version.
    """
    path = os.path.join(directory, MANIFEST_NAME)
    return decode(regular.read(path, MAX_BYTES + 1), path)


def decode(data: bytes, path: str) -> Manifest:
    """What the bytes of a manifest say.

    Args:
        data: contents of the file.
        path: names the file in messages.

    Raises:
        DataLossError: they are no manifest, or not as they were written.
        ValueError: the manifest is of a later version.
    """
    if len(data) > MAX_BYTES:
        raise _damaged(path, f"it has more than {MAX_BYTES} bytes")
    text, line = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    summed = bool(_CHECKSUM.fullmatch(line))
    if summed and int(line[10:26], 16) != _mxrec.checksum(text):
        raise _damaged(path, "its checksum is not that of its contents")
    try:
        fields = json.loads((text if summed else data).decode("utf-8"))
        found = fields["format"]
        # Only manifests of the first format have no checksum; a flipped bit must not make one.
        if found == _OLD_FORMAT and not summed:
            return _decode_old(fields)
        if isinstance(found, bool) or not isinstance(found, int):
            raise ValueError("its format is no integer")
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if found > FORMAT and summed:
        raise ValueError(
            f"{path} has format {found}; this version of mxrec reads formats {_OLD_FORMAT} to "
            f"{FORMAT}. Restore with the version that wrote it, or a later one."
        )
    if not summed:
        raise _damaged(path, "its last line is no checksum")
    try:
        return _decode(fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _decode(fields: dict[str, Any]) -> Manifest:
    given = fields["parent"]
    parent = None if given is None else Parent(_component(given["name"]), _step(given["step"]))
    tables = {
        _table_name(name): SavedTable(_uid(table["uid"]), _uid(table["parent"], empty=True))
        for name, table in fields["tables"].items()
    }
    dense = fields["dense"]
    manifest = Manifest(
        step=_step(fields["step"]),
        tables=tables,
        parent=parent,
        dense=None if dense is None else _dense(dense["step"], dense["step_name"], dense["index"]),
        saved=_seconds(fields["saved"]),
        tiers=_tiers(fields.get("tiers", {}), tables),
    )
    if fields["format"] != FORMAT or fields["kind"] != manifest.kind:
        raise ValueError(f"format {fields['format']!r} and kind {fields['kind']!r} do not fit")
    for name, table in tables.items():
        if bool(table.parent) != (parent is not None):
            raise ValueError(f"table {name!r} has another kind than the version")
    return manifest


def _tiers(given: Any, tables: Mapping[str, SavedTable]) -> dict[str, dict[str, Any]]:
    for name, stats in given.items():
        if name not in tables:
            raise ValueError(f"tiers of {name!r}, which is no table of the version")
        if not all(isinstance(stats["tiers"][tier], dict) for tier in ("memory", "ssd")):
            raise TypeError(f"tiers of {name!r}")
    return dict(given)


def _decode_old(fields: dict[str, Any]) -> Manifest:
    return Manifest(
        step=_step(fields["step"]),
        tables={_table_name(name): SavedTable(_uid(uid)) for name, uid in fields["tables"].items()},
        dense=_dense(fields["dense_step"], fields["dense_step_name"], None),
        format=_OLD_FORMAT,
    )


def _dense(step: Any, step_name: Any, index: Any) -> Dense:
    if step_name is not None and not isinstance(step_name, str):
        raise TypeError(f"dense step_name {step_name!r}")
    if index is not None and not (isinstance(index, str) and _HASH.fullmatch(index)):
        raise ValueError(f"dense index {index!r}")
    # The variable is whatever the user assigned to it.
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise TypeError(f"dense step {step!r}")
    return Dense(step, step_name, index)


def _step(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_STEP:
        raise ValueError(f"step {value!r}")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"saved {value!r}")
    return float(value)


def _uid(value: Any, empty: bool = False) -> str:
    if isinstance(value, str) and (_UID.fullmatch(value) or (empty and not value)):
        return value
    raise ValueError(f"uid {value!r}")


def _table_name(value: str) -> str:
    if not 1 <= len(value) <= 100:
        raise ValueError(f"table name {value!r}")
    return value


def _component(value: Any) -> str:
    if isinstance(value, str) and is_component(value):
        return value
    raise ValueError(f"parent's name {value!r}")


def _damaged(path: str, why: str) -> DataLossError:
    return DataLossError(
        f"{path}: damaged: {why}. Restore another version, and remove {os.path.dirname(path)}."
    )
