"""Sums, products, clipping and reflection of schedules.

If several parts of a sum or product are random, each random part gets its own key, so the random numbers of the
parts are independent. A single random part keeps the key of the combination, so that ``2 * s + 1`` uses the random
numbers of ``s``.

A combination jumps at a clock if a part jumps and the combined value changes. Jumps without an effect on the
combined value are not events.
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
    """Base class of sums and products."""

    _list_argument: ClassVar[str] = "schedules"

    schedules: tuple[Schedule, ...]

    def __init__(self, schedules: Sequence[Any]) -> None:
        owner = type(self).__name__
        if not isinstance(schedules, (list, tuple)) or not schedules:
            raise ValueError(f"{owner}: schedules must be a list of schedules or numbers, got {schedules!r}")
        read = (read_part(owner, one) for one in schedules)
        # A sum within a sum is flattened, as is a product within a product. The keys therefore do not depend on
        # brackets.
        flat = tuple(part for one in read for part in (one.schedules if isinstance(one, type(self)) else (one,)))
        object.__setattr__(self, "schedules", flat)

    def _parts(self, t: npt.ArrayLike, key: Key) -> list[Floats]:
        keys = part_keys(self.schedules, key)
        return [part.values(t, its) for part, its in zip(self.schedules, keys, strict=True)]

    @property
    def random(self) -> bool:
        """Whether a part is random."""
        return any(part.random for part in self.schedules)

    @property
    def cycle(self) -> float:
        """The common cycle of all parts that change; infinite if the parts' cycles differ or no part changes."""
        cycles = {part.cycle for part in self.schedules if part.amplitude > 0}
        return cycles.pop() if len(cycles) == 1 else math.inf

    def _timescale(self) -> float:
        """Compute the shortest timescale of any part."""
        return min(part.timescale for part in self.schedules)

    def _plot_span(self) -> float:
        return max(part._plot_span() for part in self.schedules)

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """Return ``(sum s_i / h_i**2) ** (-1/2)`` for half-lives h_i of the parts and shares s_i of the variance.

        The shares are estimated as ``a_i**2 / sum a_j**2`` from the parts' contributions a_i to the amplitude.
        """
        parts = [part.half_life(steps_per_update=steps_per_update, snr=snr) for part in self.schedules]
        weights = self._weights()
        # hypot avoids overflow and underflow of the squares.
        rate = math.hypot(*(weight / half_life for weight, half_life in zip(weights, parts, strict=True)))
        return math.hypot(*weights) / rate if rate > 0 else math.inf

    def _weights(self) -> list[float]:
        """Return each part's contribution to the amplitude."""
        return [part.amplitude for part in self.schedules]

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which a part jumps and the combined value changes."""
        keys = part_keys(self.schedules, key)
        parts = [part.events(t0, t1, its) for part, its in zip(self.schedules, keys, strict=True)]
        return self._where_changed(np.unique(np.concatenate(parts)), key)

    def to_config(self) -> dict[str, Any]:
        """Return the YAML form, ``{name: [schedules]}``."""
        return {self.name: plain(self.schedules)}


class Sum(_Combined):
    """The sum of schedules; numbers stand for constants.

    The bounds and the amplitude are the sums of the parts' bounds and amplitudes; the values may stay within
    tighter limits. The timescale is the shortest timescale of any part.

    Args:
        schedules: The parts, schedules or numbers.

    Raises:
        ValueError: If ``schedules`` is empty, or is not a list of schedules or numbers.
    """

    name: ClassVar[str] = "sum"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the sum of the parts' values."""
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

    The bounds are the lowest and the highest product of values within the parts' bounds; the product need not
    reach its bounds. If a bound of the product is infinite, the amplitude is the standard deviation of the
    product, computed as if the parts were independent and each part's amplitude was its standard deviation. The
    timescale is the shortest timescale of any part.

    Args:
        schedules: The parts, schedules or numbers.

    Raises:
        ValueError: If ``schedules`` is empty, or is not a list of schedules or numbers.
    """

    name: ClassVar[str] = "product"

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the product of the parts' values."""
        product: Floats = np.prod(self._parts(t, key), axis=0)
        return product

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest product of values within the parts' bounds."""
        low, high = 1.0, 1.0
        for part in self.schedules:
            # Python computes 0 * inf as nan, but a value of 0 times any finite value is 0.
            corners = [a * b if a and b else 0.0 for a in (low, high) for b in part.bounds]
            low, high = min(corners), max(corners)
        return low, high

    @property
    def center(self) -> float:
        """The middle of finite bounds, else the product of the parts' centers."""
        return center_of(self.bounds, math.prod(part.center for part in self.schedules))

    @property
    def amplitude(self) -> float:
        """Half of the range between finite bounds, else the standard deviation if the parts were independent."""
        squares = math.prod(part.center**2 + part.amplitude**2 for part in self.schedules)
        deviation = math.sqrt(squares - math.prod(part.center**2 for part in self.schedules))
        return amplitude_of(self.bounds, deviation)

    def _weights(self) -> list[float]:
        """Return each part's amplitude times the other parts' centers, or the amplitudes if all products are 0."""
        centers = [abs(part.center) for part in self.schedules]
        weights = [
            part.amplitude * math.prod(centers[:index] + centers[index + 1 :]) if part.amplitude else 0.0
            for index, part in enumerate(self.schedules)
        ]
        return weights if any(weights) else super()._weights()


@dataclass(frozen=True, init=False, repr=False)
class _Limited(Derived):
    """Base class of schedules that clip or reflect another schedule."""

    schedule: Schedule
    low: float | None
    high: float | None

    def __init__(self, schedule: Any, low: float | None = None, high: float | None = None) -> None:
        object.__setattr__(self, "schedule", read_part(type(self).__name__, schedule))
        check_walls(self, low, high, needed=True)

    @property
    def center(self) -> float:
        """The middle of finite bounds, else the center of ``schedule``, clipped or reflected like the values."""
        return center_of(self.bounds, float(self._limit(np.array([self.schedule.center]))[0]))

    @property
    def amplitude(self) -> float:
        """Half of the range between finite bounds, else the amplitude of ``schedule``."""
        return amplitude_of(self.bounds, self.schedule.amplitude)

    @abstractmethod
    def _limit(self, values: Floats) -> Floats:
        """Clip or reflect the values."""

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values of ``schedule``, clipped or reflected."""
        return self._limit(self.schedule.values(t, key))

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the events of ``schedule`` at which the clipped or reflected value changes."""
        return self._where_changed(self.schedule.events(t0, t1, key), key)


class Clip(_Limited):
    """Values clipped to limits.

    The timescale and the half-life are computed without the limits.

    Args:
        schedule: The schedule to limit.
        low: Lower limit; None for no lower limit.
        high: Upper limit, > ``low``; None for no upper limit.

    Raises:
        ValueError: If there is no limit, or an argument is invalid.
    """

    name: ClassVar[str] = "clip"

    @property
    def bounds(self) -> Bounds:
        """The bounds of ``schedule``, clipped to the limits."""
        low, high = self._limit(np.array(self.schedule.bounds)).tolist()
        return low, high

    def _limit(self, values: Floats) -> Floats:
        return np.clip(values, self.low, self.high)


class Reflect(_Limited):
    """Values reflected at limits, as often as necessary.

    The timescale and the half-life are computed without the limits. For a random walk, pass ``low`` and ``high``
    to `RandomWalk` instead, which then has a finite timescale.

    Args:
        schedule: The schedule to reflect.
        low: Lower limit; None for no lower limit.
        high: Upper limit, > ``low``; None for no upper limit.

    Raises:
        ValueError: If there is no limit, or an argument is invalid.
    """

    name: ClassVar[str] = "reflect"

    @property
    def bounds(self) -> Bounds:
        """The range of the reflected values."""
        low, high = self.schedule.bounds
        least, most = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if least <= low and high <= most:
            return low, high
        if math.isfinite(low) and math.isfinite(high):
            # The reflected value reverses its direction only where the schedule's value passes a limit or a mirror
            # image of a limit.
            ends = fold(np.array([low, high]), self.low, self.high).tolist()
            turns = [one for one in (least, most) if math.isfinite(one) and self._reaches(one, low, high)]
            return min(ends + turns), max(ends + turns)
        if math.isfinite(least) and math.isfinite(most):
            return least, most
        if self.high is None:
            return least, max(high, 2 * least - low)
        return min(low, 2 * most - high), most

    def _reaches(self, mirror: float, low: float, high: float) -> bool:
        """Whether the range from ``low`` to ``high`` contains the limit ``mirror`` or a mirror image of it."""
        if self.low is None or self.high is None:
            return low <= mirror <= high
        period = 2 * (self.high - self.low)
        return math.floor((high - mirror) / period) >= math.ceil((low - mirror) / period)

    def _limit(self, values: Floats) -> Floats:
        return fold(values, self.low, self.high)
