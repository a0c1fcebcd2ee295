"""Makes resilient vector environments from ids and specifications."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rl_rms.envs.resilient_async import ResilientAsyncVectorEnv
from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv
from rl_rms.envs.specs import find_spec

Wrap = Callable[[Any], gym.Env[Any, Any]]


def make_resilient_vec(
    id: str | EnvSpec,
    num_envs: int,
    vectorization_mode: str,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrap] = (),
    **kwargs: Any,
) -> ResilientSyncVectorEnv | ResilientAsyncVectorEnv:
    """Make a resilient vector environment, with the arguments of ``gymnasium.make_vec``."""
    make = partial(_make_one, id, tuple(wrappers), kwargs)
    env: ResilientSyncVectorEnv | ResilientAsyncVectorEnv
    if vectorization_mode == "async":
        env = ResilientAsyncVectorEnv([make] * num_envs, **(vector_kwargs or {}))
    else:
        env = ResilientSyncVectorEnv([make] * num_envs, **(vector_kwargs or {}))
    env.spec = id if isinstance(id, EnvSpec) else find_spec(id)
    return env


def _make_one(id: str | EnvSpec, wrappers: Sequence[Wrap], kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    env = gym.make(id, **kwargs)
    for wrapper in wrappers:
        env = wrapper(env)
    return env
