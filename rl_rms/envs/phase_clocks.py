"""A clock whose sub-environments follow the same schedules at evenly spaced phases."""

import math
from collections.abc import Mapping

import numpy as np

from rl_rms.envs.clocks import Column, SharedClock
from rl_rms.envs.drift import BLOCK, count_regimes, regime_changes, trace
from rl_rms.envs.schedules import Floats, Ints, Key, Schedule, stream_of


class PhaseClocks(SharedClock):
    """One clock for all sub-environments, which follow the same schedules at evenly spaced phases.

    All processes together have ``n`` sub-environments. In sub-environment ``i`` of these, each target is ahead of
    the clock by ``i / n`` of the target's cycle. For a target without a cycle, the timescale replaces the cycle. A
    target with an infinite timescale, such as a constant, is equal in all sub-environments.
    """

    # For each sub-environment: the regime before the current block of readings, and the readings of the block at
    # which the regime changes.
    _before: Ints
    _events: list[Ints]
    # The regimes from the last change in any sub-environment until the reading `_next_event`.
    _regime: Ints
    _next_event: int

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self._span = BLOCK * num_envs * shard[1]
        shares = (shard[0] * num_envs + np.arange(num_envs)) / (num_envs * shard[1])
        self._offsets = {target: _phases(schedule, shares) for target, schedule in changes.items()}
        self._each = [
            {target: schedule.ahead(int(self._offsets[target][i])) for target, schedule in changes.items()}
            for i in range(num_envs)
        ]
        super().__init__(changes, seed, num_envs, shard)

    @property
    def values(self) -> tuple[Column, ...]:
        """The current values of each target, shape ``(num_envs,)``."""
        # The values are not computed for blocks of readings, because a vector step advances the clock by one
        # reading for each sub-environment, so most values of a block would not be used.
        return tuple(
            schedule.values(self.reading + self._offsets[target], Key(self.seed, stream_of(target)))
            for target, schedule in self._changes.items()
        )

    @property
    def regime(self) -> Ints:
        """The current regimes, shape ``(num_envs,)``."""
        reading = self.reading
        if reading >= self._next_event:
            passed = [int(np.searchsorted(events, reading, side="right")) for events in self._events]
            self._regime = self._before + passed
            ahead = [
                int(events[one]) for events, one in zip(self._events, passed, strict=True) if one < events.size
            ]
            self._next_event = min(ahead, default=self._start + self._span)
        return self._regime

    def set(self, reading: int, seed: int | None = None) -> None:
        """Set the reading, and optionally the seed."""
        super().set(reading, seed)
        self._next_event = self._start

    def oracle(self, readings: Ints) -> dict[str, Floats]:
        """Return each target's values at the given readings, shape ``(num_envs, n)``."""
        each = [trace(changes, readings, self.seed) for changes in self._each]
        return {target: np.stack([one[target] for one in each]) for target in self._changes}

    def _unpack(self) -> None:
        """Do nothing, because there are no blocks of values."""

    def _load(self, *, is_next: bool) -> None:
        """Find each sub-environment's regime before ``_start``, and its regime changes in the block from there."""
        first, last = self._start - 1, self._start + self._span - 1
        if is_next:
            self._before = self._before + np.array([events.size for events in self._events])
        else:
            counts = [count_regimes(one, max(first, 0), self.seed) for one in self._each]
            self._before = np.array(counts, dtype=np.int64)
        self._events = [regime_changes(one, max(first, 0), last, self.seed) for one in self._each]
        self._next_event = self._start


def _phases(schedule: Schedule, shares: Floats) -> Ints:
    """Return shares of a schedule's cycle or, without a cycle, of its timescale, in env steps; 0 if infinite."""
    span = schedule.cycle if math.isfinite(schedule.cycle) else schedule.timescale
    return np.rint(shares * (span if math.isfinite(span) else 0.0)).astype(np.int64)
