"""Make vector environments that change, from ids and from configurations."""

import copy
import importlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec, find_highest_version, get_env_id, parse_env_id
from gymnasium.vector import SyncVectorEnv

from rl_rms.envs.changing import join_targets
from rl_rms.envs.checks import arguments, check_int
from rl_rms.envs.config import EnvConfig, Sharing
from rl_rms.envs.curricula import Curriculum, Teacher
from rl_rms.envs.faults import Checked
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.schedules import Schedule, as_schedules
from rl_rms.envs.tasks import find_task
from rl_rms.envs.vector import NonStationaryVector


def make_vec(
    id: str | EnvSpec,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    curriculum: Curriculum | None = None,
    sharing: Sharing = "shared",
    observe: str | Sequence[str] | None = None,
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
    vectorization_mode: str | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Wrapper[Any, Any, Any, Any]]] = (),
    **kwargs: Any,
) -> NonStationaryVector:
    """Make a vector environment that changes, as ``gymnasium.make_vec`` makes one that does not.

    Args:
        id: The environment's id or specification; that of a ready-made task, such as
            ``"rl_rms/DriftingCartPole-v0"``, stands for its environment, changes and curriculum.
        num_envs: Number of sub-environments.
        changes: See `NonStationaryVector`; go before those of a ready-made task, target by target.
        curriculum: See `NonStationaryVector`.
        sharing: See `NonStationaryVector`.
        observe: See `NonStationaryVector`.
        seed: See `NonStationaryVector`.
        shard: See `NonStationaryVector`.
        vectorization_mode: ``"vector_entry_point"``, ``"sync"`` or ``"async"``; None takes the environment's own
            vector form where it has one and neither ``vector_kwargs`` nor ``wrappers`` ask for another, else Sync.
        vector_kwargs: Arguments of SyncVectorEnv or AsyncVectorEnv, such as ``{"autoreset_mode": "SameStep"}``.
        wrappers: Put around each sub-environment; they see it changing.
        **kwargs: Arguments of the environment.

    Returns:
        The environment, with a clock and a regime even where nothing changes.

    Raises:
        ValueError: See `NonStationaryVector`.
    """
    num_envs = check_int("num_envs", num_envs, least=1)
    if isinstance(id, str) and id.rpartition(":")[2].startswith("rl_rms/"):
        config = find_task(id)
        if config is not None:
            id, changes, kwargs = config.id, {**config.schedules(), **(changes or {})}, {**config.kwargs, **kwargs}
            curriculum = config.make_curriculum() if curriculum is None else curriculum
    if vectorization_mode is None and (vector_kwargs or wrappers):
        vectorization_mode = "sync"
    if vectorization_mode in ("sync", "async"):
        targets = join_targets(as_schedules(changes), curriculum)
        make = partial(_in_a_worker, parent=os.getpid()) if vectorization_mode == "async" else Parametrized
        wrappers = (partial(make, targets=targets), *wrappers)
    if vectorization_mode == "async":
        # Here, since what a worker writes into shared memory can no longer be told from a right observation.
        wrappers = (*wrappers, Checked)
    env = gym.make_vec(
        id,
        num_envs,
        vectorization_mode=vectorization_mode,
        vector_kwargs=dict(vector_kwargs or {}),
        wrappers=wrappers,
        **kwargs,
    )
    base = env.unwrapped
    if isinstance(base, SyncVectorEnv) and not isinstance(getattr(base, "env_fns", None), Sequence):
        # Before Gymnasium 1.4 an iterator that is at its end, from which none can be made anew.
        base.env_fns = [partial(_make_one, id, wrappers, kwargs)] * num_envs
    return NonStationaryVector(
        env, changes, curriculum=curriculum, sharing=sharing, observe=observe, seed=seed, shard=shard
    )


def _make_one(
    id: str | EnvSpec, wrappers: Sequence[Callable[[Any], gym.Env[Any, Any]]], kwargs: Mapping[str, Any]
) -> gym.Env[Any, Any]:
    """A sub-environment as ``gymnasium.make_vec`` makes it."""
    env = gym.make(id, **kwargs)
    for wrapper in wrappers:
        env = wrapper(env)
    return env


def _in_a_worker(env: gym.Env[Any, Any], targets: tuple[str, ...], parent: int) -> Parametrized:
    """One that leaves Ctrl-C, which a terminal sends to workers too, to the process that they step for."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Parametrized(env, targets)


def make_from_config(config: EnvConfig, seed: int, shard: tuple[int, int] = (0, 1)) -> NonStationaryVector:
    """Make the vector environment of a configuration, or an equal part of it.

    Args:
        config: The configuration.
        seed: Seed of the drift where the configuration leaves it open; the first reset seeds the rest.
        shard: See `NonStationaryVector`; of how many, ``num_envs`` is divided by.

    Raises:
        ValueError: See `NonStationaryVector`. If the sub-environments cannot be divided, or ``kwargs`` has a key
            that is an argument of `make_vec`.
    """
    if config.num_envs % shard[1]:
        raise ValueError(
            f"num_envs must be a multiple of the {shard[1]} workers that share it, got {config.num_envs}"
        )
    taken = [name for name in config.kwargs if name in arguments(make_vec)]
    if taken:
        raise ValueError(
            f"env.kwargs cannot have the key {taken[0]!r}, which is not passed to the environment, got "
            f"{config.kwargs!r}; leave it out, or set the key of the same purpose under env"
        )
    autoreset = {} if config.autoreset_mode is None else {"autoreset_mode": config.autoreset_mode}
    mode = config.vectorization_mode
    if config.frame_stack is not None and mode is None:
        mode = "sync"
    curriculum = config.make_curriculum()
    if isinstance(curriculum, Teacher):
        _ = curriculum.function  # A wrong path is refused here, not in the first episode.
    return make_vec(
        config.id if config.frame_stack is None else stacked(config.id, config.frame_stack),
        config.num_envs // shard[1],
        config.schedules(),
        curriculum=curriculum,
        sharing=config.sharing,
        observe=config.observe,
        shard=shard,
        seed=seed if config.drift_seed is None else config.drift_seed,
        vectorization_mode=mode,
        vector_kwargs=autoreset,
        **config.kwargs,
    )


def stacked(id: str, num_frames: int) -> EnvSpec:
    """Return the specification of an environment that stacks its last observations."""
    spec = copy.deepcopy(find_spec(id))
    wrapper = WrapperSpec(
        "FrameStackObservation", "gymnasium.wrappers:FrameStackObservation", {"stack_size": num_frames}
    )
    spec.additional_wrappers = (*spec.additional_wrappers, wrapper)
    return spec


def find_spec(id: str) -> EnvSpec:
    """Return the specification that ``gymnasium.make`` finds for an id.

    Args:
        id: ``"Name-v0"``, ``"Name"`` for the highest version, or ``"module:Name-v0"``, which imports the module.

    Raises:
        gymnasium.error.Error: If no such environment is registered.
        ModuleNotFoundError: If there is no such module.
    """
    module, _, name = id.rpartition(":")
    if module:
        importlib.import_module(module)
    namespace, base, version = parse_env_id(name)
    if version is None and name not in gym.registry:
        name = get_env_id(namespace, base, find_highest_version(namespace, base))
    return gym.spec(name)
