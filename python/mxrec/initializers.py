"""Initializers: the first values of a key's row.

The value of column ``c`` of key ``k`` is a pure function of the table's seed, ``k`` and ``c``. It
does not depend on the order of insertion, the number of threads or shards, or on restarts.
"""

from dataclasses import dataclass, field
from typing import Literal, cast

from mxrec import _mxrec
from mxrec._fields import finite, shortest

__all__ = [
    "Constant",
    "Initializer",
    "Normal",
    "Ones",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "Zeros",
]

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["truncated_normal", "untruncated_normal", "uniform"]


@dataclass(frozen=True)
class Initializer:
    """Base of the initializers; not used itself.

    Args:
        gain: Every drawn value is multiplied by it.
    """

    gain: float = field(default=1.0, kw_only=True)

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        raise NotImplementedError(f"{type(self).__name__} is no initializer of the engine")


@dataclass(frozen=True)
class Zeros(Initializer):
    """Zeros."""

    def __post_init__(self) -> None:
        finite(self, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions("Zeros", gain=self.gain)


@dataclass(frozen=True)
class Ones(Initializer):
    """Ones."""

    def __post_init__(self) -> None:
        finite(self, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions("Ones", gain=self.gain)


@dataclass(frozen=True)
class Constant(Initializer):
    """One value everywhere.

    Args:
        value: Any finite number.

    Raises:
        ValueError: ``value`` is not finite.
    """

    value: float

    def __post_init__(self) -> None:
        finite(self, value=self.value, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions("Constant", value=self.value, gain=self.gain)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [low, high).

    Args:
        low: Lower end, included.
        high: Upper end, excluded; not below ``low``.

    Raises:
        ValueError: ``high`` is below ``low``, or one of them is not finite.
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        finite(self, low=self.low, high=self.high, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions("Uniform", low=self.low, high=self.high, gain=self.gain)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal distribution.

    Args:
        mean: Its mean.
        stddev: Its standard deviation; at least 0.

    Raises:
        ValueError: A parameter is out of its range.
    """

    mean: float = 0.0
    stddev: float = 1.0

    def __post_init__(self) -> None:
        finite(self, mean=self.mean, stddev=self.stddev, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions(
            "Normal", mean=self.mean, stddev=self.stddev, gain=self.gain
        )


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal distribution without what is beyond two standard deviations.

    As TensorFlow's ``truncated_normal_initializer``.

    Args:
        mean: Mean of the untruncated distribution.
        stddev: Standard deviation of the untruncated distribution; at least 0.

    Raises:
        ValueError: A parameter is out of its range.
    """

    mean: float = 0.0
    stddev: float = 1.0

    def __post_init__(self) -> None:
        finite(self, mean=self.mean, stddev=self.stddev, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions(
            "TruncatedNormal", mean=self.mean, stddev=self.stddev, gain=self.gain
        )


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Values whose variance is ``scale / n``, as TensorFlow's ``VarianceScaling``.

    ``n`` is ``fan_in`` (rows), ``fan_out`` (the table's ``dim``) or their mean, as ``mode`` says.

    Args:
        scale: Above 0.
        mode: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``.
        distribution: ``"truncated_normal"``, ``"untruncated_normal"`` or ``"uniform"``.
        fan_in: Number of rows to assume; 0 takes ``dim``, because a growing table has no row count.

    Raises:
        ValueError: A parameter is out of its range.
    """

    scale: float = 1.0
    mode: Mode = "fan_in"
    distribution: Distribution = "truncated_normal"
    fan_in: int = 0

    def __post_init__(self) -> None:
        finite(self, scale=self.scale, gain=self.gain)
        self.to_options()

    def to_options(self) -> _mxrec.InitializerOptions:
        """Gives the engine's form of these parameters."""
        return _mxrec.InitializerOptions(
            "VarianceScaling",
            scale=self.scale,
            mode=self.mode,
            distribution=self.distribution,
            fan_in=self.fan_in,
            gain=self.gain,
        )


def from_options(options: _mxrec.InitializerOptions) -> Initializer:
    """Gives the initializer that the engine describes."""
    o = options
    gain = shortest(o.gain)
    match o.kind:
        case "Zeros":
            return Zeros(gain=gain)
        case "Ones":
            return Ones(gain=gain)
        case "Constant":
            return Constant(shortest(o.value), gain=gain)
        case "Uniform":
            return Uniform(shortest(o.low), shortest(o.high), gain=gain)
        case "Normal":
            return Normal(shortest(o.mean), shortest(o.stddev), gain=gain)
        case "TruncatedNormal":
            return TruncatedNormal(shortest(o.mean), shortest(o.stddev), gain=gain)
        case "VarianceScaling":
            return VarianceScaling(
                shortest(o.scale),
                cast(Mode, o.mode),
                cast(Distribution, o.distribution),
                o.fan_in,
                gain=gain,
            )
    raise ValueError(f"options.kind {o.kind!r} is no initializer of this version of mxrec")
