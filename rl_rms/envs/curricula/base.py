"""The base of curricula: gives tasks, records episodes, is saved and restarted."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_rms.envs.checks import check_number
from rl_rms.envs.configurable import Configurable

Task = dict[str, float]
# Weight of the last span between two changes in their running mean.
_RECENT = 0.3


class Episode(NamedTuple):
    """A finished episode.

    Attributes:
        task: The value of each target in it; empty if no curriculum set one.
        episode_return: Sum of its rewards.
        length: Its env steps.
        success: Whether it was a success, as the environment reports; None if it reports nothing.
        env_index: Number of the sub-environment.
    """

    task: Task
    episode_return: float
    length: int
    success: bool | None
    env_index: int


class Curriculum(
    Configurable,
    ABC,
    kind="curriculum",
    example="{staged: {stages: [{length: 1.0}, {length: 0.5}], threshold: 400}}",
):
    """A rule for the tasks of episodes.

    A user's own rule is a function, in `Teacher`, or a class that derives from this one. It says how to draw a
    task, what to learn of an episode, what to keep and how to forget it.
    """

    def __init__(self) -> None:
        self.restart(seed=0)

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the tasks set."""

    @abstractmethod
    def _draw(self) -> tuple[Task, Any]:
        """The task of an episode that now begins, and what `_learn` is to know of it, as plain JSON data."""

    @abstractmethod
    def _learn(self, outcome: Episode, drawn: Any) -> None:
        """Take note of an episode that has ended."""

    @abstractmethod
    def _forget(self) -> None:
        """Be as at the beginning."""

    @abstractmethod
    def _kept(self) -> dict[str, Any]:
        """The state of the rule, as plain JSON data."""

    @abstractmethod
    def _keep(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `_kept` gave."""

    @property
    @abstractmethod
    def difficulty(self) -> float:
        """Progress of the curriculum, in [0, 1]."""

    @property
    def stage(self) -> int:
        """Number of the present stage, from 0; always 0 where there are none."""
        return 0

    @property
    def stage_changes(self) -> int:
        """Number of changes of stage, up or down, each a change of regime."""
        return self._stage_changes

    @property
    def timescale(self) -> float:
        """Env steps between two changes of what tasks are drawn from.

        The running mean of the spans between changes so far, of which the last has a weight of 0.3, and never less
        than the time since the last change; ``inf`` before the first. Counted are the env steps of finished
        episodes, of all sub-environments together.
        """
        return max(self._mean_span, self._env_steps - self._changed_at)

    def log(self) -> dict[str, float]:
        """Scalars that tell how it stands, by short names."""
        return {"difficulty": self.difficulty}

    def task(self, env_index: int) -> Task:
        """The task of the episode that now begins.

        Args:
            env_index: Number of the sub-environment.

        Returns:
            A value for each of the targets.
        """
        task, drawn = self._draw()
        self._begun[env_index] = (task, drawn)
        return dict(task)

    def record(
        self, episode_return: float, episode_length: int, env_index: int, success: bool | None = None
    ) -> None:
        """Take note of an episode that has ended; one that did not begin with `task` is not counted.

        Args:
            episode_return: Sum of its rewards.
            episode_length: Its env steps.
            env_index: Number of the sub-environment.
            success: Whether it was a success (``info["is_success"]``); None if the environment reports nothing.

        Raises:
            ValueError: If the rule needs to know of success, and neither the environment nor an argument says what
                it is.
        """
        begun = self._begun.pop(env_index, None)
        if begun is None:
            return
        self._env_steps += episode_length
        task, drawn = begun
        self._learn(Episode(task, float(episode_return), episode_length, success, env_index), drawn)

    def restart(self, seed: int) -> None:
        """Forget everything and begin anew, with random numbers from the seed.

        Args:
            seed: Whole number >= 0. A curriculum that was never begun anew has 0.
        """
        self._random = np.random.default_rng(seed)
        self._begun: dict[int, tuple[Task, Any]] = {}
        self._stage_changes = 0
        self._env_steps = 0
        self._changed_at = 0
        self._mean_span = math.inf
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """The state of the rule and the episodes in progress, as plain JSON data."""
        return {
            "name": self.name,
            "random": self._random.bit_generator.state,
            "begun": [[env_index, *begun] for env_index, begun in self._begun.items()],
            "stage_changes": self._stage_changes,
            "env_steps": self._env_steps,
            "changed_at": self._changed_at,
            # Infinity is none of JSON's numbers.
            "mean_span": self._mean_span if math.isfinite(self._mean_span) else None,
            **self._kept(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly from a state of `state_dict`.

        Raises:
            ValueError: If it is that of another kind of curriculum, or of one with other tasks.
        """
        saved = state.get("name") if isinstance(state, Mapping) else None
        if saved != self.name:
            raise ValueError(
                f"the state of a curriculum {saved!r} was given to one that is {self.name!r}; make it as it was "
                "then"
            )
        self._keep(state)
        self._random.bit_generator.state = state["random"]
        self._begun = {env_index: (dict(task), drawn) for env_index, task, drawn in state["begun"]}
        self._stage_changes = int(state["stage_changes"])
        self._env_steps = int(state["env_steps"])
        self._changed_at = int(state["changed_at"])
        self._mean_span = math.inf if state["mean_span"] is None else float(state["mean_span"])

    @staticmethod
    def from_config(config: Any) -> "Curriculum":
        """Read the YAML form; a curriculum is returned as it is.

        Raises:
            ValueError: If it is no curriculum, or has a wrong, missing or impossible argument.

        Examples:
            >>> stages = [{"length": 1.0}, {"length": 0.5}]
            >>> Curriculum.from_config({"staged": {"stages": stages, "threshold": 400}}).stage
            0
        """
        curriculum: Curriculum = Curriculum._read(config)
        return curriculum

    def _note_change(self) -> None:
        """Note that tasks are drawn from something else from now on."""
        span = self._env_steps - self._changed_at
        first = math.isinf(self._mean_span)
        self._mean_span = float(span) if first else self._mean_span + _RECENT * (span - self._mean_span)
        self._changed_at = self._env_steps


CURRICULA: dict[str, type[Curriculum]] = Curriculum._classes
"""The curricula by their names in YAML."""


def check_tasks(owner: str, tasks: Any) -> list[Task]:
    """Tasks that all set the same targets to numbers.

    Raises:
        ValueError: If they are no such list.
    """
    if (
        not isinstance(tasks, Sequence)
        or isinstance(tasks, str)
        or not tasks
        or not all(isinstance(one, Mapping) and one for one in tasks)
    ):
        raise ValueError(
            f"{owner} must be a list of tasks, such as [{{length: 1.0}}, {{length: 0.5}}], got {tasks!r}"
        )
    for number, task in enumerate(tasks):
        if set(task) != set(tasks[0]):
            raise ValueError(
                f"{owner}: all must set the same targets, but number 0 sets {', '.join(tasks[0])} and number "
                f"{number} sets {', '.join(task)}"
            )
    return [
        {target: check_number(f"{owner}[{number}].{target}", value) for target, value in task.items()}
        for number, task in enumerate(tasks)
    ]


def succeeded(owner: str, outcome: Episode, success_return: float | None) -> bool:
    """Whether an episode was a success: by its return where that is said, else as the environment says.

    Raises:
        ValueError: If neither says.
    """
    if success_return is not None:
        return outcome.episode_return >= success_return
    if outcome.success is None:
        raise ValueError(
            f"{owner} needs to know whether an episode was a success, and the environment does not say "
            '(info["is_success"]); give success_return=..., the return that is one'
        )
    return outcome.success
