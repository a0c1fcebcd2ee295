"""Random walks whose values can be computed at any clock, without a simulation from clock 0."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_number
from rl_rms.envs.schedules.base import Bounds
from rl_rms.envs.schedules.bridges import Bridged
from rl_rms.envs.schedules.rng import Floats, Key, normals


@dataclass(frozen=True, repr=False)
class OrnsteinUhlenbeck(Bridged):
    """A mean-reverting Gaussian process with the autocovariance ``std**2 exp(-k / tau)``.

    ``x_t = mean + r (x_{t-1} - mean) + std sqrt(1 - r**2) n_t`` with ``r = exp(-1 / tau)`` and standard normal n.
    The process is stationary from clock 0 on. The timescale is ``tau``. The amplitude is ``std``, because the
    process has no bounds.

    Args:
        mean: Mean over time.
        std: Standard deviation over time, >= 0.
        tau: Autocorrelation time in env steps, > 0.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "ornstein_uhlenbeck"

    mean: float
    std: float
    tau: float

    def __post_init__(self) -> None:
        self._keep_number("mean")
        self._keep_number("std", least=0)
        self._keep_number("tau", above=0)

    @property
    def bounds(self) -> Bounds:
        """Minus and plus infinity; ``mean`` if ``std`` is 0."""
        return (-math.inf, math.inf) if self.std > 0 else (self.mean, self.mean)

    @property
    def center(self) -> float:
        """``mean``."""
        return self.mean

    @property
    def amplitude(self) -> float:
        """``std``."""
        return self.std

    def _timescale(self) -> float:
        return self.tau

    # States are deviations from the mean in units of std.

    def _begin(self, uniform: Floats) -> Floats:
        return normals(*uniform)

    def _advance(self, states: Floats, steps: int, uniform: Floats) -> Floats:
        wait = steps / self.tau
        return math.exp(-wait) * states + math.sqrt(-math.expm1(-2 * wait)) * normals(*uniform)

    def _between(self, before: Floats, after: Floats, steps: int, uniform: Floats) -> Floats:
        # Given two ends a and b, each with correlation r to the middle, the middle has the mean
        # r (a + b) / (1 + r**2) and the variance (1 - r**2) / (1 + r**2).
        r = math.exp(-steps / self.tau)
        square = r * r
        std = math.sqrt(-math.expm1(-2 * steps / self.tau) / (1 + square))
        return r / (1 + square) * (before + after) + std * normals(*uniform)

    def _held(self, states: Floats) -> Floats:
        return self.mean + self.std * states


@dataclass(frozen=True, repr=False)
class RandomWalk(Bridged):
    """A sum of independent Gaussian steps, with optional reflecting walls.

    Without walls, the change over k env steps has the standard deviation ``std * sqrt(k)``. With two walls, the
    distribution over time is uniform between the walls, and the timescale is ``(high - low)**2 / (6 std**2)``. A
    half-life that is short compared with the timescale is close to `rl_rms.laws.random_walk_half_life`. Without
    two walls, the variance grows without limit, and the amplitude and the timescale are infinite.

    Args:
        start: Value at clock 0, between the walls.
        std: Standard deviation of the change in one env step, >= 0.
        low: Lower wall; None for no lower wall.
        high: Upper wall, > ``low``; None for no upper wall.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "random_walk"

    start: float
    std: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        start = check_number("RandomWalk: start", self.start)
        object.__setattr__(self, "start", start)
        self._keep_number("std", least=0)
        check_walls(self, self.low, self.high)
        if (self.low is not None and start < self.low) or (self.high is not None and start > self.high):
            raise ValueError(
                f"RandomWalk: start must lie between low and high, got start={start!r}, low={self.low!r}, "
                f"high={self.high!r}"
            )

    @property
    def bounds(self) -> Bounds:
        """The walls, infinite without a wall; ``start`` if ``std`` is 0."""
        if self.std == 0:
            return self.start, self.start
        return (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)

    @property
    def center(self) -> float:
        """The middle between two walls; ``start`` without two walls."""
        low, high = self.bounds
        return low + (high - low) / 2 if math.isfinite(high - low) else self.start

    def _timescale(self) -> float:
        low, high = self.bounds
        width = (high - low) / self.std
        return width * width / 6

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        if math.isinf(self.amplitude):
            raise ValueError(
                f"{self!r} has an infinite variance over time, so snr is undefined; pass low and high, or use "
                "rl_rms.laws.random_walk_half_life"
            )
        return super()._half_life(steps_per_update, snr)

    # States are sums of standard normal steps. Reflecting the values of a walk without walls gives exactly the
    # distribution of a walk that is reflected at each env step.

    def _begin(self, uniform: Floats) -> Floats:
        return np.zeros(uniform.shape[1])

    def _advance(self, states: Floats, steps: int, uniform: Floats) -> Floats:
        return states + math.sqrt(steps) * normals(*uniform)

    def _between(self, before: Floats, after: Floats, steps: int, uniform: Floats) -> Floats:
        return 0.5 * (before + after) + math.sqrt(0.5 * steps) * normals(*uniform)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the walk's values."""
        return fold(super().values(t, key), self.low, self.high)

    def _held(self, states: Floats) -> Floats:
        return self.start + self.std * states


def fold(values: Floats, low: float | None, high: float | None) -> Floats:
    """Reflect values at ``low`` and ``high``, as often as necessary.

    Args:
        values: Any values.
        low: Lower limit; None for no lower limit.
        high: Upper limit, > ``low``; None for no upper limit.

    Returns:
        Values of the same shape within the limits; values already within the limits are unchanged.
    """
    if low is not None and high is not None:
        width = high - low
        folded = low + np.clip(width - np.abs((values - low) % (2 * width) - width), 0.0, width)
        return np.where((values >= low) & (values <= high), values, np.clip(folded, low, high))
    if low is not None:
        return np.where(values < low, 2 * low - values, values)
    if high is not None:
        return np.where(values > high, 2 * high - values, values)
    return values


def check_walls(owner: object, low: float | None, high: float | None, *, needed: bool = False) -> None:
    """Check limits, and assign them to a schedule's ``low`` and ``high``.

    Raises:
        ValueError: If a limit is not a number, if ``low`` is not below ``high``, or if a needed limit is missing.
    """
    name = type(owner).__name__
    if needed and low is None and high is None:
        raise ValueError(f"{name} needs low, high or both, got neither")
    low = None if low is None else check_number(f"{name}: low", low)
    high = None if high is None else check_number(f"{name}: high", high)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{name}: low must be < high, got low={low!r}, high={high!r}")
    object.__setattr__(owner, "low", low)
    object.__setattr__(owner, "high", high)
