"""Checks the values that an environment returns against its observation space and Gymnasium's interface.

Without the check, a vector environment may silently broadcast or cast an observation of a wrong shape or dtype
into the batch. The bounds of a Box are not checked. The dtype may differ from the dtype of the space if NumPy's
casting rule ``"same_kind"`` allows the conversion, such as float64 to float32.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_rms.envs.checks import check_reset, check_reward, is_scalar, shown
from rl_rms.envs.copying import copied
from rl_rms.envs.layers import Layers, Names, State
from rl_rms.envs.parametrized import Transition, find_parametrized

# The types that the fast path of `ReturnCheck.step` accepts.
_REALS = frozenset({float, int, np.float64, np.float32})
_BOOLS = frozenset({bool, np.bool_})


class ReturnCheck:
    """Checks the values that an environment's ``reset`` and ``step`` return.

    Args:
        space: The observation space.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space
        self._shape, self._dtype = space.shape, space.dtype
        self._is_box = isinstance(space, spaces.Box)

    def reset(self, result: Any) -> tuple[Any, dict[str, Any]]:
        """Check the result of a reset, and return it.

        Raises:
            ValueError: If the result is not a pair of an observation of the space and an info dictionary.
        """
        observation, info = check_reset(result)
        self._check(observation, info)
        return observation, info

    def step(self, transition: Any) -> Transition:
        """Check the result of a step, and return it.

        Raises:
            ValueError: If the result is not a valid transition.
        """
        if type(transition) is tuple and len(transition) == 5:
            observation, reward, terminated, truncated, info = transition
            if (
                type(observation) is np.ndarray
                and observation.dtype is self._dtype
                and observation.shape == self._shape
                and type(reward) in _REALS
                and type(terminated) in _BOOLS
                and type(truncated) in _BOOLS
                and type(info) is dict
                and self._is_box
            ):
                return transition
        return self._unusual(transition)

    def _unusual(self, transition: Any) -> Transition:
        """Check a transition that the fast path does not accept."""
        if not (isinstance(transition, tuple) and len(transition) == 5):
            raise ValueError(
                f"step() must return (observation, reward, terminated, truncated, info), got {shown(transition)}"
            )
        observation, reward, terminated, truncated, info = transition
        self._check(observation, info)
        check_reward(reward)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if type(value) not in _BOOLS and not is_scalar(value, "b"):
                raise ValueError(f"{name} must be True or False, got {shown(value)}")
        return observation, reward, terminated, truncated, info

    def _check(self, observation: Any, info: Any) -> None:
        check_observation(self._space, observation)
        if not isinstance(info, dict):
            raise ValueError(f"info must be a dictionary, got {shown(info)}")


class Checked(gym.Wrapper[Any, Any, Any, Any]):
    """Raises a ValueError if an environment returns an invalid value, such as an observation of a wrong shape.

    The docstring of the module describes the check. In a worker, the wrapper checks observations before they are
    written to shared memory.

    Args:
        env: The environment.

    Attributes:
        reset_is_due: Whether the next call of ``step`` starts an episode, as an autoreset does.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._check = ReturnCheck(env.observation_space)
        # Without a `Parametrized`, all wrappers count as wrappers around `Parametrized`.
        is_inside = env.has_wrapper_attr("parameter_targets")
        self._layers = Layers(env, find_parametrized(env) if is_inside else env.unwrapped)
        self.reset_is_due = False

    @property
    def lost_outer_wrappers(self) -> list[str]:
        """Names of the wrappers around `Parametrized` whose state cannot be saved."""
        return self._layers.lost

    @property
    def outer_wrapper_names(self) -> Names:
        """The classes of the wrappers around `Parametrized`, and whether each wrapper currently has a state."""
        return self._layers.names

    @property
    def wrapper_states(self) -> State:
        """The state of the wrappers around `Parametrized`."""
        return self._layers.state_dict()

    @wrapper_states.setter
    def wrapper_states(self, states: State) -> None:
        self._layers.load_state_dict(states)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.reset_is_due = False
        return self._check.reset(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> Transition:
        """Make a transition, or begin an episode if ``reset_is_due``.

        The last transition of an episode is a copy, which the next reset cannot change.
        """
        if self.reset_is_due:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        transition = self._check.step(self.env.step(action))
        return copied(transition) if transition[2] or transition[3] else transition


def check_observation(space: gym.Space[Any], observation: Any, name: str = "observation") -> None:
    """Raise an error if an observation does not fit its space.

    The check ignores bounds of a Box, entries of a Dict observation that its space does not have, and spaces such
    as Text, Graph and Sequence.

    Raises:
        ValueError: If a dictionary or tuple has another type, lacks a part or has a wrong length, if a shape
            differs, if a dtype cannot be cast, or if a discrete value is not in its space.
    """
    parts: dict[Any, gym.Space[Any]] = {}
    is_complete = True
    if isinstance(space, spaces.Dict):
        parts = dict(space.items())
        is_complete = isinstance(observation, Mapping) and parts.keys() <= observation.keys()
    elif isinstance(space, spaces.Tuple):
        parts = dict(enumerate(space))
        is_complete = isinstance(observation, tuple) and len(parts) == len(observation)
    elif isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Discrete)):
        _check_array(space, observation, name)
    if not is_complete:
        raise ValueError(f"{name} must be of {space}, got {shown(observation)}")
    for key, part in parts.items():
        check_observation(part, observation[key], f"{name}[{key!r}]")


def _check_array(
    space: spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete | spaces.Discrete, observation: Any, name: str
) -> None:
    try:
        array = np.asarray(observation)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.shape != space.shape:
        got = shown(observation) if array.dtype == object else f"shape {array.shape}"
        raise ValueError(f"{name} must have shape {space.shape}, the shape of its space {space}, got {got}")
    if not np.can_cast(array.dtype, space.dtype, "same_kind"):
        raise ValueError(
            f"{name} must have a dtype that can be cast to {space.dtype}, the dtype of its space {space}, got "
            f"{array.dtype}"
        )
    if not isinstance(space, spaces.Box) and not space.contains(array.astype(space.dtype)[()]):
        raise ValueError(f"{name} must be a value of {space}, got {shown(observation)}")
