"""Piecewise constant schedules with known change times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import Floats, Ints, Key


@dataclass(frozen=True, init=False, repr=False)
class Constant(Schedule):
    """A constant value.

    Args:
        value: The value, stored as ``level``.

    Raises:
        ValueError: If the value is not a finite number.
    """

    name: ClassVar[str] = "constant"
    _kept_as: ClassVar[Mapping[str, str]] = {"value": "level"}

    level: float

    def __init__(self, value: float) -> None:
        object.__setattr__(self, "level", check_number("Constant: value", value))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """``value`` at every clock."""
        return np.full(np.shape(t), self.level)

    @property
    def bounds(self) -> Bounds:
        """``value`` as both bounds."""
        return self.level, self.level

    def _timescale(self) -> float:
        return math.inf


@dataclass(frozen=True, repr=False)
class Step(Schedule):
    """One jump: ``before`` at clock readings below ``at``, ``after`` from ``at`` on.

    The timescale is ``at``, the duration of the first value. With ``at=0`` there is no jump, and the timescale is
    ``inf``.

    Args:
        before: First value.
        after: Second value.
        at: Clock of the jump, in env steps, >= 0.

    Raises:
        ValueError: If a value is not a finite number or ``at`` is not a whole number >= 0.
    """

    name: ClassVar[str] = "step"

    before: float
    after: float
    at: int

    def __post_init__(self) -> None:
        self._keep_number("before")
        self._keep_number("after")
        self._keep_int("at", least=0)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """``before`` if ``t < at``, else ``after``."""
        return np.where(np.asarray(t) < self.at, self.before, self.after)

    @property
    def bounds(self) -> Bounds:
        """The lower and the higher value."""
        return min(self.before, self.after), max(self.before, self.after)

    def _timescale(self) -> float:
        return float(self.at) if self.at > 0 else math.inf

    def _plot_span(self) -> float:
        return 2.0 * max(self.at, 1)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """``at``, if it lies in ``(t0, t1]`` and the two values differ."""
        jumps = t0 < self.at <= t1 and self.before != self.after
        return np.array([self.at] if jumps else [], dtype=np.int64)


@dataclass(frozen=True, init=False, repr=False)
class PiecewiseConstant(Schedule):
    """A list of levels. Each level lasts until the clock of the next level.

    The timescale is the mean duration of the levels before the last level.

    Args:
        points: Pairs of a clock reading in env steps and the value from then on; clock readings ascend from 0.

    Raises:
        ValueError: If ``points`` is not a list of such pairs, or a clock or a value is invalid.

    Examples:
        >>> schedule = PiecewiseConstant([(0, 9.8), (100, 3.7), (400, 9.8)])
        >>> schedule.values([0, 99, 100, 10**9], Key(seed=0)).tolist(), schedule.timescale
        ([9.8, 9.8, 3.7, 9.8], 200.0)
    """

    name: ClassVar[str] = "piecewise_constant"

    points: tuple[tuple[int, float], ...]

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        pairs = isinstance(points, (list, tuple)) and all(
            isinstance(one, (list, tuple)) and len(one) == 2 for one in points
        )
        if not pairs or not points:
            raise ValueError(
                f"PiecewiseConstant: points must be a list of pairs of a clock and a value, such as [[0, 9.8], "
                f"[1000, 3.7]], got {points!r}"
            )
        read = tuple(
            (
                check_int("PiecewiseConstant: a clock of points", clock, least=0, unit="env steps"),
                check_number("PiecewiseConstant: a value of points", value),
            )
            for clock, value in points
        )
        clocks = [clock for clock, _ in read]
        if clocks[0] != 0 or any(after <= before for before, after in pairwise(clocks)):
            raise ValueError(f"PiecewiseConstant: the clock readings of points must ascend from 0, got {clocks}")
        object.__setattr__(self, "points", read)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the value of the last point at or before ``t``."""
        clocks, levels = np.array([clock for clock, _ in self.points]), np.array([one for _, one in self.points])
        held: Floats = levels[np.searchsorted(clocks, np.asarray(t), side="right") - 1]
        return held

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest value."""
        levels = [level for _, level in self.points]
        return min(levels), max(levels)

    def _timescale(self) -> float:
        return self.points[-1][0] / (len(self.points) - 1)

    def _plot_span(self) -> float:
        return 1.25 * max(self.points[-1][0], 1)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings of the points in ``(t0, t1]`` at which the value changes."""
        clocks = np.array([clock for clock, _ in self.points[1:] if t0 < clock <= t1], dtype=np.int64)
        return self._where_changed(clocks, key)
