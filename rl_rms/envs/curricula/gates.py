"""Gates, which decide when the next stage of a curriculum begins.

A gate that checks the mean success rate of a few episodes after each episode often opens by luck. For example, a
gate may require a mean of 0.8 over 20 episodes. In a simulation of 500 episodes, 48 % of the agents with a true
success rate of 0.5 pass this gate (``python benchmarks/gates.py``). `WilsonGate` therefore requires a minimum
number of episodes, and compares a lower confidence bound with the threshold, which is 0.8 by default. In the same
simulation, `WilsonGate` opens for none of the agents with a true success rate of 0.5, and for 11 % of the agents
with a true success rate of 0.75.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, ClassVar

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.configurable import Configurable
from rl_rms.envs.curricula.base import Episode, succeeded


class Gate(Configurable, ABC, kind="gate", example="{wilson: {threshold: 0.8, success_return: 400}}"):
    """Decides from the last ``window`` episodes of the current stage whether the next stage may begin."""

    window: int

    @abstractmethod
    def record(self, outcome: Episode) -> None:
        """Record an episode of the present stage."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the next stage may begin."""

    @property
    def mean(self) -> float:
        """Mean of the recorded results; NaN without results."""
        return math.fsum(self._last) / len(self._last) if self._last else math.nan

    def clear(self) -> None:
        """Clear the recorded episodes, for example when another stage begins."""
        self._last: deque[float] = deque(maxlen=self.window)

    def state_dict(self) -> dict[str, Any]:
        """Return the recorded results of the last episodes as plain JSON data."""
        return {"last": list(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._last = deque(state["last"], maxlen=self.window)

    @staticmethod
    def from_config(config: Any) -> "Gate":
        """Make a gate from its YAML form. A `Gate` is returned unchanged.

        Raises:
            ValueError: If the YAML form does not name a gate, or an argument is unknown, missing or invalid.
        """
        gate: Gate = Gate._read(config)
        return gate


class ReturnGate(Gate):
    """Opens when the mean return of the last ``window`` episodes reaches ``threshold``.

    Args:
        threshold: Mean return that opens the gate.
        window: Number of latest episodes in the mean, >= 1.

    Raises:
        ValueError: If a number is out of range.
    """

    name: ClassVar[str] = "return"

    def __init__(self, threshold: float, window: int = 20) -> None:
        self.threshold = check_number("ReturnGate: threshold", threshold)
        self.window = check_int("ReturnGate: window", window, least=1, unit="episodes")
        self.clear()

    def record(self, outcome: Episode) -> None:
        """Record the return."""
        self._last.append(outcome.episode_return)

    @property
    def is_open(self) -> bool:
        """Whether the window is full and its mean reaches the threshold."""
        return len(self._last) == self.window and self.mean >= self.threshold


class WilsonGate(Gate):
    """Opens when a lower confidence bound of the success rate reaches ``threshold``.

    The bound is the lower end of Wilson's score interval over the last ``window`` episodes (Wilson, "Probable
    inference, the law of succession, and statistical inference", 1927). The confidence holds for one check, not
    for repeated checks.

    Args:
        threshold: Success rate that the lower bound must reach, in [0, 1].
        confidence: Confidence of the one-sided bound, in (0.5, 1).
        min_episodes: Minimum number of episodes before the gate opens, >= 1.
        window: Maximum number of latest episodes in the success rate, >= ``min_episodes``.
        success_return: Smallest return of a success; None uses the success that the environment reports.

    Raises:
        ValueError: If a number is out of range, or the gate can never open.

    Examples:
        >>> from rl_rms.envs.curricula import Episode
        >>> gate = WilsonGate(threshold=0.8)
        >>> for _ in range(19):
        ...     gate.record(Episode({}, 1.0, 1, True, 0))
        >>> gate.is_open, round(gate.lower, 3)
        (False, 0.875)
        >>> gate.record(Episode({}, 1.0, 1, True, 0))
        >>> gate.is_open
        True
    """

    name: ClassVar[str] = "wilson"

    def __init__(
        self,
        threshold: float = 0.8,
        confidence: float = 0.95,
        min_episodes: int = 20,
        window: int = 100,
        success_return: float | None = None,
    ) -> None:
        self.threshold = check_number("WilsonGate: threshold", threshold, least=0, most=1)
        self.confidence = check_number("WilsonGate: confidence", confidence, above=0.5, below=1)
        self.min_episodes = check_int("WilsonGate: min_episodes", min_episodes, least=1, unit="episodes")
        self.window = check_int("WilsonGate: window", window, least=self.min_episodes, unit="episodes")
        self.success_return = (
            None if success_return is None else check_number("WilsonGate: success_return", success_return)
        )
        self._z = NormalDist().inv_cdf(self.confidence)
        best = wilson_bounds(1.0, self.window, self._z)[0]
        if best < self.threshold:
            raise ValueError(
                f"WilsonGate: the gate would never open, because {self.window} successes in a window of "
                f"{self.window} have the lower bound {best:.3f} at a confidence of {self.confidence:g}, below the "
                f"threshold {self.threshold:g}; raise the window, or lower threshold or confidence"
            )
        self.clear()

    def record(self, outcome: Episode) -> None:
        """Record whether the episode was a success."""
        self._last.append(float(succeeded("WilsonGate", outcome, self.success_return)))

    @property
    def is_open(self) -> bool:
        """Whether at least ``min_episodes`` episodes are recorded and the lower bound reaches the threshold."""
        return self.knows_enough and self.lower >= self.threshold

    @property
    def knows_enough(self) -> bool:
        """Whether at least ``min_episodes`` episodes are recorded."""
        return len(self._last) >= self.min_episodes

    @property
    def lower(self) -> float:
        """Lower bound of the success rate; 0 before the first episode."""
        return wilson_bounds(self.mean, len(self._last), self._z)[0]

    @property
    def upper(self) -> float:
        """Upper bound of the success rate; 1 before the first episode."""
        return wilson_bounds(self.mean, len(self._last), self._z)[1]


def wilson_bounds(rate: float, number: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a success rate.

        (rate + z**2 / 2n +- z sqrt(rate (1 - rate) / n + z**2 / 4n**2)) / (1 + z**2 / n)

    Args:
        rate: Observed share of successes.
        number: Number of episodes n; with 0 the interval is [0, 1].
        z: Standard normal quantile of the confidence.

    Returns:
        The lower and the upper bound.
    """
    if number == 0:
        return 0.0, 1.0
    center = rate + z**2 / (2 * number)
    reach = z * math.sqrt(rate * (1 - rate) / number + z**2 / (4 * number**2))
    scale = 1 + z**2 / number
    return (center - reach) / scale, (center + reach) / scale
