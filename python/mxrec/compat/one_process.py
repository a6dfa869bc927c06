"""``mpi4py.MPI``, as far as scripts ask it for ranks: a world of this one process."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["COMM_SELF", "COMM_WORLD", "MAX", "MIN", "PROD", "SUM", "Comm", "Get_processor_name"]

SUM, PROD, MAX, MIN = "sum", "prod", "max", "min"


class Comm:
    """A communicator of one process."""

    rank = 0
    size = 1

    def Get_rank(self) -> int:
        """Returns the number of this process: 0."""
        return self.rank

    def Get_size(self) -> int:
        """Returns the number of processes: 1."""
        return self.size

    def Barrier(self) -> None:
        """Waits for nobody."""

    barrier = Barrier

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Returns the object of the root process: the given one."""
        self._check_root(root)
        return obj

    def gather(self, sendobj: Any, root: int = 0) -> list[Any]:
        """Returns the objects of all processes."""
        self._check_root(root)
        return [copy.deepcopy(sendobj)]

    def scatter(self, sendobj: Any, root: int = 0) -> Any:
        """Returns this process's part of a sequence with one part for each."""
        self._check_root(root)
        (part,) = sendobj
        return part

    def allgather(self, sendobj: Any) -> list[Any]:
        """Returns the objects of all processes."""
        return self.gather(sendobj)

    def reduce(self, sendobj: Any, op: Any = SUM, root: int = 0) -> Any:
        """Returns the objects of all processes, reduced: the given one."""
        del op
        return self.bcast(sendobj, root)

    def allreduce(self, sendobj: Any, op: Any = SUM) -> Any:
        """Returns the objects of all processes, reduced: the given one."""
        return self.reduce(sendobj, op)

    def Abort(self, errorcode: int = 0) -> None:
        """Ends the process."""
        raise SystemExit(errorcode)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"MPI.COMM_WORLD has no {name!r} here: mpi4py is not installed, and mxrec.compat has a "
            "world of one process, in which there is nobody to exchange buffers with. Install "
            "mpi4py, or take the call out."
        )

    def _check_root(self, root: int) -> None:
        if root != 0:
            raise ValueError(f"root must be 0, the only process, got {root}.")


COMM_WORLD = Comm()
COMM_SELF = COMM_WORLD


def Get_processor_name() -> str:
    """Returns the name of this machine."""
    import platform

    return platform.node()
