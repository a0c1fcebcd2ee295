"""Makes non-stationary vector environments from ids and from configurations."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from rl_rms.envs.changing import join_targets
from rl_rms.envs.checks import arguments, check_int
from rl_rms.envs.config import EnvConfig, Sharing
from rl_rms.envs.curricula import Curriculum, Teacher
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.resilient_make import Makeable, make_resilient_vec
from rl_rms.envs.schedules import Schedule, as_schedules
from rl_rms.envs.specs import find_spec, is_threaded, native
from rl_rms.envs.tasks import find_task
from rl_rms.envs.vector import NonStationaryVector
from rl_rms.envs.wrappers import Wrap, WrapperLike, as_wrappers

# With fewer sub-environments than FEWEST_NATIVE, some native vector environments of rl_rms are slower than a
# SyncVectorEnv.
FEWEST_NATIVE = 8
# The largest count of the episode's steps in Gymnasium's native CartPole, which counts in int32.
_NO_LIMIT = 2**31 - 1


def make_vec(
    id: Makeable,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    curriculum: Curriculum | None = None,
    sharing: Sharing = "shared",
    observe: str | Sequence[str] | None = None,
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
    success_key: str | None = None,
    vectorization_mode: str | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[WrapperLike] = (),
    **kwargs: Any,
) -> NonStationaryVector:
    """Make a non-stationary vector environment; the counterpart of ``gymnasium.make_vec``.

    Args:
        id: Id or specification of the environment, or a function that makes a new environment at each call. The id
            of a ready-made task, such as ``"rl_rms/DriftingCartPole-v0"``, selects its environment, changes and
            curriculum.
        num_envs: Number of sub-environments, >= 1.
        changes: See `NonStationaryVector`. Given changes override a ready-made task's changes, target by target.
        curriculum: See `NonStationaryVector`. A given curriculum overrides a ready-made task's curriculum.
        sharing: See `NonStationaryVector`.
        observe: See `NonStationaryVector`.
        seed: See `NonStationaryVector`.
        shard: See `NonStationaryVector`.
        success_key: See `NonStationaryVector`.
        vectorization_mode: ``"native"`` (also ``"vector_entry_point"``, Gymnasium's name), ``"sync"`` or
            ``"async"``. None uses ``"native"`` if there is a native vector environment, ``id`` is neither a
            function nor a specification with additional wrappers, and neither ``vector_kwargs`` nor ``wrappers``
            are given, else ``"sync"``. None uses the native environments of `rl_rms.envs.classic_control` and
            `rl_rms.envs.mujoco` only for 8 or more sub-environments.
        vector_kwargs: Arguments of the vector environment, such as ``{"autoreset_mode": "SameStep"}``.
        wrappers: Wrappers around each sub-environment, the innermost first: names of Gymnasium's wrappers,
            ``"module:Class"``, classes or functions; with arguments ``{name: arguments}`` or
            ``(name, arguments)``. The changes are applied inside the wrappers, or at the position of the entry
            ``"drift"``. The entries of ``observe`` are added outside the wrappers.
        **kwargs: Arguments of the environment. As in ``gymnasium.make``, ``max_episode_steps=None`` keeps the
            registered time limit, and -1 removes it. ``disable_env_checker`` has no effect with ``"native"``. For
            the environments of `rl_rms.envs.mujoco`, ``num_threads`` has an effect only with ``"native"``.

    Returns:
        The environment, with a clock and a regime even if nothing changes.

    Raises:
        ValueError: As for `NonStationaryVector`; also if a wrapper is unknown or rejects its arguments, or if the
            vectorization mode does not support wrappers, ``autoreset_mode`` or a function as ``id``.
        TypeError: If ``id`` has another type, or a function or wrapper does not return a ``gymnasium.Env``.

    Examples:
        >>> stack = {"FrameStackObservation": {"stack_size": 3}}
        >>> make_vec("Pendulum-v1", 2, wrappers=["NormalizeReward", stack]).single_observation_space.shape
        (3, 3)
    """
    num_envs = check_int("num_envs", num_envs, least=1)
    if not (isinstance(id, (str, EnvSpec)) or callable(id)):
        raise TypeError(
            "id must be an id of Gymnasium, a specification or a function that makes an environment, got "
            f"{id!r}; instead of an environment, pass a function such as lambda: gymnasium.make('CartPole-v1')"
        )
    inside, outside = as_wrappers(wrappers)
    if isinstance(id, str) and id.rpartition(":")[2].startswith("rl_rms/"):
        config = find_task(id)
        if config is not None:
            id, changes, kwargs = config.id, {**config.schedules(), **(changes or {})}, {**config.kwargs, **kwargs}
            curriculum = config.make_curriculum() if curriculum is None else curriculum
    if vectorization_mode is None:
        is_plain = not (vector_kwargs or inside or outside)
        vectorization_mode = _choose_mode(id, num_envs) if is_plain else "sync"
    env: VectorEnv
    if vectorization_mode in ("sync", "async"):
        if "num_threads" in kwargs and not callable(id) and is_threaded(find_spec(id)):
            del kwargs["num_threads"]
        targets = join_targets(as_schedules(changes), curriculum)
        wraps: list[Wrap] = [*inside, partial(Parametrized, targets=targets), *outside]
        env = make_resilient_vec(id, num_envs, vectorization_mode, vector_kwargs, wraps, **kwargs)
    elif inside or outside or callable(id):
        kind = "a function as id" if callable(id) else "wrappers"
        raise ValueError(
            f"vectorization_mode={vectorization_mode!r} does not work with {kind}, because this mode has no "
            "separate sub-environments; use 'sync' or 'async'"
        )
    else:
        env = _make_native(id, num_envs, vectorization_mode, {**(vector_kwargs or {}), **kwargs})
    return NonStationaryVector(
        env,
        changes,
        curriculum=curriculum,
        sharing=sharing,
        observe=observe,
        seed=seed,
        shard=shard,
        success_key=success_key,
    )


def _make_native(id: str | EnvSpec, num_envs: int, mode: str, kwargs: dict[str, Any]) -> VectorEnv:
    spec = find_spec(id)
    mode = "vector_entry_point" if mode == "native" else mode
    given = _native_arguments(spec, kwargs)
    try:
        return gym.make_vec(native(spec) or id, num_envs, vectorization_mode=mode, **given)
    except TypeError as error:
        if "unexpected keyword argument 'autoreset_mode'" not in str(error) or "autoreset_mode" not in given:
            raise
        raise ValueError(
            f"the native vector environment of {id} does not have the argument autoreset_mode, got "
            f"{given['autoreset_mode']!r}; leave out autoreset_mode, or set vectorization_mode to sync or async"
        ) from error


def _choose_mode(id: Makeable, num_envs: int) -> str:
    if callable(id):
        return "sync"
    spec = find_spec(id)
    has_native = spec.vector_entry_point is not None or (num_envs >= FEWEST_NATIVE and native(spec) is not None)
    return "native" if has_native and not spec.additional_wrappers else "sync"


def _native_arguments(spec: EnvSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the arguments of ``gymnasium.make`` to arguments of a native vector environment."""
    rest = {name: one for name, one in given.items() if name not in ("max_episode_steps", "disable_env_checker")}
    limit = given.get("max_episode_steps")
    if limit is None or (limit == -1 and spec.max_episode_steps is None):
        return rest
    limit = _NO_LIMIT if limit == -1 else check_int("max_episode_steps", limit, least=1, unit="env steps")
    return {**rest, "max_episode_steps": limit}


def make_from_config(config: EnvConfig, seed: int, shard: tuple[int, int] = (0, 1)) -> NonStationaryVector:
    """Make the vector environment of a configuration, or one process's share of its sub-environments.

    Args:
        config: The configuration.
        seed: Seed of the drift if the configuration has no drift_seed. ``reset(seed=...)`` seeds the environment.
        shard: See `NonStationaryVector`. Each process gets an equal share of ``num_envs``.

    Raises:
        ValueError: As for `NonStationaryVector`; also if the sub-environments cannot be divided equally, or if
            the configuration's ``kwargs`` have a key that is an argument of `make_vec`.
    """
    if config.num_envs % shard[1]:
        raise ValueError(
            f"num_envs must be a multiple of the {shard[1]} workers that share it, got {config.num_envs}"
        )
    taken = [name for name in config.kwargs if name in arguments(make_vec)]
    if taken:
        raise ValueError(
            f"env.kwargs cannot have the key {taken[0]!r}, which is not passed to the environment, got "
            f"{config.kwargs!r}; leave it out, or set the corresponding key of env"
        )
    autoreset = {} if config.autoreset_mode is None else {"autoreset_mode": config.autoreset_mode}
    curriculum = config.make_curriculum()
    if isinstance(curriculum, Teacher):
        _ = curriculum.function  # raises an error for a wrong import path before the first episode
    return make_vec(
        config.id,
        config.num_envs // shard[1],
        config.schedules(),
        curriculum=curriculum,
        sharing=config.sharing,
        observe=config.observe,
        shard=shard,
        success_key=config.success_key,
        seed=seed if config.drift_seed is None else config.drift_seed,
        vectorization_mode=config.vectorization_mode,
        vector_kwargs=autoreset,
        wrappers=config.wrappers,
        **config.kwargs,
    )
