"""An environment that contains several environments. Its parameter ``task`` selects the active environment.

A schedule or a curriculum of `NonStationary` can set the task. If a schedule changes the task, `NonStationary`
truncates the episode in progress, so agents bootstrap from its last observation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rl_rms.envs.parameters import register_parameter
from rl_rms.envs.seeds import derive_seeds

EnvLike = str | EnvSpec | Mapping[str, Any] | Callable[[], gym.Env[Any, Any]]


class TaskSwitch(gym.Env[Any, Any]):
    """Steps one of several environments at a time. The other environments keep their state.

    Args:
        tasks: The environments, at least two with the same spaces: ids, specifications, arguments of
            ``gymnasium.make`` such as ``{"id": "FrozenLake-v1", "is_slippery": False}``, or functions that make an
            environment.
        render_mode: Render mode of the environments that are not made by a function.

    Attributes:
        task: Index of the environment that is active from the next reset on.

    Raises:
        ValueError: If there are fewer than two environments, or their spaces differ.

    Examples:
        >>> from rl_rms.envs import NonStationary
        >>> from rl_rms.envs.schedules import Step
        >>> lakes = [{"id": "FrozenLake-v1", "desc": ["SF", "FG"]}, {"id": "FrozenLake-v1", "desc": ["SH", "FG"]}]
        >>> env = NonStationary(TaskSwitch(lakes), {"task": Step(before=0, after=1, at=1)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> env.step(0)[2:4], env.parameters
        ((False, True), {'task': 1.0})
    """

    def __init__(self, tasks: Sequence[EnvLike], render_mode: str | None = None) -> None:
        if isinstance(tasks, (str, Mapping)) or len(tasks) < 2:
            raise ValueError(f"tasks must be at least two environments, got {tasks!r}")
        self.envs = [_make(task, render_mode) for task in tasks]
        first = self.envs[0]
        for number, env in enumerate(self.envs):
            for name in ("observation_space", "action_space"):
                if getattr(env, name) != getattr(first, name):
                    raise ValueError(
                        f"all tasks must have the same {name}, got {getattr(first, name)} for task 0 and "
                        f"{getattr(env, name)} for task {number}; wrap the tasks so that their spaces are equal"
                    )
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.metadata, self.render_mode = first.metadata, first.render_mode
        self.task = self._present = 0
        # Seeds for the next reset of each environment.
        self._seeds: list[int | None] = [None] * len(self.envs)

    @property
    def generator_state(self) -> dict[str, Any]:
        """The state of each task's random generator, and the seed for the next reset, as plain JSON data."""
        states = [env.unwrapped.np_random.bit_generator.state for env in self.envs]
        return {"each": states, "seeds": list(self._seeds)}

    @generator_state.setter
    def generator_state(self, state: Mapping[str, Any]) -> None:
        for env, bit_generator_state in zip(self.envs, state["each"], strict=True):
            env.unwrapped.np_random.bit_generator.state = bit_generator_state
        self._seeds = list(state["seeds"])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of the current task.

        Args:
            seed: Seed of the current task. The other tasks get derived seeds at the beginning of their next
                episodes.
            options: Reset options of the current task.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._seeds = [*derive_seeds(seed, len(self.envs))]
            self._seeds[self.task] = seed
        self._present = self.task
        seed, self._seeds[self.task] = self._seeds[self.task], None
        return self.envs[self.task].reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a transition in the active environment."""
        return self.envs[self._present].step(action)

    def render(self) -> Any:
        """Render the active environment."""
        return self.envs[self._present].render()

    def close(self) -> None:
        """Close all environments."""
        for env in self.envs:
            env.close()


def _make(task: EnvLike, render_mode: str | None) -> gym.Env[Any, Any]:
    if isinstance(task, Mapping):
        return gym.make(**{"render_mode": render_mode, **task})
    return task() if callable(task) else gym.make(task, render_mode=render_mode)


def _set_task(env: Any, value: float) -> None:
    number = round(value)
    if not 0 <= number < len(env.envs):
        raise ValueError(
            f"task must be from 0 to {len(env.envs) - 1}, got {value:g}; keep its schedule in this range"
        )
    env.task = number


register_parameter("rl_rms.envs.switching:TaskSwitch", "task", set=_set_task, effect="episode", low=0.0)
