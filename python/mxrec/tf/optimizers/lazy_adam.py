"""Adam (Kingma and Ba 2015) with global bias correction, on the rows seen in the step only."""

from __future__ import annotations

from typing import Any

from mxrec.tf.optimizers.base import SparseOptimizer
from mxrec.tf.validation import check_bool, check_float


def create_hash_optimizer(
    learning_rate: Any = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    name: str = "LazyAdam",
    use_fusion_optim: bool = False,
) -> SparseOptimizer:
    """Returns the optimizer. One ``apply_gradients`` is one step of the bias correction.

    Args:
        learning_rate: number in [0, 10], scalar tensor, callable or schedule.
        beta1: decay of the first moment, (0, 1).
        beta2: decay of the second moment, [0, 1].
        epsilon: (0, 1].
        name: of the optimizer.
        use_fusion_optim: accepted; the update is always one op.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """
    check_bool("use_fusion_optim", use_fusion_optim)
    return SparseOptimizer(
        "LazyAdam",
        learning_rate,
        name,
        beta1=check_float("beta1", beta1, 0.0, 1.0, open_low=True, open_high=True),
        beta2=check_float("beta2", beta2, 0.0, 1.0),
        epsilon=check_float("epsilon", epsilon, 0.0, 1.0, open_low=True),
    )
