"""Periodic schedules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_number
from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import Floats, Ints, Key
from rl_rms.laws import sinusoid_half_life


@dataclass(frozen=True, init=False, repr=False)
class Sinusoid(Schedule):
    """A sine wave: ``mean + amplitude * sin(2 pi t / period + phase)``.

    The timescale is ``period / (2 pi)``, the inverse of the angular frequency.

    Args:
        mean: Mean over time.
        amplitude: Largest distance from the mean, >= 0.
        period: Length of a period in env steps, > 0.
        phase: Angle at clock 0, in radians.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "sinusoid"
    _kept_as: ClassVar[Mapping[str, str]] = {"amplitude": "swing"}

    mean: float
    swing: float
    period: float
    phase: float

    def __init__(self, mean: float, amplitude: float, period: float, phase: float = 0.0) -> None:
        object.__setattr__(self, "mean", check_number("Sinusoid: mean", mean))
        object.__setattr__(self, "swing", check_number("Sinusoid: amplitude", amplitude, least=0))
        object.__setattr__(self, "period", check_number("Sinusoid: period", period, above=0))
        object.__setattr__(self, "phase", check_number("Sinusoid: phase", phase))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the sine wave."""
        return self.mean + self.swing * np.sin(2 * math.pi * np.asarray(t) / self.period + self.phase)

    @property
    def bounds(self) -> Bounds:
        """``mean`` minus and plus ``amplitude``."""
        return self.mean - self.swing, self.mean + self.swing

    @property
    def amplitude(self) -> float:
        """``amplitude``, as given to the constructor."""
        return self.swing

    @property
    def cycle(self) -> float:
        """``period``."""
        return float(self.period)

    def _timescale(self) -> float:
        return self.period / (2 * math.pi)

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        frequency = steps_per_update / self.timescale
        # Let S be the variance of the value, R the variance of one measurement's noise, w the angular frequency
        # per update, and theta the time constant of the average in updates. With x = w theta, the exact error is
        # S x**2 / (1 + x**2) + R w / (2 x). An average over all time has the error S. If w R >= S, every half-life
        # has at least this error.
        return sinusoid_half_life(1.0, frequency, 0.5 / snr) if frequency < snr else math.inf


@dataclass(frozen=True, repr=False)
class _Wave(Schedule):
    """A periodic schedule between two values, with jumps."""

    low: float
    high: float
    period: int

    def __post_init__(self) -> None:
        self._keep_number("low")
        self._keep_number("high")
        self._keep_int("period", least=2)

    @property
    def bounds(self) -> Bounds:
        """The lower value and the higher."""
        return min(self.low, self.high), max(self.low, self.high)

    @property
    def cycle(self) -> float:
        """``period``."""
        return float(self.period)

    def _plot_span(self) -> float:
        return 4.0 * self.period

    def _returns(self, t0: int, t1: int, phase: int = 0) -> Ints:
        """Return the clock readings in ``(t0, t1]`` that lie ``phase`` after a multiple of the period."""
        first, last = (t0 - phase) // self.period + 1, (t1 - phase) // self.period
        return np.arange(first, last + 1, dtype=np.int64) * self.period + phase


@dataclass(frozen=True, repr=False)
class Square(_Wave):
    """A square wave: ``high`` in the first share ``duty`` of each period, ``low`` in the rest.

    The timescale is ``duty * (1 - duty) * period``.

    Args:
        low: Value in the rest of a period.
        high: Value at the beginning of a period.
        period: Length of a period in env steps, >= 2.
        duty: Share of time at ``high``, in (0, 1), rounded to whole env steps. Each value gets at least one env
            step.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "square"

    duty: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep_number("duty", above=0, below=1)

    @property
    def _falls_at(self) -> int:
        """Env steps of ``high`` in each period."""
        return min(max(round(self.duty * self.period), 1), self.period - 1)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the wave's values."""
        return np.where(np.asarray(t) % self.period < self._falls_at, self.high, self.low)

    def _timescale(self) -> float:
        share = self._falls_at / self.period
        return share * (1 - share) * self.period

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the value rises or falls."""
        if self.low == self.high:
            return np.empty(0, dtype=np.int64)
        return np.sort(np.concatenate([self._returns(t0, t1), self._returns(t0, t1, self._falls_at)]))


@dataclass(frozen=True, repr=False)
class Sawtooth(_Wave):
    """A repeated ramp: ``low + (high - low) * (t mod period) / period``.

    The timescale is ``period / 6``. This formula ignores the ramps, because the jumps cause more error than the
    ramps if the half-life is short.

    Args:
        low: Value at the beginning of a period.
        high: Value that each ramp approaches.
        period: Length of a period in env steps, >= 2.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "sawtooth"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the ramps' values."""
        return self.low + (self.high - self.low) * (np.asarray(t) % self.period) / self.period

    def _timescale(self) -> float:
        return self.period / 6

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the multiples of the period in ``(t0, t1]``, at which a new ramp begins."""
        return np.empty(0, dtype=np.int64) if self.low == self.high else self._returns(t0, t1)
