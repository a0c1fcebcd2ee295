"""Converts an agent's environment to a vector environment, saves and restores its state, and reads its scalars."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper

from rl_rms.envs import NonStationary, NonStationaryVector
from rl_rms.envs.backends import make_saver
from rl_rms.envs.layers import Layers, OtherWrappersError, check_wrappers, lost_sentence
from rl_rms.envs.notices import Notices
from rl_rms.envs.resilient_make import make_resilient_vec
from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv, continue_sync
from rl_rms.envs.specs import find_spec

EnvLike = str | gym.Env[Any, Any] | VectorEnv
"""A Gymnasium id, an environment or a vector environment."""
ChangingEnv = NonStationaryVector | NonStationary
"""The wrappers that make an environment change."""


class EnvState:
    """Saves and restores the state of an environment, also in the middle of episodes.

    Args:
        env: The agent's environment.

    Attributes:
        changing: The wrapper that makes the environment change; None without such a wrapper.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self._notices = Notices()
        self.changing = find_changing(env)
        # Sub-environments that change independently have their own clocks and no common state.
        independent = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)) and any(
            env.unwrapped.call("has_wrapper_attr", "schedules")
        )
        # The wrappers around the changing environment.
        self._layers: list[Layers] = []
        if isinstance(self.changing, NonStationaryVector):
            self._layers = [Layers(env, self.changing)]
        elif isinstance(self.changing, NonStationary) and isinstance(env.unwrapped, SyncVectorEnv):
            self._layers = [Layers(env, env.unwrapped), Layers(env.unwrapped.envs[0], self.changing)]
        self._backend = None if self.changing is not None or independent else make_saver(env)

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        inside = self._backend if self.changing is None else self.changing
        inner = [] if inside is None else inside.lost_wrappers
        return sorted({*inner, *self._lost_outer_wrappers()})

    def _lost_outer_wrappers(self) -> set[str]:
        return {name for layers in self._layers for name in layers.lost}

    def state_dict(self, observations: Any, *, within_episodes: bool = True) -> dict[str, Any]:
        """The state as plain JSON data. If sub-environments cannot be saved, a warning says so.

        Args:
            observations: The environment's last observations.
            within_episodes: Whether to include the sub-environments' states. A load without these states begins
                new episodes.
        """
        if self.changing is not None:
            outer = self._lost_outer_wrappers()
            # A NonStationaryVector itself warns about the wrappers inside it.
            lost = self.lost_wrappers if isinstance(self.changing, NonStationary) else sorted(outer)
            if within_episodes and lost:
                self._notices.give(lost_sentence(lost))
            state = self.changing.state_dict(environment=within_episodes and not outer)
            return {**state, "wrappers": [layers.state_dict() for layers in self._layers]}
        if not within_episodes:
            return {"environment": None}
        if self._backend is None:
            self._notices.give(
                "the state of sub-environments with separate NonStationary wrappers cannot be saved; make them "
                'with rl_rms.envs.make_vec(..., sharing="independent")',
            )
            return {"environment": None}
        self._backend.last = observations
        return {"environment": self._backend.snapshot()}

    def load_state_dict(self, state: Mapping[str, Any], resetting: npt.NDArray[np.bool_]) -> bool:
        """Continue from a state that `state_dict` returned, after a reset.

        Args:
            state: The state.
            resetting: Whether the next step of each sub-environment is a reset, shape ``(num_envs,)``.

        Returns:
            Whether the saved episodes continue. If they do not, only clock, drift and curriculum are restored, and
            the episodes that the reset began continue.

        Raises:
            ValueError: If the state belongs to an environment that was made differently. For different wrappers,
                a warning is given instead.
        """
        try:
            return self._load(state, resetting)
        except OtherWrappersError as error:
            self._notices.give(f"new episodes begin: {error}")
            return self._load({**state, "environment": None}, resetting)

    def _load(self, state: Mapping[str, Any], resetting: npt.NDArray[np.bool_]) -> bool:
        has_episodes = state["environment"] is not None
        if self.changing is None:
            if self._backend is None or not has_episodes:
                return False
            self._backend.restore(state["environment"], resetting)
            return True
        if has_episodes:
            for layers, states in zip(self._layers, state["wrappers"], strict=False):
                check_wrappers(states, layers.names)
        self.changing.load_state_dict(state)
        if has_episodes:
            self.load_wrappers(state)
            base = self._env.unwrapped
            if isinstance(self.changing, NonStationary) and isinstance(base, SyncVectorEnv):
                continue_sync(base, None, resetting)
        return has_episodes

    def load_wrappers(self, state: Mapping[str, Any]) -> None:
        """Restore the wrappers around the changing environment from a state that `state_dict` returned."""
        for layers, states in zip(self._layers, state["wrappers"], strict=True):
            layers.load_state_dict(states)


def as_vector_env(env: EnvLike, *, restarts: bool = False) -> VectorEnv:
    """A vector environment from an id, a single environment or a vector environment.

    Args:
        env: A Gymnasium id (made with one sub-environment), an environment (becomes the only sub-environment) or a
            vector environment (returned unchanged).
        restarts: Whether the result must be able to restart failing sub-environments. A vector environment is not
            checked.

    Raises:
        TypeError: If ``env`` has another type.
        ValueError: If ``env`` is a single environment and ``restarts`` is True.
    """
    if isinstance(env, str):
        if restarts or find_spec(env).vector_entry_point is None:
            return make_resilient_vec(env, 1, "sync")
        return gym.make_vec(env, num_envs=1)
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gym.Env):
        if restarts:
            raise ValueError(
                f"on_env_error='restart' needs a function that makes the environment, got {env!r}; give its id or "
                "rl_rms.envs.ResilientSyncVectorEnv([make])"
            )
        return ResilientSyncVectorEnv([lambda: env])
    raise TypeError(_not_an_env(env))


def _not_an_env(given: object) -> str:
    """The error message for an environment of an unsupported type."""
    error = f"env must be a Gymnasium id, Env or VectorEnv, got {given!r}"
    if not hasattr(given, "step_async"):
        return error
    return (
        f'{error}, a VecEnv of Stable-Baselines3; make it with rl_rms.envs.make_vec("CartPole-v1", num_envs=8), '
        "or give the functions that make the environments to gymnasium.vector.SyncVectorEnv"
    )


def find_changing(env: VectorEnv) -> ChangingEnv | None:
    """The wrapper that makes an environment change; None without such a wrapper.

    Args:
        env: A vector environment, or a SyncVectorEnv of a single environment that changes.
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


def change_scalars(env: ChangingEnv) -> dict[str, float]:
    """Scalars of a changing environment.

    The tags under ``env/`` are the changing parameters (means over sub-environments), the largest regime index of
    the sub-environments and, if it is finite, the timescale in env steps. A curriculum's scalars have tags under
    ``curriculum/``.
    """
    scalars = {f"env/{name}": float(np.mean(value)) for name, value in env.parameters.items()}
    scalars["env/regime"] = float(np.max(env.regime))
    if math.isfinite(env.timescale):
        scalars["env/timescale"] = env.timescale
    if env.curriculum is not None:
        scalars.update({f"curriculum/{name}": value for name, value in env.curriculum.log().items()})
    return scalars
