"""What the accelerator has and one process without it cannot have."""

from __future__ import annotations

from typing import Any, NoReturn


def absent(place: str, name: str, remedy: str = "Leave the call out.") -> Any:
    """Returns what stands for an operation that means nothing here: calling it raises.

    Args:
        place: the accelerator's module.
        name: of the function or class.
        remedy: what to do instead.
    """

    def raise_absent(*args: Any, **kwargs: Any) -> NoReturn:
        """Raises NotImplementedError."""
        del args, kwargs
        raise NotImplementedError(
            f"{place}.{name} works on the accelerator's own hardware and has no counterpart in "
            f"stock TensorFlow. {remedy}"
        )

    raise_absent.__name__ = raise_absent.__qualname__ = name
    return raise_absent
