"""The rows of an engine table as a dict."""

from __future__ import annotations

from typing import Any

# Bytes of the embedding and of the slots, by key.
Rows = dict[int, tuple[bytes, bytes]]


def rows_of(engine: Any) -> Rows:
    """All rows of a ``mxrec._mxrec.Table``.

    Args:
        engine: the table.
    """
    rows: Rows = {}
    cursor = (0, 0)
    while True:
        cursor, keys, values, slots, *_ = engine.scan(cursor, 4096)
        if not len(keys):
            return rows
        for key, value, slot in zip(keys.tolist(), values, slots, strict=True):
            rows[key] = value.tobytes(), slot.tobytes()
