"""Smooth transitions from one value to another."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import Floats, Key
from rl_rms.laws import ramp_half_life

# Length, in units of tau, of the ramp with the same best half-life as the first 3 tau of an exponential approach.
# The first 3 tau cover 95 % of the approach. An average lags by its time constant times the slope. The best
# half-life therefore depends on the variance divided by the mean squared slope. For a ramp, this ratio is
# length**2 / 12.
_RAMPS_PER_TAU = 2.18
# Length of the equivalent ramp for half a cosine, divided by the cosine's length. Half a cosine has the variance
# 1 / 8 and the mean squared slope pi**2 / (8 length**2).
_RAMPS_PER_COSINE = math.sqrt(12.0) / math.pi


@dataclass(frozen=True, repr=False)
class _Transition(Schedule):
    """A transition from ``start`` to ``end``."""

    start: float
    end: float

    def __post_init__(self) -> None:
        self._keep_number("start")
        self._keep_number("end")

    @property
    def bounds(self) -> Bounds:
        """The lower and the higher of ``start`` and ``end``."""
        return min(self.start, self.end), max(self.start, self.end)

    def _within(self, values: Floats) -> Floats:
        """Clip values to the bounds, which rounding errors may exceed."""
        clipped: Floats = np.clip(values, *self.bounds)
        return clipped

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """Compute the half-life of an equivalent ramp with a range of 1, whose variance over time is 1/12."""
        return ramp_half_life(steps_per_update / self._ramp(), 1.0 / (12.0 * snr))

    def _plot_span(self) -> float:
        return 1.5 * self._ramp()

    def _ramp(self) -> float:
        """Length in env steps of the ramp with the same best half-life."""
        return self._timescale()


@dataclass(frozen=True, repr=False)
class _Timed(_Transition):
    """A transition that takes ``over`` env steps."""

    over: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep_number("over", above=0)

    def _timescale(self) -> float:
        return self.over


@dataclass(frozen=True, repr=False)
class Linear(_Timed):
    """A ramp: ``start + (end - start) * min(t / over, 1)``.

    The timescale is ``over``. The half-life has the least mean squared error during the ramp. The variance in
    ``snr`` is the variance during the ramp, ``(end - start)**2 / 12``.

    Args:
        start: Value at clock 0.
        end: Value from clock ``over`` on.
        over: Length of the ramp in env steps, > 0.

    Raises:
        ValueError: If an argument is not a finite number or ``over`` is not above 0.
    """

    name: ClassVar[str] = "linear"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the ramp."""
        t = np.asarray(t)
        return np.where(t < self.over, self.start + (self.end - self.start) * t / self.over, self.end)


@dataclass(frozen=True, repr=False)
class Cosine(_Timed):
    """Half a cosine: ``end + (start - end) (1 + cos(pi min(t / over, 1))) / 2``.

    A learning rate with this schedule is cosine annealing (Loshchilov and Hutter, "SGDR", 2017). Cosine annealing
    with a warm-up is ``Linear(0, rate, 1_000).then(Cosine(rate, 0, 99_000), at=1_000)``.

    The timescale is ``over``. The half-life has the least mean squared error during the transition.

    Args:
        start: Value at clock 0.
        end: Value from clock ``over`` on.
        over: Length of the transition in env steps, > 0.

    Raises:
        ValueError: If an argument is not a finite number or ``over`` is not above 0.
    """

    name: ClassVar[str] = "cosine"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the transition."""
        share = np.minimum(np.asarray(t) / self.over, 1.0)
        return self._within(self.end + (self.start - self.end) * (1.0 + np.cos(math.pi * share)) / 2.0)

    def _ramp(self) -> float:
        return _RAMPS_PER_COSINE * self.over


@dataclass(frozen=True, repr=False)
class Exponential(_Transition):
    """An exponential approach: ``end + (start - end) * exp(-t / tau)``.

    The timescale is ``tau``. The half-life has the least mean squared error over the first ``3 tau``.

    Args:
        start: Value at clock 0.
        end: Limit of the values.
        tau: Env steps in which the distance to ``end`` falls to ``1 / e`` of the initial distance, > 0.

    Raises:
        ValueError: If an argument is not a finite number or ``tau`` is not above 0.
    """

    name: ClassVar[str] = "exponential"

    tau: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep_number("tau", above=0)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the exponential."""
        return self._within(self.end + (self.start - self.end) * np.exp(-np.asarray(t) / self.tau))

    def _timescale(self) -> float:
        return self.tau

    def _ramp(self) -> float:
        return _RAMPS_PER_TAU * self.tau

    def _plot_span(self) -> float:
        return 5 * self.tau


@dataclass(frozen=True, repr=False)
class Sigmoid(_Transition):
    """A smooth step: ``start + (end - start) / (1 + exp(-8 (t - at) / over))``.

    The ``over`` env steps around ``at`` cover 96 % of the transition. The timescale is ``over``. The half-life is
    the half-life of a `Linear` of the length ``over``, which has nearly the same ratio of variance to mean squared
    slope.

    Args:
        start: Value long before ``at``.
        end: Value long after ``at``.
        at: Clock of the middle, in env steps.
        over: Length in env steps, > 0.

    Raises:
        ValueError: If an argument is not a finite number or ``over`` is not above 0.
    """

    name: ClassVar[str] = "sigmoid"

    at: float
    over: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep_number("at")
        self._keep_number("over", above=0)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the sigmoid."""
        # 1 / (1 + exp(-2 x)) as a tanh, which cannot overflow.
        share = 0.5 + 0.5 * np.tanh(4.0 * (np.asarray(t) - self.at) / self.over)
        return self._within(self.start + (self.end - self.start) * share)

    def _timescale(self) -> float:
        return self.over

    def _plot_span(self) -> float:
        return max(self.at, 0.0) + self.over
