"""Makes vector environments, from an id, specification or function, that restart failing sub-environments."""

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rl_rms.envs.resilient_async import ResilientAsyncVectorEnv
from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv
from rl_rms.envs.specs import find_spec
from rl_rms.envs.wrappers import Wrap

Makeable = str | EnvSpec | Callable[..., gym.Env[Any, Any]]
"""An id, a specification, or a function that makes an environment."""


def make_resilient_vec(
    id: Makeable,
    num_envs: int,
    vectorization_mode: str,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrap] = (),
    **kwargs: Any,
) -> ResilientSyncVectorEnv | ResilientAsyncVectorEnv:
    """Make a `ResilientAsyncVectorEnv` for the mode ``"async"``, and a `ResilientSyncVectorEnv` for other modes.

    The arguments are the same as in ``gymnasium.make_vec``, but ``id`` may also be a function.

    Raises:
        ValueError: If ``id`` is a function that returns the same environment at several calls, except in the mode
            ``"async"``.
        TypeError: If ``id`` is a function that does not return an environment.
    """
    make = partial(_make_one, id, tuple(wrappers), kwargs)
    env: ResilientSyncVectorEnv | ResilientAsyncVectorEnv
    if vectorization_mode == "async":
        env = ResilientAsyncVectorEnv([make] * num_envs, **(vector_kwargs or {}))
    else:
        env = ResilientSyncVectorEnv([make] * num_envs, **(vector_kwargs or {}))
        if callable(id) and len({builtins.id(one.unwrapped) for one in env.envs}) < num_envs:
            raise ValueError(
                f"id must make a new environment at each call, got {id!r}, which returns one environment several "
                "times; create the environment inside the function"
            )
    if not callable(id):
        env.spec = find_spec(id)
    return env


def _make_one(id: Makeable, wrappers: Sequence[Wrap], kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    env = id(**kwargs) if callable(id) else gym.make(id, **kwargs)
    if not isinstance(env, gym.Env):
        raise TypeError(f"id must make a gymnasium.Env, got {id!r}, which returns {env!r}")
    for wrapper in wrappers:
        env = wrapper(env)
    return env
