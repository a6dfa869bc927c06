"""Features of the API that this version does not have.

They are accepted where they are off, and raise NotImplementedError naming the feature where they
are asked for.
"""

from __future__ import annotations


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
