"""Common code of schedules that are derived from other schedules."""

import math
from collections.abc import Sequence
from itertools import accumulate

from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import Key


class Derived(Schedule):
    """Base class that takes bounds, timescale, half-life and other properties from ``schedule``."""

    schedule: Schedule

    @property
    def bounds(self) -> Bounds:
        """The bounds of ``schedule``."""
        return self.schedule.bounds

    @property
    def center(self) -> float:
        """The center of ``schedule``."""
        return self.schedule.center

    @property
    def amplitude(self) -> float:
        """The amplitude of ``schedule``."""
        return self.schedule.amplitude

    @property
    def random(self) -> bool:
        """Whether ``schedule`` is random."""
        return self.schedule.random

    @property
    def cycle(self) -> float:
        """The cycle of ``schedule``."""
        return self.schedule.cycle

    def _timescale(self) -> float:
        return self.schedule.timescale

    def _plot_span(self) -> float:
        return self.schedule._plot_span()

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        return self.schedule.half_life(steps_per_update=steps_per_update, snr=snr)


def part_keys(parts: Sequence[Schedule], key: Key) -> list[Key]:
    """Make a key for each part of a combination. If several parts are random, each of these gets its own key."""
    if sum(part.random for part in parts) <= 1:
        return [key] * len(parts)
    indices = accumulate((int(part.random) for part in parts), initial=0)
    return [key.of_part(index) for index, _ in zip(indices, parts, strict=False)]


def center_of(bounds: Bounds, otherwise: float) -> float:
    """Compute the middle of the bounds, or ``otherwise`` if a bound is infinite."""
    low, high = bounds
    return low + (high - low) / 2 if math.isfinite(high - low) else otherwise


def amplitude_of(bounds: Bounds, otherwise: float) -> float:
    """Compute half of the range between the bounds, or ``otherwise`` if a bound is infinite."""
    low, high = bounds
    return (high - low) / 2 if math.isfinite(high - low) else otherwise
