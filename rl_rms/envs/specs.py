"""Specifications of registered environments."""

import importlib

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id


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
