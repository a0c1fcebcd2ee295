"""What an agent lives in: what it can know and log of the change, and how its place there is saved."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper

from rl_rms.envs import NonStationary, NonStationaryVector
from rl_rms.envs.backends import make_backend
from rl_rms.envs.layers import Layers, lost_sentence
from rl_rms.envs.notices import Notices

World = NonStationaryVector | NonStationary


class Surroundings:
    """What an agent lives in, saved and brought back within its episodes.

    Args:
        env: The agent's environment. Sub-environments in this process are made ready to be lived through again.

    Attributes:
        world: The wrapper that makes the environment change, if there is one.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self._notices = Notices()
        self.world = find_world(env)
        # Sub-environments that change each by itself are several worlds, of which none stands for all.
        changing = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)) and any(
            env.unwrapped.call("has_wrapper_attr", "schedules")
        )
        self._layers: list[Layers] = []
        if isinstance(self.world, NonStationaryVector):
            self._layers = [Layers(env, self.world)]
        elif isinstance(self.world, NonStationary):
            assert isinstance(env.unwrapped, SyncVectorEnv)
            self._layers = [Layers(env, env.unwrapped), Layers(env.unwrapped.envs[0], self.world)]
        self._backend = None if self.world is not None or changing else make_backend(env, (), ())

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        inside = self._backend if self.world is None else self.world
        inner = [] if inside is None else inside.lost_wrappers
        return sorted({*inner, *self._lost_outer_wrappers()})

    def _lost_outer_wrappers(self) -> set[str]:
        return {name for layers in self._layers for name in layers.lost}

    def state_dict(self, observations: Any, *, within_episodes: bool = True) -> dict[str, Any]:
        """All of it as plain JSON data; what cannot be kept is None, with a warning.

        Args:
            observations: What the environment showed last.
            within_episodes: False leaves out the sub-environments, for new episodes to begin.
        """
        if self.world is not None:
            outer = self._lost_outer_wrappers()
            # A NonStationaryVector warns of the wrappers inside it.
            lost = self.lost_wrappers if isinstance(self.world, NonStationary) else sorted(outer)
            if within_episodes and lost:
                self._notices.give(lost_sentence(lost))
            state = self.world.state_dict(environment=within_episodes and not outer)
            return {**state, "wrappers": [layers.state_dict() for layers in self._layers]}
        if not within_episodes:
            return {"environment": None}
        if self._backend is None:
            self._notices.give(
                "the state of sub-environments that change each by itself cannot be kept; make them with "
                'rl_rms.envs.make_vec(..., sharing="independent")',
            )
            return {"environment": None}
        self._backend.last = observations
        return {"environment": self._backend.snapshot()}

    def load_state_dict(self, state: Mapping[str, Any], resetting: npt.NDArray[np.bool_]) -> bool:
        """Go on from a state of `state_dict`, after a reset.

        Args:
            state: The state.
            resetting: Which sub-environments are to begin an episode in the next step.

        Returns:
            Whether the episodes go on; else those that the reset began do, and of the state only clock, drift and
            curriculum are taken.

        Raises:
            ValueError: If it is the state of an environment that was made otherwise.
        """
        if self.world is not None:
            self.world.load_state_dict(state)
            if state["environment"] is not None:
                self.load_wrappers(state)
                if isinstance(self.world, NonStationary):
                    base: Any = self._env.unwrapped
                    base._autoreset_envs[:] = resetting
        elif self._backend is not None and state["environment"] is not None:
            self._backend.restore(state["environment"], resetting)
        return state["environment"] is not None and (self.world is not None or self._backend is not None)

    def load_wrappers(self, state: Mapping[str, Any]) -> None:
        """Restore the wrappers around what changes from a state of `state_dict`."""
        for layers, states in zip(self._layers, state["wrappers"], strict=True):
            layers.load_state_dict(states)


def find_world(env: VectorEnv) -> World | None:
    """The wrapper that makes an environment change, if there is one.

    Args:
        env: A vector environment, or a SyncVectorEnv of a single environment that changes.

    Returns:
        The wrapper, which has a clock, parameters, a regime and a state.
    """
    layer: Any = env
    while isinstance(layer, VectorWrapper):
        if isinstance(layer, NonStationaryVector):
            return layer
        layer = layer.env
    if isinstance(layer, SyncVectorEnv) and layer.num_envs == 1:
        layer = layer.envs[0]
        while isinstance(layer, gym.Wrapper):
            if isinstance(layer, NonStationary):
                return layer
            layer = layer.env
    return None


def world_scalars(world: World) -> dict[str, float]:
    """Scalars of what changes.

    Under ``env/`` each changing parameter (its mean over sub-environments), the regime and, where it is finite,
    the time scale in env steps; under ``curriculum/`` what a curriculum tells of itself.
    """
    scalars = {f"env/{name}": float(np.mean(value)) for name, value in world.parameters.items()}
    scalars["env/regime"] = float(np.max(world.regime))
    if math.isfinite(world.timescale):
        scalars["env/timescale"] = world.timescale
    if world.curriculum is not None:
        scalars.update({f"curriculum/{name}": value for name, value in world.curriculum.log().items()})
    return scalars
