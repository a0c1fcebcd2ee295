"""Decides from the returns of episodes when the bursts of `rl_rms.envs.schedules.AdversarialBurst` start."""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from rl_rms.envs.schedules import AdversarialBurst, Schedule


class Adversary:
    """Decides when each burst of one target starts, and whether its value is the low or the high bound.

    Attributes:
        schedule: The schedule with all bursts so far.
    """

    def __init__(self, schedule: AdversarialBurst) -> None:
        self.schedule = schedule
        self._returns: deque[float] = deque(maxlen=schedule.window)
        # For each bound, the sum and the count of the returns of episodes that ended in a burst at this bound.
        self._burst_returns = {schedule.low: (0.0, 0), schedule.high: (0.0, 0)}

    def record(self, clock: int, episode_return: float) -> bool:
        """Record an ended episode, and decide whether to begin a burst.

        Args:
            clock: Clock of the next transition, in env steps.
            episode_return: Sum of the episode's rewards.

        Returns:
            Whether a burst begins at ``clock``.
        """
        schedule = self.schedule
        strikes = schedule.strikes
        # An episode belongs to the last burst if the clock after its last transition is not past the burst's end.
        if strikes and clock <= strikes[-1][0] + schedule.duration:
            begin, bound = strikes[-1]
            # Another sub-environment's episode can end in the step before the burst's first transition.
            if clock > begin:
                total, count = self._burst_returns[bound]
                self._burst_returns[bound] = (total + episode_return, count + 1)
            return False
        self._returns.append(episode_return)
        is_good = len(self._returns) == schedule.window and (
            math.fsum(self._returns) / schedule.window >= schedule.threshold
        )
        if not is_good or clock < schedule.calm_from:
            return False
        self.schedule = schedule.strike(clock, self._worse_bound())
        self._returns.clear()
        return True

    def _worse_bound(self) -> float:
        schedule = self.schedule
        bounds = [bound for bound in (schedule.low, schedule.high) if bound != schedule.base]
        tried = {value for _, value in schedule.strikes}
        for bound in bounds:
            if bound not in tried:
                return bound
        # A bound counts as harmless until an episode has ended in a burst at this bound.
        means = {
            bound: total / count if count else math.inf for bound, (total, count) in self._burst_returns.items()
        }
        return min(bounds, key=lambda bound: means[bound])

    def state_dict(self) -> dict[str, Any]:
        """Return the bursts so far and the returns that later decisions need, as plain JSON data."""
        return {
            "strikes": [list(strike) for strike in self.schedule.strikes],
            "returns": list(self._returns),
            "hurt": [[bound, *totals] for bound, totals in self._burst_returns.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.schedule = dataclasses.replace(self.schedule, strikes=state["strikes"])
        self._returns = deque(state["returns"], maxlen=self.schedule.window)
        self._burst_returns = {bound: (total, count) for bound, total, count in state["hurt"]}


def depends_on_returns(schedule: Schedule) -> bool:
    """Whether a schedule is an AdversarialBurst or contains one."""
    return AdversarialBurst.__name__ in repr(schedule)


def find_adversaries(changes: Mapping[str, Schedule]) -> dict[str, Adversary]:
    """Make an adversary for each target whose schedule is an AdversarialBurst.

    Raises:
        ValueError: If an AdversarialBurst is part of another schedule.
    """
    adversaries = {}
    for target, schedule in changes.items():
        if isinstance(schedule, AdversarialBurst):
            adversaries[target] = Adversary(schedule)
        elif depends_on_returns(schedule):
            raise ValueError(
                f"{target!r}: an adversarial_burst must be the whole schedule of its target, got {schedule!r}; "
                "replay() turns its past bursts into a schedule that can be combined"
            )
    return adversaries
