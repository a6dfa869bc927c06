"""Optimizers of a table: how one step changes its rows.

All of them work alike: the gradients of a key that occurs several times in a batch are summed, in
the order of the batch, and each row is updated once per step. Rows that are not in the batch do
not change. Computation is in float32. ``w`` is a row, ``g`` its summed gradient, ``lr`` the
learning rate.
"""

from dataclasses import dataclass

from mxrec import _mxrec
from mxrec._fields import finite, shortest

__all__ = ["SGD", "Adagrad", "Ftrl", "LazyAdam", "Momentum", "Optimizer"]


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimizers; not used itself."""

    learning_rate: float = 0.01

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        raise NotImplementedError(f"{type(self).__name__} is no optimizer of the engine")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with weight decay: ``w -= lr * (g + weight_decay * w)``.

    Args:
        learning_rate: At least 0.
        weight_decay: In [0, 1].

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        finite(self, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        self.to_options()

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        return _mxrec.OptimizerOptions(
            "SGD", learning_rate=self.learning_rate, weight_decay=self.weight_decay
        )


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum, as TensorFlow's ``SparseApplyMomentum``.

    ``m = momentum * m + g``, then ``w -= lr * m``, or with Nesterov's momentum
    ``w -= lr * (g + momentum * m)``. One slot, ``m``, that starts at 0.

    Args:
        learning_rate: At least 0.
        momentum: In [0, 1].
        use_nesterov: Whether to look ahead.

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    momentum: float = 0.9
    use_nesterov: bool = False

    def __post_init__(self) -> None:
        finite(self, learning_rate=self.learning_rate, momentum=self.momentum)
        self.to_options()

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        return _mxrec.OptimizerOptions(
            "Momentum",
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.use_nesterov,
        )


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011), as TensorFlow's ``SparseApplyAdagrad``.

    ``a += g**2``, then ``w -= lr * g / sqrt(a)``. One slot, ``a``.

    Args:
        learning_rate: At least 0.
        initial_accumulator_value: First value of ``a``; above 0.

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    initial_accumulator_value: float = 0.1

    def __post_init__(self) -> None:
        finite(
            self,
            learning_rate=self.learning_rate,
            initial_accumulator_value=self.initial_accumulator_value,
        )
        self.to_options()

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        return _mxrec.OptimizerOptions(
            "Adagrad",
            learning_rate=self.learning_rate,
            initial_accumulator_value=self.initial_accumulator_value,
        )


@dataclass(frozen=True)
class Ftrl(Optimizer):
    """FTRL-Proximal (McMahan et al., 2013), as TensorFlow's ``SparseApplyFtrlV2``.

    With ``p = -learning_rate_power``::

        gs = g + 2 * l2_shrinkage_regularization_strength * w
        sigma = ((n + g**2)**p - n**p) / lr
        z += gs - sigma * w
        n += g**2
        w = (sign(z) * l1 - z) / (n**p / lr + 2 * l2)   where |z| > l1, else 0

    Two slots: ``accumulator`` (``n``) and ``linear`` (``z``, starts at 0).

    Args:
        learning_rate: Above 0.
        learning_rate_power: At most 0.
        initial_accumulator_value: First value of ``n``; at least 0.
        l1_regularization_strength: ``l1``, at least 0.
        l2_regularization_strength: ``l2``, at least 0.
        l2_shrinkage_regularization_strength: At least 0.

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0

    def __post_init__(self) -> None:
        finite(
            self,
            learning_rate=self.learning_rate,
            learning_rate_power=self.learning_rate_power,
            initial_accumulator_value=self.initial_accumulator_value,
            l1_regularization_strength=self.l1_regularization_strength,
            l2_regularization_strength=self.l2_regularization_strength,
            l2_shrinkage_regularization_strength=self.l2_shrinkage_regularization_strength,
        )
        self.to_options()

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        return _mxrec.OptimizerOptions(
            "Ftrl",
            learning_rate=self.learning_rate,
            learning_rate_power=self.learning_rate_power,
            initial_accumulator_value=self.initial_accumulator_value,
            l1_regularization=self.l1_regularization_strength,
            l2_regularization=self.l2_regularization_strength,
            l2_shrinkage_regularization=self.l2_shrinkage_regularization_strength,
        )


@dataclass(frozen=True)
class LazyAdam(Optimizer):
    """Adam (Kingma and Ba, 2015) on the rows of the batch only.

    ``t`` counts the steps of the table (calls of ``apply_gradients``)::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w -= lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

    Two slots, ``m`` and ``v``, that start at 0.

    Args:
        learning_rate: At least 0.
        beta1: In [0, 1).
        beta2: In [0, 1].
        epsilon: Above 0.

    Raises:
        ValueError: A hyperparameter is out of its range.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        finite(
            self,
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )
        self.to_options()

    def to_options(self) -> _mxrec.OptimizerOptions:
        """Gives the engine's form of these hyperparameters."""
        return _mxrec.OptimizerOptions(
            "LazyAdam",
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )


def from_options(options: _mxrec.OptimizerOptions) -> Optimizer | None:
    """Gives the optimizer that the engine describes, or None where there is none."""
    o = options
    lr = shortest(o.learning_rate)
    match o.kind:
        case "None":
            return None
        case "SGD":
            return SGD(lr, shortest(o.weight_decay))
        case "Momentum":
            return Momentum(lr, shortest(o.momentum), o.nesterov)
        case "Adagrad":
            return Adagrad(lr, shortest(o.initial_accumulator_value))
        case "Ftrl":
            return Ftrl(
                lr,
                shortest(o.learning_rate_power),
                shortest(o.initial_accumulator_value),
                shortest(o.l1_regularization),
                shortest(o.l2_regularization),
                shortest(o.l2_shrinkage_regularization),
            )
        case "LazyAdam":
            return LazyAdam(lr, shortest(o.beta1), shortest(o.beta2), shortest(o.epsilon))
    raise ValueError(f"options.kind {o.kind!r} is no optimizer of this version of mxrec")
