"""What the parts of a table share."""

from mxrec import _mxrec


class EngineCalls:
    """Part of ``mxrec.Table``: the engine's table."""

    _engine: _mxrec.Table

    def _open(self) -> _mxrec.Table:
        if self._engine.closed:
            raise RuntimeError(f"table {self._engine.name!r} is closed; create it anew or load it")
        return self._engine
