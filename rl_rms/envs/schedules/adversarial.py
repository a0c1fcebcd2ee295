"""A schedule of disturbances that begin when the agent performs well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.levels import PiecewiseConstant
from rl_rms.envs.schedules.rng import Floats, Ints, Key


@dataclass(frozen=True, repr=False)
class AdversarialBurst(Schedule):
    """A base value with bursts at the more harmful bound. Bursts begin when the agent's returns are high.

    A burst begins when an episode ends, the mean return of the last ``window`` episodes is at least ``threshold``,
    and at least ``rest`` env steps have passed since the end of the last burst. Only episodes that ended after the
    last burst count. The first bursts are once at ``low`` and once at ``high``, unless ``base`` equals that bound.
    Later bursts are at the bound with the lower mean return of the episodes that ended in its bursts.

    Source of the idea: Pinto et al., "Robust adversarial reinforcement learning" (ICML 2017). Unlike the paper's
    adversary, the schedule learns only which bound gives lower returns.

    The schedule is immutable. At each burst, the environment's wrapper replaces the schedule by a copy with one
    more entry in ``strikes``. `replay` returns a schedule that repeats the bursts and does not depend on returns.
    The timescale is ``duration``.

    Args:
        base: Value outside of bursts.
        low: Lower bound, <= ``base``.
        high: Upper bound, >= ``base``.
        threshold: Smallest mean return at which a burst begins.
        duration: Length of a burst in env steps, >= 1.
        window: Episodes over which returns are averaged, >= 1.
        rest: Minimum env steps between two bursts, >= 0.
        strikes: The bursts so far, as pairs of the first clock in env steps and the value, in order of time.

    Raises:
        ValueError: If an argument is out of its range, or two ``strikes`` overlap.

    Examples:
        >>> from rl_rms.envs.schedules import Key
        >>> calm = AdversarialBurst(base=0.0, low=-1.0, high=1.0, threshold=100, duration=3)
        >>> calm.strike(5, -1.0).values(range(10), Key(seed=0)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "adversarial_burst"

    base: float
    low: float
    high: float
    threshold: float
    duration: int
    window: int = 20
    rest: int = 0
    strikes: Sequence[tuple[int, float]] = ()

    def __post_init__(self) -> None:
        for name in ("base", "low", "high", "threshold"):
            self._keep_number(name)
        if not (self.low <= self.base <= self.high and self.low < self.high):
            raise ValueError(
                f"AdversarialBurst: base must lie between two different bounds, got low={self.low:g}, "
                f"base={self.base:g}, high={self.high:g}"
            )
        self._keep_int("duration", least=1)
        self._keep_int("window", least=1, unit="episodes")
        self._keep_int("rest", least=0)
        is_pairs = isinstance(self.strikes, (list, tuple)) and all(
            isinstance(one, (list, tuple)) and len(one) == 2 for one in self.strikes
        )
        if not is_pairs:
            raise ValueError(
                f"AdversarialBurst: strikes must be a list of pairs of a clock and a value, got {self.strikes!r}"
            )
        strikes = tuple(
            (
                check_int("AdversarialBurst: a clock of strikes", start, least=0, unit="env steps"),
                check_number("AdversarialBurst: a value of strikes", value),
            )
            for start, value in self.strikes
        )
        object.__setattr__(self, "strikes", strikes)
        overlaps = any(start < before + self.duration for (before, _), (start, _) in pairwise(strikes))
        if overlaps or any(value not in (self.low, self.high) for _, value in strikes):
            raise ValueError(
                "AdversarialBurst: strikes must not overlap, and each must be at low or high, got "
                f"{list(self.strikes)!r}"
            )

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the value of the burst in progress at each clock, else ``base``."""
        t = np.asarray(t)
        values = np.full(t.shape, self.base)
        for start, value in self.strikes:
            values[(t >= start) & (t < start + self.duration)] = value
        return values

    def strike(self, clock: int, value: float) -> "AdversarialBurst":
        """Return the schedule with one more burst.

        Args:
            clock: Clock reading at which the burst begins, in env steps, at or after the end of the last burst.
            value: ``low`` or ``high``.

        Raises:
            ValueError: If the value is neither ``low`` nor ``high``, or the last burst is not over.
        """
        return replace(self, strikes=(*self.strikes, (clock, value)))

    def replay(self) -> PiecewiseConstant:
        """Return a schedule that repeats the bursts so far and does not depend on returns."""
        pieces = {0: self.base}
        for start, value in self.strikes:
            pieces |= {start: value, start + self.duration: self.base}
        return PiecewiseConstant(list(pieces.items()))

    @property
    def calm_from(self) -> int:
        """The first clock at which the next burst may begin."""
        return self.strikes[-1][0] + self.duration + self.rest if self.strikes else 0

    @property
    def bounds(self) -> Bounds:
        """``low`` and ``high``."""
        return self.low, self.high

    def _timescale(self) -> float:
        return float(self.duration)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which a burst begins or ends and the value changes."""
        edges = {edge for start, _ in self.strikes for edge in (start, start + self.duration)}
        return self._where_changed(np.array(sorted(one for one in edges if t0 < one <= t1), dtype=np.int64), key)

    def _plot_span(self) -> float:
        return max(1.2 * self.calm_from, 4.0 * self.duration)
