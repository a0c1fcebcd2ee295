"""Schedules that are shifted in time, limited to an interval, or follow each other."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.base import Bounds, Schedule, read_part
from rl_rms.envs.schedules.derived import Derived, amplitude_of, center_of, part_keys
from rl_rms.envs.schedules.rng import Floats, Ints, Key

# A difference of at most this share of the amplitude counts as a rounding error, such as the value of sin(2 pi).
# If the amplitude is infinite, the share refers to the larger value.
_MEET = 1e-9


@dataclass(frozen=True, init=False, repr=False)
class _Shifted(Derived):
    """Base of schedules that are shifted in time."""

    schedule: Schedule
    steps: int

    def __init__(self, schedule: Any, steps: int) -> None:
        owner = type(self).__name__
        object.__setattr__(self, "schedule", read_part(owner, schedule))
        object.__setattr__(self, "steps", check_int(f"{owner}: steps", steps, least=0, unit="env steps"))


class Delay(_Shifted):
    """A schedule shifted to later clock readings: ``s(t - steps)``, and ``s(0)`` before clock ``steps``.

    Args:
        schedule: The schedule to delay.
        steps: Delay in env steps, >= 0.

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "delay"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of ``schedule`` at ``t - steps``, or at 0 before clock ``steps``."""
        return self.schedule.values(np.maximum(np.asarray(t) - self.steps, 0), key)

    def _plot_span(self) -> float:
        return self.steps + self.schedule._plot_span()

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the events of ``schedule``, ``steps`` later."""
        if t1 <= self.steps:
            return np.empty(0, dtype=np.int64)
        return self.schedule.events(max(t0 - self.steps, 0), t1 - self.steps, key) + self.steps


class Ahead(_Shifted):
    """A schedule shifted to earlier clock readings: ``s(t + steps)``.

    Args:
        schedule: The schedule to shift.
        steps: Shift in env steps, >= 0.

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "ahead"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of ``schedule`` at ``t + steps``."""
        return self.schedule.values(np.asarray(t) + self.steps, key)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the events of ``schedule``, ``steps`` earlier."""
        return self.schedule.events(t0 + self.steps, t1 + self.steps, key) - self.steps


@dataclass(frozen=True, init=False, repr=False)
class During(Derived):
    """A schedule s between two clock readings, with constant values before and after.

    The schedule is not shifted to ``start``: at clock t in the interval, the value is ``s(t)``. Without ``rest``,
    the value is ``s(start)`` before ``start`` and ``s(end)`` after ``end``. With ``rest``, the interval is
    ``start <= t < end``, the value elsewhere is ``rest``, and the timescale is at most ``end - start``.

    Args:
        schedule: The schedule s.
        start: First clock of the interval, in env steps, >= 0.
        end: Last clock of the interval, or the first clock after the interval if ``rest`` is given, > ``start``.
        rest: Value outside of the interval; None for ``s(start)`` and ``s(end)``.

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "during"

    schedule: Schedule
    start: int
    end: int
    rest: float | None

    def __init__(self, schedule: Any, start: int, end: int, rest: float | None = None) -> None:
        object.__setattr__(self, "schedule", read_part("During", schedule))
        start = check_int("During: start", start, least=0, unit="env steps")
        end = check_int("During: end", end, least=0, unit="env steps")
        if end <= start:
            raise ValueError(f"During: end must be above start, got start={start}, end={end}")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        object.__setattr__(self, "rest", None if rest is None else check_number("During: rest", rest))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of ``schedule`` inside of the interval, constant values outside."""
        t = np.asarray(t)
        shown = self.schedule.values(np.clip(t, self.start, self.end), key)
        return shown if self.rest is None else np.where((t >= self.start) & (t < self.end), shown, self.rest)

    @property
    def bounds(self) -> Bounds:
        """The bounds of ``schedule``, extended to include ``rest``."""
        low, high = self.schedule.bounds
        return (low, high) if self.rest is None else (min(low, self.rest), max(high, self.rest))

    @property
    def center(self) -> float:
        """The middle of finite bounds, else the center of ``schedule``."""
        return center_of(self.bounds, self.schedule.center)

    @property
    def amplitude(self) -> float:
        """Half of the range between finite bounds, else the amplitude of ``schedule``."""
        return amplitude_of(self.bounds, self.schedule.amplitude)

    @property
    def cycle(self) -> float:
        """Infinite, because the values outside of the interval do not repeat."""
        return math.inf

    def _timescale(self) -> float:
        inside = self.schedule.timescale
        return inside if self.rest is None else min(inside, float(self.end - self.start))

    def _plot_span(self) -> float:
        return 1.25 * self.end

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        if self.schedule.amplitude > 0:
            return super()._half_life(steps_per_update, snr)
        return Schedule._half_life(self, steps_per_update, snr)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the events of ``schedule`` in the interval; with ``rest``, also jumps at its ends."""
        first, last = max(t0, self.start), min(t1, self.end if self.rest is None else self.end - 1)
        inside = self.schedule.events(first, last, key) if first < last else np.empty(0, dtype=np.int64)
        if self.rest is None:
            return inside
        edges = []
        if t0 < self.start <= t1 and self._leaves_rest(self.schedule.value(self.start, key)):
            edges.append(self.start)
        if t0 < self.end <= t1 and self._leaves_rest(_limit_before(self.schedule, self.end, key)):
            edges.append(self.end)
        return np.sort(np.concatenate([inside, np.array(edges, dtype=np.int64)]))

    def _leaves_rest(self, value: float) -> bool:
        return self.rest is not None and not _meet(value, self.rest, self.amplitude)


@dataclass(frozen=True, init=False, repr=False)
class Then(Schedule):
    """Two schedules in sequence: ``first(t)`` before ``at``, then ``second(t - at)``.

    The timescale is the minimum of ``at`` and the timescales of the two schedules.

    Args:
        first: The schedule at clock readings below ``at``.
        second: The schedule from ``at`` on; its clock starts at 0.
        at: Clock of the change, in env steps, >= 1.

    Raises:
        ValueError: If an argument is invalid.

    Examples:
        >>> from rl_rms.envs.schedules import Constant, Linear
        >>> landing = Constant(9.8).then(Linear(9.8, 3.8, over=100), at=50)
        >>> landing.values([49, 50, 100, 150], Key(seed=0)).round(6).tolist()
        [9.8, 9.8, 6.8, 3.8]
    """

    name: ClassVar[str] = "then"

    first: Schedule
    second: Schedule
    at: int

    def __init__(self, first: Any, second: Any, at: int) -> None:
        object.__setattr__(self, "first", read_part("Then", first))
        object.__setattr__(self, "second", read_part("Then", second))
        object.__setattr__(self, "at", check_int("Then: at", at, least=1, unit="env steps"))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of the schedule that is active at each clock."""
        t = np.asarray(t)
        first, second = part_keys((self.first, self.second), key)
        values = np.empty(t.shape)
        before = t < self.at
        values[before] = self.first.values(t[before], first)
        values[~before] = self.second.values(t[~before] - self.at, second)
        return values

    @property
    def bounds(self) -> Bounds:
        """The smallest range that contains both schedules' bounds."""
        (low, high), (other_low, other_high) = self.first.bounds, self.second.bounds
        return min(low, other_low), max(high, other_high)

    @property
    def center(self) -> float:
        """The middle of the bounds if they are finite, else the mean of both centers."""
        return center_of(self.bounds, (self.first.center + self.second.center) / 2)

    @property
    def amplitude(self) -> float:
        """Half of the range between finite bounds, else the larger of both amplitudes."""
        return amplitude_of(self.bounds, max(self.first.amplitude, self.second.amplitude))

    @property
    def random(self) -> bool:
        """Whether one of the schedules is random."""
        return self.first.random or self.second.random

    def _timescale(self) -> float:
        return min(self.first.timescale, self.second.timescale, float(self.at))

    def _plot_span(self) -> float:
        return self.at + max(self.second._plot_span(), float(self.at))

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """Return the shorter half-life of the two schedules, or the half-life of a `Step` if both are constant."""
        parts = [part for part in (self.first, self.second) if part.amplitude > 0]
        if not parts:
            return super()._half_life(steps_per_update, snr)
        return min(part.half_life(steps_per_update=steps_per_update, snr=snr) for part in parts)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the events of the active schedule, and ``at`` if the value jumps there."""
        first, second = part_keys((self.first, self.second), key)
        found = [np.empty(0, dtype=np.int64)]
        if t0 < self.at - 1:
            found.append(self.first.events(t0, min(t1, self.at - 1), first))
        if t0 < self.at <= t1:
            ends = _limit_before(self.first, self.at, first), self.second.value(0, second)
            found.append(np.array([] if _meet(*ends, self.amplitude) else [self.at], dtype=np.int64))
        if t1 > self.at:
            found.append(self.second.events(max(t0 - self.at, 0), t1 - self.at, second) + self.at)
        return np.concatenate(found)


def _limit_before(schedule: Schedule, t: int, key: Key) -> float:
    """Return the value at clock ``t``, or at ``t - 1`` if the schedule jumps at ``t``."""
    return schedule.value(t - 1 if schedule.events(t - 1, t, key).size else t, key)


def _meet(before: float, after: float, amplitude: float) -> bool:
    """Whether two values are equal up to rounding."""
    scale = amplitude if math.isfinite(amplitude) else max(abs(before), abs(after))
    return abs(after - before) <= _MEET * scale
