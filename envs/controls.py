"""The knobs of one environment: targets by name, each set to the value that a schedule or curriculum gives.

The scalar wrapper and native vector environments turn the same knobs; a vector environment's take one value for
all sub-environments or an array with one for each.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rl_rms.envs import transforms
from rl_rms.envs.parameters import Parameter, find_parameter, parameter_names
from rl_rms.envs.transforms import NEUTRAL, Space


class Controls:
    """Sets dynamics parameters, and moves rewards, observations and actions.

    Args:
        env: The unwrapped environment.
        targets: What is to be set.
        observation_space: Of one environment.
        action_space: Of one environment.
        arrays: The targets whose values are to be arrays, with one value for each sub-environment.

    Attributes:
        targets: As given.
        values: The values that are set, in the order of the targets; at first None, for none.

    Raises:
        ValueError: If the environment has no such target, or changing it would have no effect.
    """

    def __init__(
        self,
        env: Any,
        targets: Sequence[str],
        observation_space: Space,
        action_space: Space,
        arrays: Sequence[str] = (),
    ) -> None:
        self.targets = tuple(targets)
        self.values: tuple[Any, ...] = (None,) * len(self.targets)
        self._env = env
        self._has_arrays = bool(arrays)
        self._spaces = (observation_space, action_space)
        self._transforms = dict(NEUTRAL)
        for target in self.targets:
            _check(env, target, observation_space, action_space, target in arrays)
        self._setters = self._find_setters()
        groups = {target.partition(".")[0] for target in self.targets if target in NEUTRAL}
        self.moves_rewards = "reward" in groups
        self.moves_observations = "observation" in groups
        self.moves_actions = "action" in groups
        self.moves = bool(groups)

    def set(self, values: tuple[Any, ...]) -> None:
        """Set each target whose value is another than before.

        Args:
            values: In the order of the targets: a number, or an array of shape ``(num_envs,)``.
        """
        before = self.values
        for index, setter in enumerate(self._setters):
            new = values[index]
            # Setting an array costs less than finding out whether it is needed.
            if new is not before[index] and (self._has_arrays or new != before[index]):
                setter(new)
        self.values = values

    def current(self) -> tuple[float, ...]:
        """The value that each target has now, whether or not it was set here."""
        return tuple(
            self._transforms[target] if target in NEUTRAL else self._parameter(target).value(self._env)
            for target in self.targets
        )

    def again(self) -> None:
        """Set everything once more, for an environment that restored its own values."""
        for setter, value in zip(self._setters, self.values, strict=True):
            if value is not None:
                setter(value)

    def reward(self, reward: Any) -> Any:
        """See `rl_rms.envs.transforms.reward`."""
        return transforms.reward(reward, self._transforms["reward.scale"], self._transforms["reward.offset"])

    def observation(self, observation: Any) -> Any:
        """See `rl_rms.envs.transforms.observation`."""
        gain, offset = self._transforms["observation.gain"], self._transforms["observation.offset"]
        return transforms.observation(observation, gain, offset)

    def action(self, action: Any) -> Any:
        """See `rl_rms.envs.transforms.action`."""
        flip, gain = self._transforms["action.flip"], self._transforms["action.gain"]
        return transforms.action(action, self._spaces[1], flip, gain)

    def _parameter(self, target: str) -> Parameter:
        return _parameter(self._env, target, *self._spaces)

    def _find_setters(self) -> list[Callable[[Any], None]]:
        return [
            partial(self._transforms.__setitem__, target)
            if target in NEUTRAL
            else self._parameter(target).setter(self._env)
            for target in self.targets
        ]

    def __getstate__(self) -> dict[str, Any]:
        # Registered functions may be lambdas, which cannot be pickled; they are found again by name.
        return {name: value for name, value in self.__dict__.items() if name != "_setters"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._setters = self._find_setters()
        # Environments that unpickle by being made anew (Box2D, MuJoCo) have their own values again.
        self.again()


def _check(env: Any, target: str, observation_space: Space, action_space: Space, batched: bool) -> None:
    """Raise a sentence unless the target can be set here."""
    if target in NEUTRAL:
        needed = transforms.misfit(target, observation_space, action_space)
        if needed is not None:
            raise ValueError(f"{target!r} needs {needed}")
        return
    parameter = _parameter(env, target, observation_space, action_space)
    if batched and not parameter.batched:
        raise ValueError(
            f"{type(env).__name__} is not known to take one {target!r} for each sub-environment; use "
            'vectorization_mode="sync", or register_parameter(..., batched=True)'
        )


def _parameter(env: Any, target: str, observation_space: Space, action_space: Space) -> Parameter:
    parameter = find_parameter(env, target)
    if parameter is None:
        fitting = [one for one in NEUTRAL if transforms.misfit(one, observation_space, action_space) is None]
        raise ValueError(
            f"{type(env).__name__} has no {target!r} to change; it offers "
            f"{', '.join([*parameter_names(env), *fitting])}"
        )
    return parameter
