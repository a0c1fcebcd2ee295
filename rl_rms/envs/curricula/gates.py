"""Gates, which open the next stage by the results or the number of episodes.

A success rate that is estimated from few episodes, or looked at again and again, is passed by luck: with a mean of
0.8 over 20 episodes half of the learners that succeed every second time are through within 500 episodes.
`WilsonGate` therefore asks that a confidence bound of it reaches the threshold, and that there are enough
episodes: none of these are, and 11 % of those with a success rate of 0.75 (``python benchmarks/gates.py``).
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.configurable import Configurable
from rl_rms.envs.curricula.base import Episode, succeeded


class Gate(Configurable, ABC, kind="gate", example="{wilson: {threshold: 0.8, success_return: 400}}"):
    """Open or not, by the episodes of the present stage."""

    @abstractmethod
    def record(self, outcome: Episode) -> None:
        """Take note of an episode of the present stage."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the next stage may begin."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the episodes: another stage has begun."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The episodes of the stage, as plain JSON data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""

    @staticmethod
    def from_config(config: Any) -> "Gate":
        """Read the YAML form; a gate is returned as it is.

        Raises:
            ValueError: If it is no gate, or has a wrong, missing or impossible argument.
        """
        gate: Gate = Gate._read(config)
        return gate


class _Windowed(Gate):
    """A gate that looks at the last ``window`` episodes."""

    window: int

    def clear(self) -> None:
        """Forget the episodes."""
        self._last: deque[float] = deque(maxlen=self.window)

    def state_dict(self) -> dict[str, Any]:
        """The last episodes."""
        return {"last": list(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._last = deque(state["last"], maxlen=self.window)

    @property
    def mean(self) -> float:
        """Mean of what was recorded, NaN where nothing was."""
        return math.fsum(self._last) / len(self._last) if self._last else math.nan


class ReturnGate(_Windowed):
    """Open when the mean return of the last ``window`` episodes reaches ``threshold``; fewer never suffice.

    Args:
        threshold: Mean return that is good enough.
        window: Number of episodes, >= 1.

    Raises:
        ValueError: If a number is out of range.
    """

    name: ClassVar[str] = "return"

    def __init__(self, threshold: float, window: int = 20) -> None:
        self.threshold = check_number("ReturnGate: threshold", threshold)
        self.window = check_int("ReturnGate: window", window, least=1, unit="episodes")
        self.clear()

    def record(self, outcome: Episode) -> None:
        """Note the return."""
        self._last.append(outcome.episode_return)

    @property
    def is_open(self) -> bool:
        """Whether the window is full and good enough."""
        return len(self._last) == self.window and self.mean >= self.threshold


class WilsonGate(_Windowed):
    """Open when the success rate is at least ``threshold`` with some confidence.

    Of the last ``window`` episodes, at least ``min_episodes``, the lower bound of Wilson's score interval must
    reach it (Wilson, "Probable inference, the law of succession, and statistical inference", 1927).

    Args:
        threshold: Success rate, in [0, 1].
        confidence: Of the one-sided bound, in (0.5, 1).
        min_episodes: Fewer never suffice, >= 1.
        window: Number of episodes looked at, >= ``min_episodes``.
        success_return: Return from which on an episode is a success; None leaves it to the environment's
            ``info["is_success"]``.

    Raises:
        ValueError: If a number is out of range, or the gate could never open.

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
                f"WilsonGate: even {self.window} successes in a window of {self.window} have the lower bound "
                f"{best:.3f} at a confidence of {self.confidence:g}, below the threshold {self.threshold:g}, and "
                "the gate would never open; raise the window, or lower threshold or confidence"
            )
        self.clear()

    def record(self, outcome: Episode) -> None:
        """Note whether it was a success."""
        self._last.append(float(succeeded("WilsonGate", outcome, self.success_return)))

    @property
    def is_open(self) -> bool:
        """Whether there are enough episodes and the lower bound reaches the threshold."""
        return self.knows_enough and self.lower >= self.threshold

    @property
    def knows_enough(self) -> bool:
        """Whether there are enough episodes."""
        return len(self._last) >= self.min_episodes

    @property
    def lower(self) -> float:
        """Lower bound of the success rate; 0 before the first episode."""
        return wilson_bounds(self.mean, len(self._last), self._z)[0]

    @property
    def upper(self) -> float:
        """Upper bound of the success rate; 1 before the first episode."""
        return wilson_bounds(self.mean, len(self._last), self._z)[1]


class _Counting(Gate):
    """A gate that opens at a count."""

    def __init__(self, needed: int) -> None:
        self._needed, self._count = needed, 0

    @property
    def is_open(self) -> bool:
        """Whether the count is reached."""
        return self._count >= self._needed

    def clear(self) -> None:
        """Begin to count anew."""
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._count = int(state["count"])


class StepGate(_Counting):
    """Open after some env steps, however episodes went.

    Args:
        steps: Env steps of finished episodes in the stage, >= 1.

    Raises:
        ValueError: If it is no such number.
    """

    name: ClassVar[str] = "steps"

    def __init__(self, steps: int) -> None:
        self.steps = check_int("StepGate: steps", steps, least=1, unit="env steps")
        super().__init__(self.steps)

    def record(self, outcome: Episode) -> None:
        """Count its env steps."""
        self._count += outcome.length


class EpisodeGate(_Counting):
    """Open after some episodes, however they went.

    Args:
        episodes: Finished episodes in the stage, >= 1.

    Raises:
        ValueError: If it is no such number.
    """

    name: ClassVar[str] = "episodes"

    def __init__(self, episodes: int) -> None:
        self.episodes = check_int("EpisodeGate: episodes", episodes, least=1, unit="episodes")
        super().__init__(self.episodes)

    def record(self, outcome: Episode) -> None:
        """Count it."""
        self._count += 1


class _Several(Gate):
    """A gate made of others.

    Args:
        gates: The gates, or their YAML forms.

    Raises:
        ValueError: If there is none, or one is wrong.
    """

    def __init__(self, gates: Sequence[Any]) -> None:
        if not isinstance(gates, Sequence) or isinstance(gates, str) or not gates:
            raise ValueError(f"{type(self).__name__}: gates must be a list of gates, got {gates!r}")
        self.gates = [Gate.from_config(gate) for gate in gates]

    def record(self, outcome: Episode) -> None:
        """Let each take note."""
        for gate in self.gates:
            gate.record(outcome)

    def clear(self) -> None:
        """Let each forget."""
        for gate in self.gates:
            gate.clear()

    def state_dict(self) -> dict[str, Any]:
        """The state of each gate."""
        return {"gates": [gate.state_dict() for gate in self.gates]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        for gate, one in zip(self.gates, state["gates"], strict=True):
            gate.load_state_dict(one)


class AllOf(_Several):
    """Open when all of its gates are."""

    name: ClassVar[str] = "all"

    @property
    def is_open(self) -> bool:
        """Whether all are."""
        return all(gate.is_open for gate in self.gates)


class AnyOf(_Several):
    """Open when any of its gates is."""

    name: ClassVar[str] = "any"

    @property
    def is_open(self) -> bool:
        """Whether any is."""
        return any(gate.is_open for gate in self.gates)


def wilson_bounds(rate: float, number: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a success rate.

        (rate + z**2 / 2n +- z sqrt(rate (1 - rate) / n + z**2 / 4n**2)) / (1 + z**2 / n)

    Args:
        rate: Share of successes that was seen.
        number: Number of episodes n; the interval of none is [0, 1].
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
