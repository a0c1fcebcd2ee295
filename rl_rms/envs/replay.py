"""Replays of episodes, for environments or wrappers whose state cannot be read.

The saved state consists of the seed of the episode's reset (without a seed, the random generator's state before
the reset), the options of the reset, and the actions and parameter values since the reset. Another environment
repeats the reset and the actions. A replay is exact if all random numbers come from ``np_random`` and the
episode does not depend on earlier episodes. Box2D needs replays, because the contacts of its solver cannot be read
or set. Loading a state repeats all env steps of the episode. An episode of more than `LONGEST` env steps is not
saved.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import gymnasium as gym
import numpy as np

from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.gymnasium_internals import new_box2d_world
from rl_rms.envs.snapshots import generator_state, set_generator
from rl_rms.envs.specs import qualified

# The longest episode that is replayed, in env steps.
LONGEST = 10_000

Values = tuple[Any, ...]
# In these environments, a used Box2D world processes contacts in another order than a new world.
_NEED_NEW_WORLD = frozenset({"gymnasium.envs.box2d.bipedal_walker:BipedalWalker"})


class Replay:
    """Records the beginning of an episode, and the actions and parameter values of its env steps."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self._generator: dict[str, Any] = {}
        # The reason why the random generator at the episode's beginning could not be saved.
        self._obstacle: str | None = None
        self._arguments: dict[str, Any] = {}
        self._actions: list[Any] = []
        # The parameter values before the reset, and each later change with the index of the next step.
        self._values: list[tuple[int, Values]] = []

    def begin(self, seed: int | None, options: dict[str, Any] | None, values: Values) -> None:
        """Record the beginning of an episode, before the environment's reset."""
        base: Any = self._env.unwrapped
        if qualified(type(base)) in _NEED_NEW_WORLD:
            new_box2d_world(base)
        self._generator, self._obstacle = {}, None
        if seed is None:
            try:
                self._generator = generator_state(base)
            except ValueError as error:
                self._obstacle = str(error)
        self._arguments = {"seed": seed, "options": options}
        self._actions = []
        self._values = [(-1, values)]

    def add(self, action: Any, values: Values) -> None:
        """Record a transition, before the environment's step."""
        if values != self._values[-1][1]:
            self._values.append((len(self._actions), values))
        if len(self._actions) <= LONGEST:
            # The caller may write to the array later.
            self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)

    def state_dict(self, shown: Any) -> dict[str, Any]:
        """Return the episode, and a hash of the last observation ``shown``, as plain JSON data.

        Raises:
            ValueError: If the episode is longer than `LONGEST`, its random generator could not be read, or a part
                cannot be written as JSON.
        """
        if self._obstacle is not None:
            raise ValueError(self._obstacle)
        if len(self._actions) > LONGEST:
            raise ValueError(f"its episode is longer than {LONGEST} env steps")
        return {
            "generator": self._generator,
            "arguments": encode(self._arguments),
            "actions": encode(_stacked(self._actions)),
            "settings": encode(self._values),
            "shown": _fingerprint(shown),
        }

    def repeat(self, state: Mapping[str, Any], set_values: Callable[[Values], None]) -> tuple[Any, bool]:
        """Repeat a saved episode in this environment.

        Returns:
            The last observation, and whether its hash equals the saved hash.
        """
        settings = {number: tuple(values) for number, values in decode(state["settings"])}
        arguments = decode(state["arguments"])
        set_values(settings[-1])
        self.begin(arguments["seed"], arguments["options"], settings[-1])
        if state["generator"]:
            self._generator = dict(state["generator"])
            set_generator(self._env.unwrapped, self._generator)
        result: Any = self._env.reset(**arguments)
        # Some environments overwrite the values of targets when they are reset.
        set_values(settings[-1])
        now = settings[-1]
        for number, action in enumerate(decode(state["actions"])):
            if number in settings:
                now = settings[number]
                set_values(now)
            self.add(action, now)
            result = self._env.step(action)
        return result[0], _fingerprint(result[0]) == state["shown"]


def _fingerprint(observation: Any) -> str:
    return sha256(json.dumps(encode(observation)).encode()).hexdigest()


def _stacked(actions: list[Any]) -> Any:
    """Join actions of one dtype and shape into one array, which needs much less space than the list."""
    kinds = {(one.dtype, one.shape) if isinstance(one, (np.ndarray, np.generic)) else None for one in actions}
    return np.stack(actions) if len(kinds) == 1 and None not in kinds else actions
