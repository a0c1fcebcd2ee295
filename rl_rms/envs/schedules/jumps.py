"""Random levels and bursts, with jumps at regular or random times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number, number_of
from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import (
    DRAWS,
    Floats,
    Ints,
    Key,
    by_block,
    jump_span,
    jumps,
    jumps_between,
    last_jump,
    uniforms,
)


@dataclass(frozen=True, init=False, repr=False)
class _Drawn(Schedule):
    """Levels drawn independently of each other, uniformly from an interval or from a list."""

    _kept_as: ClassVar[Mapping[str, str]] = {"values": "levels"}

    low: float | None
    high: float | None
    levels: tuple[float, ...] | None

    def _keep_levels(self, low: float | None, high: float | None, values: Sequence[float] | None) -> None:
        owner = type(self).__name__
        if (values is None) == (low is None and high is None) or (low is None) != (high is None):
            raise ValueError(
                f"{owner} needs either low and high, or values, got low={low!r}, high={high!r}, values={values!r}"
            )
        if low is not None and high is not None:
            low, high = check_number(f"{owner}: low", low), check_number(f"{owner}: high", high)
            if low > high:
                raise ValueError(f"{owner}: low must be <= high, got low={low!r}, high={high!r}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "levels", None if values is None else check_levels(owner, values))

    @property
    def bounds(self) -> Bounds:
        """The lowest level and the highest."""
        if self.levels is not None:
            return min(self.levels), max(self.levels)
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @property
    def random(self) -> bool:
        """Whether the values depend on the key; always True."""
        return True

    def _level(self, uniforms: Floats) -> Floats:
        """Return the levels for uniform numbers in [0, 1)."""
        if self.levels is not None:
            return np.array(self.levels)[(uniforms * len(self.levels)).astype(np.int64)]
        low, high = self.bounds
        return low + (high - low) * uniforms


@dataclass(frozen=True, init=False, repr=False)
class Redraw(_Drawn):
    """Draws a new level, uniformly from [low, high) or from a list, every ``every`` env steps from 0 on.

    The timescale is ``0.8 * every``. A value with the autocovariance ``exp(-k / tau)`` and this tau has about the
    same best half-life.

    Args:
        low: Lowest level.
        high: Highest level, >= ``low``.
        every: Env steps between two levels, >= 1.
        values: The levels to choose from, instead of ``low`` and ``high``: numbers, bools or members of an
            enumeration.

    Raises:
        ValueError: If ``every`` is missing, if an argument is invalid, or if the levels are given neither by
            ``values`` alone nor by ``low`` and ``high`` together.
    """

    name: ClassVar[str] = "redraw"

    every: int

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        every: int | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        self._keep_levels(low, high, values)
        object.__setattr__(self, "every", check_int("Redraw: every", every, least=1, unit="env steps"))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the level of the draw with index ``t // every``."""
        draws = np.asarray(t) // self.every
        return self._level(by_block(draws, DRAWS, lambda block, inside: uniforms(key, block)[inside % DRAWS]))

    def _timescale(self) -> float:
        return 0.8 * self.every

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the multiples of ``every`` in ``(t0, t1]`` at which the level changes."""
        draws = np.arange(t0 // self.every + 1, t1 // self.every + 1, dtype=np.int64)
        return self._where_changed(draws * self.every, key)


@dataclass(frozen=True, init=False, repr=False)
class PoissonJumps(_Drawn):
    """Draws a new level with probability ``1 / mean_dwell`` at each env step.

    The level is drawn uniformly from [low, high) or from a list. The times between two jumps are geometrically
    distributed. The autocovariance is the variance times ``(1 - 1 / mean_dwell)**k``, which is close to ``exp(-k /
    mean_dwell)`` if ``mean_dwell`` is long. The timescale is ``mean_dwell``.

    Args:
        low: Lowest level.
        high: Highest level, >= ``low``.
        mean_dwell: Mean time between two jumps in env steps, >= 1.
        values: The levels to choose from, instead of ``low`` and ``high``: numbers, bools or members of an
            enumeration.

    Raises:
        ValueError: If ``mean_dwell`` is missing, if an argument is invalid, or if the levels are given neither by
            ``values`` alone nor by ``low`` and ``high`` together.
    """

    name: ClassVar[str] = "poisson_jumps"

    mean_dwell: float

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        mean_dwell: float | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        self._keep_levels(low, high, values)
        object.__setattr__(self, "mean_dwell", check_number("PoissonJumps: mean_dwell", mean_dwell, least=1))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the level of the last jump at or before each clock, or the first level before the first jump."""

        def read(block: int, inside: Ints) -> Floats:
            times, brought = jumps(self.mean_dwell, key, block)
            # Until the block's first jump, the level is carried over from the blocks before.
            uniform = np.concatenate([[self._carried(key, block)], brought])
            held: Floats = uniform[np.searchsorted(times, inside, side="right")]
            return held

        return self._level(by_block(t, jump_span(self.mean_dwell), read))

    def _timescale(self) -> float:
        return self.mean_dwell

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the level changes."""
        return self._where_changed(jumps_between(self.mean_dwell, key, t0, t1), key)

    def _carried(self, key: Key, block: int) -> float:
        """Return the uniform number of the last jump before a block, or of the first level without such a jump."""
        last = last_jump(self.mean_dwell, key, block)
        return float(uniforms(key, 0, lane=2)[0]) if last is None else last[1]


@dataclass(frozen=True, repr=False)
class Burst(Schedule):
    """A base value with regular or random bursts of a peak value.

    With ``every``, bursts begin at clock readings ``every``, ``2 * every`` and so on. With ``rate``, a burst
    begins at each env step with the probability ``rate``, and overlapping bursts merge. Let p be the share of time
    at the peak. The timescale is ``p * (1 - p) * every`` for regular bursts and ``p / rate`` for random bursts. If
    bursts are rare, the timescale is near ``duration``.

    Args:
        base: Value outside bursts.
        peak: Value in a burst.
        duration: Length of a burst in env steps, >= 1. With ``every``, ``duration`` must be below ``every``.
        every: Env steps between the beginnings of two bursts, >= 2; None with ``rate``.
        rate: Probability that a burst begins at a clock, in (0, 1); None with ``every``.

    Raises:
        ValueError: If an argument is out of range, or ``every`` and ``rate`` are both given or both missing.
    """

    name: ClassVar[str] = "burst"

    base: float
    peak: float
    duration: int
    every: int | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        self._keep_number("base")
        self._keep_number("peak")
        self._keep_int("duration", least=1)
        if (self.every is None) == (self.rate is None):
            raise ValueError(f"Burst needs either every or rate, got every={self.every!r}, rate={self.rate!r}")
        if self.every is not None:
            self._keep_int("every", least=2)
            if self.duration >= self.every:
                raise ValueError(
                    f"Burst: duration must be below every, got duration={self.duration}, every={self.every}"
                )
        else:
            self._keep_number("rate", above=0, below=1)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """``peak`` if a burst began within the last ``duration`` env steps, else ``base``."""
        t = np.asarray(t)
        return np.where(t - self._last_begin(t, key) < self.duration, self.peak, self.base)

    @property
    def bounds(self) -> Bounds:
        """The lower and the higher value."""
        return min(self.base, self.peak), max(self.base, self.peak)

    @property
    def random(self) -> bool:
        """Whether bursts begin at random times."""
        return self.rate is not None

    @property
    def cycle(self) -> float:
        """``every``; infinite with ``rate``."""
        return math.inf if self.every is None else float(self.every)

    def _timescale(self) -> float:
        if self.every is not None:
            share = self.duration / self.every
            return share * (1 - share) * self.every
        assert self.rate is not None
        return float(-np.expm1(self.duration * np.log1p(-self.rate)) / self.rate)

    def _plot_span(self) -> float:
        return 5.0 * (self._mean_wait if self.every is None else self.every)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the value changes between ``base`` and ``peak``."""
        before = t0 - self.duration
        if self.every is not None:
            begins = np.arange(max(before, 0) // self.every + 1, t1 // self.every + 1, dtype=np.int64) * self.every
        else:
            begins = jumps_between(self._mean_wait, key, before, t1)
        clocks = np.unique(np.concatenate([begins, begins + self.duration]))
        return self._where_changed(clocks[(clocks > t0) & (clocks <= t1)], key)

    @property
    def _mean_wait(self) -> float:
        """Mean env steps between the beginnings of two random bursts."""
        assert self.rate is not None
        return 1.0 / self.rate

    def _last_begin(self, t: Ints, key: Key) -> Ints:
        """Return the clock at which the last burst began; ``-duration`` if there was none."""
        if self.every is not None:
            return np.where(t < self.every, -self.duration, t - t % self.every)

        def read(block: int, inside: Ints) -> Ints:
            last = last_jump(self._mean_wait, key, block)
            begins = np.append(-self.duration if last is None else last[0], jumps(self._mean_wait, key, block)[0])
            began: Ints = begins[np.searchsorted(begins, inside, side="right") - 1]
            return began

        return by_block(t, jump_span(self._mean_wait), read)


def check_levels(owner: str, values: Sequence[float]) -> tuple[float, ...]:
    """Check a list of levels, and convert them to floats; see `rl_rms.envs.checks.number_of`.

    Raises:
        ValueError: If the list is empty, or consists neither of numbers only nor of bools and members of
            enumerations only. The message begins with ``owner``.
    """
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(f"{owner}: values must be a list of numbers, got {values!r}")
    if all(isinstance(one, (bool, np.bool_, Enum)) for one in values):
        return tuple(map(number_of, values))
    return tuple(check_number(f"{owner}: values", one) for one in values)
