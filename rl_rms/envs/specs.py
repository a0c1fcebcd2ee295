"""Finds specifications of registered environments, and adds rl_rms's native vector environments to them."""

import copy
import importlib

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id

ATARI = "ale_py.env:AtariEnv"
"""The entry point of ale-py's single environments."""
# The native vector environments of rl_rms, by the entry point of the single environment.
_CONTROL, _MUJOCO = "gymnasium.envs.classic_control", "gymnasium.envs.mujoco"
_CAR = f"{_CONTROL}.continuous_mountain_car:Continuous_MountainCarEnv"
_NATIVE = {
    f"{_CONTROL}.acrobot:AcrobotEnv": "classic_control:AcrobotVectorEnv",
    _CAR: "classic_control:MountainCarContinuousVectorEnv",
    f"{_CONTROL}.mountain_car:MountainCarEnv": "classic_control:MountainCarVectorEnv",
    f"{_CONTROL}.pendulum:PendulumEnv": "classic_control:PendulumVectorEnv",
    f"{_MUJOCO}.ant_v5:AntEnv": "mujoco:AntVectorEnv",
    f"{_MUJOCO}.half_cheetah_v5:HalfCheetahEnv": "mujoco:HalfCheetahVectorEnv",
    f"{_MUJOCO}.hopper_v5:HopperEnv": "mujoco:HopperVectorEnv",
    f"{_MUJOCO}.inverted_double_pendulum_v5:InvertedDoublePendulumEnv": "mujoco:InvertedDoublePendulumVectorEnv",
    f"{_MUJOCO}.inverted_pendulum_v5:InvertedPendulumEnv": "mujoco:InvertedPendulumVectorEnv",
    f"{_MUJOCO}.swimmer_v5:SwimmerEnv": "mujoco:SwimmerVectorEnv",
    f"{_MUJOCO}.walker2d_v5:Walker2dEnv": "mujoco:Walker2dVectorEnv",
}


def qualified(one: type) -> str:
    """Return the name of a class as ``"module:Class"``."""
    return f"{one.__module__}:{one.__qualname__}"


def native(spec: EnvSpec) -> EnvSpec | None:
    """Return a specification with a native vector environment that rl_rms provides.

    The result is None if rl_rms provides no native vector environment, or if the specification already has one.
    Atari games are an exception: rl_rms replaces ale-py's native vector environment by a wrapper around it.
    """
    name = _NATIVE.get(str(spec.entry_point))
    if spec.entry_point == ATARI:
        vector_entry_point = "rl_rms.envs.atari:make_vector"
    elif name is None or spec.vector_entry_point is not None:
        return None
    else:
        vector_entry_point = f"rl_rms.envs.{name}"
    spec = copy.deepcopy(spec)
    spec.vector_entry_point = vector_entry_point
    return spec


def is_threaded(spec: EnvSpec) -> bool:
    """Whether rl_rms has a native vector environment with the argument ``num_threads`` for this specification."""
    return _NATIVE.get(str(spec.entry_point), "").startswith("mujoco:")


def find_spec(id: str | EnvSpec) -> EnvSpec:
    """Return the specification that ``gymnasium.make`` finds for an id. A specification is returned unchanged.

    Args:
        id: ``"Name-v0"``, ``"Name"`` for the highest version, or ``"module:Name-v0"``, which imports the module.

    Raises:
        gymnasium.error.Error: If no such environment is registered.
        ModuleNotFoundError: If the module does not exist.
    """
    if isinstance(id, EnvSpec):
        return id
    module, _, name = id.rpartition(":")
    if module:
        importlib.import_module(module)
    namespace, base, version = parse_env_id(name)
    if version is None and name not in gym.registry:
        name = get_env_id(namespace, base, find_highest_version(namespace, base))
    return gym.spec(name)
