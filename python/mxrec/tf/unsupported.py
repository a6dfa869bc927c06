"""Features of the API that this version does not have.

Everything here is accepted where it is off, and raises NotImplementedError naming the feature
where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mxrec.tf.validation import check_bool

_PIPELINE = "key processing in the input pipeline"


def not_delivered(feature: str, asked_by: str, remedy: str = "leave it off") -> NotImplementedError:
    """Returns the error that says that a feature is not in this version.

    Args:
        feature: what is missing.
        asked_by: the argument or call that asked for it.
        remedy: what to do instead.
    """
    return NotImplementedError(
        f"{asked_by}: this version of mxrec does not have {feature}; {remedy}."
    )


def do_merge_lookup(is_train: bool = True) -> NoReturn:
    """Merges the lookups of one table."""
    raise not_delivered("merging of lookups", f"do_merge_lookup(is_train={is_train})")


def get_asc_insert_func(
    tgt_key_specs: Any = None,
    args_index_list: Sequence[int] | None = None,
    table_names: Sequence[str] | None = None,
    is_training: bool = True,
    dump_graph: bool = False,
    **kwargs: Any,
) -> Callable[..., Any]:
    """Returns a function for ``dataset.map`` that starts the key processing."""
    check_bool("is_training", is_training)
    check_bool("dump_graph", dump_graph)
    raise not_delivered(_PIPELINE, "get_asc_insert_func")


def start_asc_pipeline() -> None:
    """Starts the key processing of the input pipeline: there is none to start."""
