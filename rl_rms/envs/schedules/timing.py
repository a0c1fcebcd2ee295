"""Schedules made of others in time: delayed, limited to an interval, and in sequence."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.base import Bounds, Schedule, read_part
from rl_rms.envs.schedules.derived import Derived, amplitude_of, center_of, part_keys
from rl_rms.envs.schedules.rng import Floats, Ints, Key

# Ends that differ by less, in units of the amplitude, meet: sin(2 pi) is not quite 0.
_MEET = 1e-9


@dataclass(frozen=True, init=False, repr=False)
class _Shifted(Derived):
    """A schedule at earlier or later clocks."""

    schedule: Schedule
    steps: int

    def __init__(self, schedule: Any, steps: int) -> None:
        owner = type(self).__name__
        object.__setattr__(self, "schedule", read_part(owner, schedule))
        object.__setattr__(self, "steps", check_int(f"{owner}: steps", steps, least=0, unit="env steps"))


class Delay(_Shifted):
    """The same some env steps later: ``s(t - steps)``, and ``s(0)`` until then.

    Args:
        schedule: The schedule to delay.
        steps: Env steps, >= 0.

    Raises:
        ValueError: If an argument is none of these.
    """

    name: ClassVar[str] = "delay"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The schedule's values at ``t - steps``."""
        return self.schedule.values(np.maximum(np.asarray(t) - self.steps, 0), key)

    def _telling_span(self) -> float:
        return self.steps + self.schedule._telling_span()

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The schedule's own, ``steps`` later."""
        if t1 <= self.steps:
            return np.empty(0, dtype=np.int64)
        return self.schedule.events(max(t0 - self.steps, 0), t1 - self.steps, key) + self.steps


class Ahead(_Shifted):
    """The same some env steps earlier: ``s(t + steps)``.

    Args:
        schedule: The schedule to bring forward.
        steps: Env steps, >= 0.

    Raises:
        ValueError: If an argument is none of these.
    """

    name: ClassVar[str] = "ahead"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The schedule's values at ``t + steps``."""
        return self.schedule.values(np.asarray(t) + self.steps, key)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The schedule's own, ``steps`` earlier."""
        return self.schedule.events(t0 + self.steps, t1 + self.steps, key) - self.steps


@dataclass(frozen=True, init=False, repr=False)
class During(Derived):
    """The same between two clocks, at rest before and after.

    Its clock is the schedule's own: it shows what the schedule does from ``start`` to ``end``, not a beginning.
    Without ``rest`` it stands still at the edges: ``s(start)`` before and ``s(end)`` after. With ``rest`` it has
    the schedule's values at clocks from ``start`` on and below ``end``, and ``rest`` elsewhere; its timescale is
    then at most ``end - start``.

    Args:
        schedule: The schedule to show.
        start: First clock, in env steps, >= 0.
        end: Last clock, above ``start``.
        rest: Value outside; None for those at the edges.

    Raises:
        ValueError: If an argument is none of these.
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
        """The schedule's values inside, those of rest outside."""
        t = np.asarray(t)
        shown = self.schedule.values(np.clip(t, self.start, self.end), key)
        return shown if self.rest is None else np.where((t >= self.start) & (t < self.end), shown, self.rest)

    @property
    def bounds(self) -> Bounds:
        """The schedule's own, widened to ``rest``."""
        low, high = self.schedule.bounds
        return (low, high) if self.rest is None else (min(low, self.rest), max(high, self.rest))

    @property
    def center(self) -> float:
        """The middle of the bounds; without, the schedule's own."""
        return center_of(self.bounds, self.schedule.center)

    @property
    def amplitude(self) -> float:
        """Half of the range between the bounds; without, the schedule's own."""
        return amplitude_of(self.bounds, self.schedule.amplitude)

    @property
    def cycle(self) -> float:
        """Infinite."""
        return math.inf

    def _timescale(self) -> float:
        inside = self.schedule.timescale
        return inside if self.rest is None else min(inside, float(self.end - self.start))

    def _telling_span(self) -> float:
        return 1.25 * self.end

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        if self.schedule.amplitude > 0:
            return super()._half_life(steps_per_update, snr)
        return Schedule._half_life(self, steps_per_update, snr)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The schedule's own inside, and the edges at which it does not meet ``rest``."""
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
    """One schedule until a clock, from there on another, which begins anew: ``first(t)``, then ``second(t - at)``.

    Its timescale is the shortest of both schedules' and ``at``.

    Args:
        first: The schedule below ``at``.
        second: The schedule from ``at`` on, by a clock that is 0 there.
        at: Clock of the change, in env steps, >= 1.

    Raises:
        ValueError: If an argument is none of these.

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
        """The values of the one that holds."""
        t = np.asarray(t)
        first, second = part_keys((self.first, self.second), key)
        values = np.empty(t.shape)
        before = t < self.at
        values[before] = self.first.values(t[before], first)
        values[~before] = self.second.values(t[~before] - self.at, second)
        return values

    @property
    def bounds(self) -> Bounds:
        """The lower of both lower bounds and the higher of both upper ones."""
        (low, high), (other_low, other_high) = self.first.bounds, self.second.bounds
        return min(low, other_low), max(high, other_high)

    @property
    def center(self) -> float:
        """The middle of the bounds; without, that between both centers."""
        return center_of(self.bounds, (self.first.center + self.second.center) / 2)

    @property
    def amplitude(self) -> float:
        """Half of the range between the bounds; without, the larger of both amplitudes."""
        return amplitude_of(self.bounds, max(self.first.amplitude, self.second.amplitude))

    @property
    def random(self) -> bool:
        """Whether one of them is."""
        return self.first.random or self.second.random

    def _timescale(self) -> float:
        return min(self.first.timescale, self.second.timescale, float(self.at))

    def _telling_span(self) -> float:
        return self.at + max(self.second._telling_span(), float(self.at))

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """The shorter of both; that of a `Step` where neither changes by itself."""
        parts = [part for part in (self.first, self.second) if part.amplitude > 0]
        if not parts:
            return super()._half_life(steps_per_update, snr)
        return min(part.half_life(steps_per_update=steps_per_update, snr=snr) for part in parts)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Those of the one that holds, and ``at`` where they do not meet."""
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
    """The value that a schedule would have at a clock if it did not jump there."""
    return schedule.value(t - 1 if schedule.events(t - 1, t, key).size else t, key)


def _meet(before: float, after: float, amplitude: float) -> bool:
    """Whether two ends are the same but for rounding."""
    scale = amplitude if math.isfinite(amplitude) else max(abs(before), abs(after))
    return abs(after - before) <= _MEET * scale
