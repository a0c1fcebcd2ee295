"""The base class of curricula, which chooses tasks, records episodes, and saves its state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_rms.envs.checks import check_number
from rl_rms.envs.configurable import Configurable

Task = dict[str, float]
# Weight of the latest span in the running mean of `Curriculum.timescale`.
_RECENT = 0.3


class Episode(NamedTuple):
    """A finished episode.

    Attributes:
        task: The value of each target; empty without a curriculum.
        episode_return: Sum of the rewards.
        length: Length in env steps.
        success: Whether the environment reports a success; None if the environment reports nothing.
        env_index: Index of the sub-environment.
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
    """A rule that sets the tasks of episodes. A task is a value for each target.

    Users write their own rule as a function for `Teacher`, or as a subclass that overrides the abstract methods.
    """

    def __init__(self) -> None:
        self.restart(seed=0)

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the tasks set."""

    @abstractmethod
    def _draw(self) -> tuple[Task, Any]:
        """Return the task of a new episode, and plain JSON data that `_learn` gets when the episode ends."""

    @abstractmethod
    def _learn(self, outcome: Episode, drawn: Any) -> None:
        """Update the rule with a finished episode."""

    @abstractmethod
    def _forget(self) -> None:
        """Reset the rule to its initial state."""

    @abstractmethod
    def _kept(self) -> dict[str, Any]:
        """Return the state of the rule, as plain JSON data."""

    @abstractmethod
    def _keep(self, kept: Mapping[str, Any]) -> None:
        """Restore a state that `_kept` returned."""

    @property
    @abstractmethod
    def difficulty(self) -> float:
        """Difficulty of the tasks or progress of the curriculum, in [0, 1], as defined in the subclass."""

    @property
    def stage(self) -> int:
        """Index of the present stage, from 0; always 0 for a curriculum without stages."""
        return 0

    @property
    def stage_changes(self) -> int:
        """Number of changes to later or earlier stages so far. Each stage change is a change of regime."""
        return self._stage_changes

    @property
    def timescale(self) -> float:
        """Env steps between two changes of the distribution of tasks.

        The timescale is the running mean of the spans between changes, in which the latest span has a weight of
        0.3. If the time since the last change exceeds the mean, the timescale is the time since the last change.
        The timescale is ``inf`` before the first change. Only env steps of finished episodes count, over all
        sub-environments.
        """
        return max(self._mean_span, self._env_steps - self._changed_at)

    def log(self) -> dict[str, float]:
        """Return scalars that describe the curriculum's progress, by name."""
        return {"difficulty": self.difficulty}

    def task(self, env_index: int) -> Task:
        """Choose the task of an episode that begins.

        Args:
            env_index: Index of the sub-environment.

        Returns:
            The value of each target.
        """
        task, drawn = self._draw()
        self._begun[env_index] = (task, drawn)
        return dict(task)

    def record(
        self, episode_return: float, episode_length: int, env_index: int, success: bool | None = None
    ) -> None:
        """Record a finished episode. Episodes that did not begin with a call of `task` are ignored.

        Args:
            episode_return: Sum of the episode's rewards.
            episode_length: Length of the episode in env steps.
            env_index: Index of the sub-environment.
            success: Whether the environment reports a success; None if the environment reports nothing.

        Raises:
            ValueError: If the rule needs the success of episodes, but neither the environment nor an argument of
                the rule defines it.
        """
        begun = self._begun.pop(env_index, None)
        if begun is None:
            return
        self._env_steps += episode_length
        task, drawn = begun
        self._learn(Episode(task, float(episode_return), episode_length, success, env_index), drawn)

    def restart(self, seed: int) -> None:
        """Reset the curriculum, and seed its random generator.

        Args:
            seed: Seed >= 0. A new curriculum has the seed 0.
        """
        self._random = np.random.default_rng(seed)
        self._begun: dict[int, tuple[Task, Any]] = {}
        self._stage_changes = 0
        self._env_steps = 0
        self._changed_at = 0
        self._mean_span = math.inf
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the rule and the episodes in progress, as plain JSON data."""
        return {
            "name": self.name,
            "random": self._random.bit_generator.state,
            "begun": [[env_index, *begun] for env_index, begun in self._begun.items()],
            "stage_changes": self._stage_changes,
            "env_steps": self._env_steps,
            "changed_at": self._changed_at,
            # JSON cannot represent infinity.
            "mean_span": self._mean_span if math.isfinite(self._mean_span) else None,
            **self._kept(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            ValueError: If the state belongs to a curriculum of another class, or does not fit this curriculum.
        """
        saved = state.get("name") if isinstance(state, Mapping) else None
        if saved != self.name:
            raise ValueError(
                f"the state is of a curriculum {saved!r}, but this curriculum is {self.name!r}; make the same "
                "curriculum as when the state was saved"
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
        """Make a curriculum from its YAML form. A `Curriculum` is returned unchanged.

        Raises:
            ValueError: If the YAML form does not name a curriculum, or an argument is unknown, missing or invalid.

        Examples:
            >>> stages = [{"length": 1.0}, {"length": 0.5}]
            >>> Curriculum.from_config({"staged": {"stages": stages, "threshold": 400}}).stage
            0
        """
        curriculum: Curriculum = Curriculum._read(config)
        return curriculum

    def _note_change(self) -> None:
        """Record a change of the distribution of tasks."""
        span = self._env_steps - self._changed_at
        first = math.isinf(self._mean_span)
        self._mean_span = float(span) if first else self._mean_span + _RECENT * (span - self._mean_span)
        self._changed_at = self._env_steps


CURRICULA: dict[str, type[Curriculum]] = Curriculum._classes
"""The curricula by their names in YAML."""


def between(start: float, end: float, share: float) -> float:
    """Return the value after a share of the way from ``start`` to ``end``."""
    # Unlike ``start + share * (end - start)``, the sum has no rounding error at the ends. Between the ends, the
    # rounded sum may lie beyond an end.
    value = (1 - share) * start + share * end
    return min(max(value, min(start, end)), max(start, end))


def check_tasks(owner: str, tasks: Any) -> list[Task]:
    """Check a list of tasks, which all set the same targets to numbers.

    Raises:
        ValueError: If the argument is not a list of tasks, if the list or a task is empty, if the tasks set
            different targets, or if a value is not a finite number.
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
                f"{owner}: all tasks must set the same targets, but task 0 sets {', '.join(tasks[0])} "
                f"and task {number} sets {', '.join(task)}"
            )
    return [
        {target: check_number(f"{owner}[{number}].{target}", value) for target, value in task.items()}
        for number, task in enumerate(tasks)
    ]


def succeeded(owner: str, outcome: Episode, success_return: float | None) -> bool:
    """Whether an episode was a success: by ``success_return`` if given, else as the environment reports.

    Raises:
        ValueError: If ``success_return`` is None and the environment reports nothing.
    """
    if success_return is not None:
        return outcome.episode_return >= success_return
    if outcome.success is None:
        raise ValueError(
            f"{owner} needs to know whether an episode was a success, but the environment does not report it "
            '(info["is_success"] or info["success"]); set success_key of the environment, or pass '
            "success_return=..., the smallest return of a success"
        )
    return outcome.success
