"""Returns of an agent in each regime, and the env steps until the return recovers after a change.

A regime is the time between two abrupt changes of the environment, such as jumps of a parameter or changes of a
curriculum's stage.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean
from typing import Any

from rl_rms.agents.callbacks import Callback
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.agents.rollout import Episode

# A return has recovered when it reaches this share of a positive earlier return, see `Regime`.
RECOVERED = 0.9
# A mean return over at least this many episodes decides whether the return has recovered.
WINDOW = 20


class Returns:
    """Stores the returns of a training run's episodes, and computes their mean over an interval of env steps.

    Args:
        episodes: Initial episodes, in the order in which they ended.
    """

    def __init__(self, episodes: Iterable[Episode] = ()) -> None:
        self._ends = array("q")
        self._sums = array("d", [0.0])  # cumulative sums of the returns; the first entry is 0
        self.add(episodes)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Append episodes in the order in which they ended. Non-finite returns are skipped."""
        for episode in episodes:
            if math.isfinite(episode.ret):
                self._ends.append(episode.num_timesteps)
                self._sums.append(self._sums[-1] + episode.ret)

    def mean(self, after: float, upto: float) -> float:
        """Mean return of the episodes that ended in an interval of env steps.

        Args:
            after: Start of the interval in the agent's env steps, exclusive.
            upto: End of the interval in the agent's env steps, inclusive.

        Returns:
            The mean; NaN if no episode ended in the interval.
        """
        first, last = bisect_right(self._ends, after), bisect_right(self._ends, upto)
        return (self._sums[last] - self._sums[first]) / (last - first) if last > first else math.nan

    def of_regime(self, start: int, end: int) -> tuple[float, float, float]:
        """Mean returns over a regime, over the first tenth of its env steps, and over the last tenth.

        Args:
            start: The agent's env steps when the regime began.
            end: The agent's env steps when the regime ended.
        """
        tenth = 0.1 * (end - start)
        return self.mean(start, end), self.mean(start, start + tenth), self.mean(end - tenth, end)


@dataclass(frozen=True)
class Regime:
    """Returns of an agent in one regime.

    An episode belongs to the regime, and to the tenth of the regime, in which the episode ends.

    The return recovers when it reaches a threshold: 90 % of the previous regime's ``last_tenth``, or 110 % of a
    negative ``last_tenth``.

    Attributes:
        number: Index of the regime, from 0.
        start: The agent's env steps when the regime began.
        end: The agent's env steps when the regime ended.
        mean: Mean return of the regime's episodes; NaN if no episode ended.
        first_tenth: Mean return in the first tenth of the regime's env steps; NaN if no episode ended.
        last_tenth: Mean return in the last tenth of the regime's env steps; NaN if no episode ended.
        recovery: Env steps until the return recovers; NaN without a previous ``last_tenth``, and if fewer than 20
            episodes ended in the regime, which are too few to decide. The value is 0 if the
            mean return of the first tenth's episodes reaches the threshold. If fewer than 20 episodes end in the
            first tenth, the regime's first 20 episodes count instead. If the mean return of the first episodes is
            below the threshold, the value is the number of env steps until the mean return of 20 consecutive
            episodes reaches the threshold; ``inf`` if no such mean reaches the threshold.
    """

    number: int
    start: int
    end: int
    mean: float
    first_tenth: float
    last_tenth: float
    recovery: float


def regime_of(number: int, episodes: Sequence[Episode], start: int, end: int, before: float) -> Regime:
    """Compute the returns of one regime.

    Args:
        number: Index of the regime.
        episodes: The episodes that ended in the regime, in order.
        start: The agent's env steps when the regime began.
        end: The agent's env steps when the regime ended.
        before: Mean return of the last tenth of the previous regime; NaN if there is no such return.
    """
    return Regime(
        number, start, end, *Returns(episodes).of_regime(start, end), _recovery(episodes, start, end, before)
    )


def _recovery(episodes: Sequence[Episode], start: int, end: int, before: float) -> float:
    if math.isnan(before) or len(episodes) < WINDOW:
        return math.nan
    threshold = before - (1.0 - RECOVERED) * abs(before)
    returns = [episode.ret for episode in episodes]
    in_first_tenth = sum(episode.num_timesteps <= start + 0.1 * (end - start) for episode in episodes)
    first = returns[: max(in_first_tenth, WINDOW)]
    if fmean(first) >= threshold:
        return 0.0
    for count in range(WINDOW, len(returns) + 1):
        if fmean(returns[count - WINDOW : count]) >= threshold:
            return float(episodes[count - 1].num_timesteps - start)
    return math.inf


class AdaptationCallback(Callback):
    """Logs the returns of the regime that ends, at each change of regime and at the end of the training.

    The tags begin with ``adaptation/``: ``regime`` (the regime's index), ``episodes`` (the number of episodes
    that ended in the regime), ``mean``, ``first_tenth``, ``last_tenth``, ``worst_mean`` (the lowest ``mean`` of
    the regimes so far), and ``recovery_steps``. NaN and
    infinite values are not logged. The callback reads the regime once per rollout. The metrics are not informative
    if regimes are shorter than rollouts or episodes.

    Attributes:
        regimes: The finished regimes. The end of the training also finishes a regime. The next call of `learn`
            of the same agent continues this regime.

    Raises:
        ValueError: At the start of the training, if the agent's environment has no regimes.
    """

    def __init__(self) -> None:
        self.regimes: list[Regime] = []
        self._episodes: list[Episode] = []
        self._start = 0
        self._number: int | None = None
        # The state before `on_training_end` closes the last regime. A further or resumed training continues the
        # last regime.
        self._before_end: dict[str, Any] | None = None

    @property
    def worst(self) -> Regime:
        """The regime with the lowest mean return.

        Raises:
            ValueError: If no episode has ended in a finished regime.
        """
        return min(
            (regime for regime in self.regimes if not math.isnan(regime.mean)), key=lambda regime: regime.mean
        )

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Record the current regime, unless the callback continues an earlier regime."""
        number = self._number_of(agent)
        if self._number is None or self._before_end is not None:
            self._episodes, self._start, self._number = [], agent.num_timesteps, number
        self._before_end = None

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Record the rollout's episodes. If the regime has changed, log the returns of the finished regime."""
        self._episodes += agent.new_episodes
        number = self._number_of(agent)
        if number != self._number:
            self._close(agent, logger)
            self._number = number
        return None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Log the returns of the last regime."""
        self._before_end = self.state_dict()
        if agent.num_timesteps > self._start:
            self._close(agent, logger)

    def state_dict(self) -> dict[str, Any]:
        """The finished regimes, and the episodes of the current regime."""
        if self._before_end is not None:
            return self._before_end
        return {
            "regimes": [list(astuple(regime)) for regime in self.regimes],
            "episodes": [list(astuple(episode)) for episode in self._episodes],
            "start": self._start,
            "number": self._number,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`, and continue the regime of this state."""
        self.regimes = [Regime(*regime) for regime in state["regimes"]]
        self._episodes = [Episode(*episode) for episode in state["episodes"]]
        self._start, self._number = int(state["start"]), state["number"]
        self._before_end = None

    def _close(self, agent: TrainedAgent, logger: Logger) -> None:
        assert self._number is not None
        before = self.regimes[-1].last_tenth if self.regimes else math.nan
        regime = regime_of(self._number, self._episodes, self._start, agent.num_timesteps, before)
        num_episodes = len(self._episodes)
        self.regimes.append(regime)
        self._episodes, self._start = [], agent.num_timesteps
        scalars = {
            "regime": regime.number,
            "episodes": num_episodes,
            "mean": regime.mean,
            "first_tenth": regime.first_tenth,
            "last_tenth": regime.last_tenth,
            "recovery_steps": regime.recovery,
            "worst_mean": min((one.mean for one in self.regimes if not math.isnan(one.mean)), default=math.nan),
        }
        finite = {f"adaptation/{name}": value for name, value in scalars.items() if math.isfinite(value)}
        logger.write(agent.num_timesteps, finite)

    def _number_of(self, agent: TrainedAgent) -> int:
        number = agent.session.regime()
        if number is None:
            raise ValueError(
                "AdaptationCallback needs an environment with regimes; make the agent's environment with "
                "rl_rms.envs.make_vec or rl_rms.envs.NonStationary"
            )
        return number
