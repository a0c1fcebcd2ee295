"""Which task each episode is: curricula that look at how episodes went and set parameters for the next ones.

A curriculum is deterministic, runs in one process, and sets the same targets as a schedule. It is asked when an
episode begins and told when one ends; episodes that end in the same vector step are told in order of their
sub-environments.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rl_rms.envs.checks import check_number, check_whole, choose


class Curriculum(ABC):
    """A rule for the tasks of episodes.

    The arguments of a curriculum's constructor are its keys in YAML, under its ``name``.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """What the tasks set."""

    @abstractmethod
    def task(self, env_index: int) -> dict[str, float]:
        """The task of the episode that now begins.

        Args:
            env_index: Number of the sub-environment.

        Returns:
            A value for each of the targets.
        """

    @abstractmethod
    def record(self, episode_return: float, episode_length: int, env_index: int) -> None:
        """Take note of an episode that has ended.

        Args:
            episode_return: Sum of its rewards.
            episode_length: Its env steps.
            env_index: Number of the sub-environment.
        """

    @property
    @abstractmethod
    def stage(self) -> int:
        """Number of the present stage, from 0."""

    @property
    @abstractmethod
    def difficulty(self) -> float:
        """How far the curriculum has come, in [0, 1]."""

    @property
    def stage_changes(self) -> int:
        """How often the stage has changed, each a change of regime; where it only climbs, this is the stage."""
        return self.stage

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What it has learned of the episodes, as plain JSON data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""

    @abstractmethod
    def to_config(self) -> dict[str, dict[str, Any]]:
        """The YAML form, ``{name: {argument: value}}``."""

    @staticmethod
    def from_config(config: Any) -> "Curriculum":
        """Read the YAML form; a curriculum is returned as it is.

        Raises:
            ValueError: If it is no curriculum, or has a wrong, missing or impossible argument.

        Example:
            >>> stages = [{"length": 1.0}, {"length": 0.5}]
            >>> Curriculum.from_config({"staged": {"stages": stages, "threshold": 400}}).stage
            0
        """
        if isinstance(config, Curriculum):
            return config
        example = "{staged: {stages: [{length: 1.0}, {length: 0.5}], threshold: 400}}"
        name, given = choose("curriculum", CURRICULA, config, example)
        return CURRICULA[name](**given)


class Staged(Curriculum):
    """Stages one after the other; the next begins when the episodes of this one are good enough.

    The stage goes up when the mean return of the last ``window`` episodes that began in it reaches
    ``threshold``; fewer episodes never suffice. The last stage stays.

    Args:
        stages: The task of each stage, ``{target: value}``, all with the same targets.
        threshold: Mean return that is good enough.
        window: Number of episodes, >= 1.

    Raises:
        ValueError: If there is no stage, their targets differ, or a number is out of range.
    """

    name: ClassVar[str] = "staged"

    def __init__(self, stages: Sequence[Mapping[str, float]], threshold: float, window: int = 20) -> None:
        self.stages = _check_stages(stages)
        self.threshold = check_number("Staged: threshold", threshold)
        self.window = check_whole("Staged: window", window, least=1, unit="episodes")
        self._stage = 0
        self._returns: deque[float] = deque(maxlen=self.window)
        self._began_in: dict[int, int] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """Those of the stages."""
        return tuple(self.stages[0])

    @property
    def stage(self) -> int:
        """Number of the present stage, from 0."""
        return self._stage

    @property
    def difficulty(self) -> float:
        """``stage / (number of stages - 1)``; 1 where there is only one."""
        return self._stage / (len(self.stages) - 1) if len(self.stages) > 1 else 1.0

    def task(self, env_index: int) -> dict[str, float]:
        """The present stage's task."""
        self._began_in[env_index] = self._stage
        return dict(self.stages[self._stage])

    def record(self, episode_return: float, episode_length: int, env_index: int) -> None:
        """Count the return, if the episode began in the present stage."""
        if self._began_in.get(env_index) != self._stage:
            return
        self._returns.append(episode_return)
        enough = len(self._returns) == self.window and math.fsum(self._returns) / self.window >= self.threshold
        if enough and self._stage < len(self.stages) - 1:
            self._stage += 1
            self._returns.clear()

    def state_dict(self) -> dict[str, Any]:
        """The stage and the last returns in it."""
        return {"stage": self._stage, "returns": list(self._returns)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the saved stage; episodes in progress do not count, since they began in another."""
        if not 0 <= state["stage"] < len(self.stages):
            raise ValueError(
                f"the saved stage {state['stage']} is none of the {len(self.stages)} stages of this curriculum"
            )
        self._stage = int(state["stage"])
        self._returns = deque(state["returns"], maxlen=self.window)
        self._began_in = {}

    def to_config(self) -> dict[str, dict[str, Any]]:
        """The YAML form."""
        return {
            self.name: {
                "stages": [dict(stage) for stage in self.stages],
                "threshold": self.threshold,
                "window": self.window,
            }
        }

    def __repr__(self) -> str:
        return f"Staged(stages={self.stages!r}, threshold={self.threshold!r}, window={self.window!r})"


CURRICULA: dict[str, type[Staged]] = {Staged.name: Staged}


def _check_stages(stages: Any) -> list[dict[str, float]]:
    if (
        not isinstance(stages, Sequence)
        or not stages
        or not all(isinstance(one, Mapping) and one for one in stages)
    ):
        raise ValueError(
            f"Staged: stages must be a list of tasks, such as [{{length: 1.0}}, {{length: 0.5}}], got {stages!r}"
        )
    for number, stage in enumerate(stages):
        if set(stage) != set(stages[0]):
            raise ValueError(
                f"Staged: all stages must set the same targets, but stage 0 sets {', '.join(stages[0])} and "
                f"stage {number} sets {', '.join(stage)}"
            )
    return [
        {target: check_number(f"Staged: stages[{number}].{target}", value) for target, value in stage.items()}
        for number, stage in enumerate(stages)
    ]
