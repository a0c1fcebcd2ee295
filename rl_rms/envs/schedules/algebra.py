"""Schedules made of others clock by clock: sums, products, limits and mirrors.

The parts of a sum or product share no random numbers: each random part gets a key of its own. Where only one part
is random it keeps the whole's, so that ``2 * s + 1`` follows the very trace of ``s``, as ``2 + (r + s)`` does that
of ``r + s``.

A whole jumps where a part jumps and the whole's value is another one than a clock before: jumps that cancel each
other, or that a limit hides, are no events.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.configurable import plain
from rl_rms.envs.schedules.base import Bounds, Schedule, read_part
from rl_rms.envs.schedules.derived import Derived, amplitude_of, center_of, part_keys
from rl_rms.envs.schedules.diffusion import check_walls, fold
from rl_rms.envs.schedules.rng import Floats, Ints, Key


@dataclass(frozen=True, init=False, repr=False)
class _Combined(Schedule):
    """Several schedules at once."""

    _list_argument: ClassVar[str] = "schedules"

    schedules: tuple[Schedule, ...]

    def __init__(self, schedules: Sequence[Any]) -> None:
        owner = type(self).__name__
        if not isinstance(schedules, (list, tuple)) or not schedules:
            raise ValueError(f"{owner}: schedules must be a list of schedules or numbers, got {schedules!r}")
        read = (read_part(owner, one) for one in schedules)
        # Flat, so that however a user wrote the brackets the same parts have the same keys.
        flat = tuple(part for one in read for part in (one.schedules if isinstance(one, type(self)) else (one,)))
        object.__setattr__(self, "schedules", flat)

    def _parts(self, t: npt.ArrayLike, key: Key) -> list[Floats]:
        keys = part_keys(self.schedules, key)
        return [part.values(t, its) for part, its in zip(self.schedules, keys, strict=True)]

    @property
    def random(self) -> bool:
        """Whether a part is."""
        return any(part.random for part in self.schedules)

    @property
    def cycle(self) -> float:
        """The cycle of the parts that change, if all have the same."""
        cycles = {part.cycle for part in self.schedules if part.amplitude > 0}
        return cycles.pop() if len(cycles) == 1 else math.inf

    def _timescale(self) -> float:
        """The shortest of any part."""
        return min(part.timescale for part in self.schedules)

    def _telling_span(self) -> float:
        return max(part._telling_span() for part in self.schedules)

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """``(sum s_i / h_i**2) ** (-1/2)`` with the parts' half-lives h_i and their shares s_i of the variance.

        The lags' costs add; that of jumps or of a random walk is ``s_i theta / theta_i**2``, up to a factor. Parts
        with amplitudes a_i are taken to have shares ``a_i**2 / sum a_j**2``.
        """
        parts = [part.half_life(steps_per_update=steps_per_update, snr=snr) for part in self.schedules]
        weights = self._weights()
        # Roots of sums of squares, which no large or small value makes overflow.
        rate = math.hypot(*(weight / half_life for weight, half_life in zip(weights, parts, strict=True)))
        return math.hypot(*weights) / rate if rate > 0 else math.inf

    def _weights(self) -> list[float]:
        """The amplitude that each part adds to the whole."""
        return [part.amplitude for part in self.schedules]

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The clocks in ``(t0, t1]`` at which a part jumps and the whole is another than before."""
        keys = part_keys(self.schedules, key)
        parts = [part.events(t0, t1, its) for part, its in zip(self.schedules, keys, strict=True)]
        return self._where_changed(np.unique(np.concatenate(parts)), key)

    def to_config(self) -> dict[str, Any]:
        """The YAML form, ``{name: [schedules]}``."""
        return {self.name: plain(self.schedules)}


class Sum(_Combined):
    """The sum of schedules; numbers stand for constants.

    Its bounds are the sums of the parts' bounds, which it need not reach. Its amplitude is the sum of the parts'
    amplitudes; its timescale the shortest of any part.

    Args:
        schedules: The parts.

    Raises:
        ValueError: If it is no list of schedules.
    """

    name: ClassVar[str] = "sum"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The sum of the parts' values."""
        total: Floats = np.sum(self._parts(t, key), axis=0)
        return total

    @property
    def bounds(self) -> Bounds:
        """The sums of the parts' bounds."""
        return sum(part.bounds[0] for part in self.schedules), sum(part.bounds[1] for part in self.schedules)

    @property
    def center(self) -> float:
        """The sum of the parts' centers."""
        return sum(part.center for part in self.schedules)

    @property
    def amplitude(self) -> float:
        """The sum of the parts' amplitudes."""
        return sum(part.amplitude for part in self.schedules)


class Product(_Combined):
    """The product of schedules; numbers stand for constants.

    Its bounds are those that the parts' bounds allow, which it need not reach. Where a part has none, its
    amplitude is the standard deviation of a product of independent parts whose standard deviations are their
    amplitudes. Its timescale is the shortest of any part.

    Args:
        schedules: The parts.

    Raises:
        ValueError: If it is no list of schedules.
    """

    name: ClassVar[str] = "product"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The product of the parts' values."""
        product: Floats = np.prod(self._parts(t, key), axis=0)
        return product

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest product of values within the parts' bounds."""
        low, high = 1.0, 1.0
        for part in self.schedules:
            # 0 times anything is 0, even where the other has no bound.
            corners = [a * b if a and b else 0.0 for a in (low, high) for b in part.bounds]
            low, high = min(corners), max(corners)
        return low, high

    @property
    def center(self) -> float:
        """The middle of the bounds; without, the product of the parts' centers."""
        return center_of(self.bounds, math.prod(part.center for part in self.schedules))

    @property
    def amplitude(self) -> float:
        """Half of the range between the bounds; without, the product's standard deviation."""
        squares = math.prod(part.center**2 + part.amplitude**2 for part in self.schedules)
        deviation = math.sqrt(squares - math.prod(part.center**2 for part in self.schedules))
        return amplitude_of(self.bounds, deviation)

    def _weights(self) -> list[float]:
        """Each part's amplitude beside the others at their centers; amplitudes alone where all centers are 0."""
        centers = [abs(part.center) for part in self.schedules]
        weights = [
            part.amplitude * math.prod(centers[:index] + centers[index + 1 :]) if part.amplitude else 0.0
            for index, part in enumerate(self.schedules)
        ]
        return weights if any(weights) else super()._weights()


@dataclass(frozen=True, init=False, repr=False)
class _Limited(Derived):
    """A schedule between limits."""

    schedule: Schedule
    low: float | None
    high: float | None

    def __init__(self, schedule: Any, low: float | None = None, high: float | None = None) -> None:
        object.__setattr__(self, "schedule", read_part(type(self).__name__, schedule))
        check_walls(self, low, high, needed=True)

    @property
    def center(self) -> float:
        """The middle of the bounds; without, the schedule's own, limited alike."""
        return center_of(self.bounds, float(self._limit(np.array([self.schedule.center]))[0]))

    @property
    def amplitude(self) -> float:
        """Half of the range between the bounds; without, the schedule's own."""
        return amplitude_of(self.bounds, self.schedule.amplitude)

    @abstractmethod
    def _limit(self, values: Floats) -> Floats:
        """Values within the limits."""

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The schedule's values within the limits."""
        return self._limit(self.schedule.values(t, key))

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The schedule's own, where the limits leave another value than before."""
        return self._where_changed(self.schedule.events(t0, t1, key), key)


class Clip(_Limited):
    """The value, or the nearer limit where it is outside.

    Timescale and half-life are the schedule's own.

    Args:
        schedule: The schedule to limit.
        low: Lower limit; None for none.
        high: Upper limit, above the lower one; None for none.

    Raises:
        ValueError: If there is no limit, or an argument is none of these.
    """

    name: ClassVar[str] = "clip"

    @property
    def bounds(self) -> Bounds:
        """The schedule's own, limited."""
        low, high = self._limit(np.array(self.schedule.bounds)).tolist()
        return low, high

    def _limit(self, values: Floats) -> Floats:
        return np.clip(values, self.low, self.high)


class Reflect(_Limited):
    """The value as mirrors at the limits throw it back, any number of times.

    Timescale and half-life are the schedule's own; a random walk between mirrors has its own ``low`` and ``high``,
    with which it knows its timescale.

    Args:
        schedule: The schedule to reflect.
        low: Lower mirror; None for none.
        high: Upper mirror, above the lower one; None for none.

    Raises:
        ValueError: If there is no mirror, or an argument is none of these.
    """

    name: ClassVar[str] = "reflect"

    @property
    def bounds(self) -> Bounds:
        """Those that the mirrors leave, which are the schedule's own where they are within."""
        low, high = self.schedule.bounds
        least, most = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if least <= low and high <= most:
            return low, high
        if math.isfinite(low) and math.isfinite(high):
            # Folding turns only where the value passes a mirror or an image of one.
            ends = fold(np.array([low, high]), self.low, self.high).tolist()
            turns = [one for one in (least, most) if math.isfinite(one) and self._reaches(one, low, high)]
            return min(ends + turns), max(ends + turns)
        if math.isfinite(least) and math.isfinite(most):
            return least, most
        if self.high is None:
            return least, max(high, 2 * least - low)
        return min(low, 2 * most - high), most

    def _reaches(self, mirror: float, low: float, high: float) -> bool:
        """Whether values from ``low`` to ``high`` come to a mirror or an image of it."""
        if self.low is None or self.high is None:
            return low <= mirror <= high
        period = 2 * (self.high - self.low)
        return math.floor((high - mirror) / period) >= math.ceil((low - mirror) / period)

    def _limit(self, values: Floats) -> Floats:
        return fold(values, self.low, self.high)
