"""An environment whose parameters can be set between two steps; what decides on the values stands above it."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from rl_rms.envs.chance import Moment
from rl_rms.envs.controls import Controls
from rl_rms.envs.transforms import unbounded


class Parametrized(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Sets an environment's targets to the values it is given.

    With a target ``observation.*`` the observation space has no bounds, since moved observations may lie
    outside of the declared ones.

    Args:
        env: The environment.
        targets: What is to be set.

    Raises:
        ValueError: If the environment has no such target, or changing it would have no effect.
    """

    def __init__(self, env: gym.Env[Any, Any], targets: Sequence[str]) -> None:
        RecordConstructorArgs.__init__(self, targets=targets)
        gym.Wrapper.__init__(self, env)
        self._controls = Controls(env.unwrapped, targets, env.observation_space, env.action_space)
        if self._controls.moves_observations:
            self.observation_space = unbounded(env.observation_space)

    @property
    def parameter_values(self) -> tuple[Any, ...]:
        """The values that are set, in the order of the targets; before the first are set, None for each."""
        return self._controls.values

    @parameter_values.setter
    def parameter_values(self, values: tuple[float, ...]) -> None:
        if values != self._controls.values:
            self._controls.set(values)

    @property
    def parameter_moment(self) -> Moment:
        """Who draws numbers by chance, and when."""
        return self._controls.moment

    @parameter_moment.setter
    def parameter_moment(self, moment: Moment) -> None:
        self._controls.place(moment)

    @property
    def parameter_targets(self) -> tuple[str, ...]:
        """What is set."""
        return self._controls.targets

    def current_values(self) -> tuple[float, ...]:
        """The value that each target has now, set or not."""
        return self._controls.current()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode under the values that are set."""
        observation, info = self.env.reset(seed=seed, options=options)
        # Some environments restore their own values when they are reset.
        self._controls.again()
        self._controls.begin()
        if self._controls.moves_observations:
            observation = self._controls.observation(observation, first=True)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a transition under the values that are set."""
        controls = self._controls
        if not controls.moves:
            return self.env.step(action)
        if controls.moves_actions:
            action = controls.action(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if controls.moves_rewards:
            reward = float(controls.reward(reward))
        if controls.moves_observations:
            observation = controls.observation(observation)
        return observation, reward, terminated, truncated, info
