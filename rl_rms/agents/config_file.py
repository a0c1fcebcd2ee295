"""The ``config.yaml`` of a training run: conversion to YAML, and the file that `learn` writes into ``log_dir``."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rl_rms.agents import files
from rl_rms.agents.config import A2CConfig, PPOConfig, ReinforceConfig
from rl_rms.envs.config import EnvConfig

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from rl_rms.agents.env_state import ChangingEnv
    from rl_rms.agents.protocols import TrainedAgent

CONFIG = "config.yaml"
# The first line of a ``config.yaml`` that `learn` wrote.
_MARK = "# Written by learn() in a script. This file does not contain the script's wrappers and classes."


class _Dumper(yaml.SafeDumper):
    """Quotes strings such as ``1e3``, which the command line reads as numbers, but YAML 1.1 does not."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def to_yaml(plain: dict[str, Any]) -> str:
    """Convert plain data to YAML. Tuples become lists, and values that JSON cannot represent become strings."""
    return yaml.dump(json.loads(json.dumps(plain, default=str)), Dumper=_Dumper, sort_keys=False)


def is_of_script(folder: Path) -> bool:
    """Whether `learn` wrote the configuration in a folder."""
    try:
        with (folder / CONFIG).open("rb") as file:
            return file.readline().strip() == _MARK.encode()
    except OSError:
        return False


def write_config(folder: Path, agent: "TrainedAgent") -> None:
    """Write the configuration of a script's training, unless the folder has a configuration.

    A configuration of the user's own class is not written, because the command line cannot read it.

    Args:
        folder: Folder of the log.
        agent: The agent at the beginning of its training.

    Raises:
        rl_rms.agents.files.UnwritableError: If the file cannot be written.
    """
    config, env = agent.config, agent.env
    if env is None or type(config) not in (A2CConfig, PPOConfig, ReinforceConfig) or (folder / CONFIG).exists():
        return
    plain = {
        "env": _describe_env(env, agent.session.changing, env.num_envs * agent.workers.size, agent.seed),
        "agent": config.to_dict(),
        "total_timesteps": agent.training.target_timesteps,
        "seed": agent.seed,
    }
    files.write(folder / CONFIG, f"{_MARK}\n{to_yaml(plain)}")


def _describe_env(env: "VectorEnv", changing: "ChangingEnv | None", num_envs: int, seed: int) -> dict[str, Any]:
    """The keys under ``env`` of an environment that a script made.

    Args:
        env: The environment.
        changing: The wrapper that makes the environment change; None without such a wrapper.
        num_envs: Number of sub-environments of all workers.
        seed: Seed of the agent. A ``drift_seed`` that equals this seed becomes null.

    Returns:
        The keys: only ``id`` and ``num_envs`` without ``changing``, or if YAML cannot represent a schedule or the
        curriculum.
    """
    described: dict[str, Any] = {
        "id": type(env.unwrapped).__name__ if env.spec is None else env.spec.id,
        "num_envs": num_envs,
    }
    if changing is None:
        return described
    try:
        changes: dict[str, Any] = {
            "changes": {target: schedule.to_config() for target, schedule in changing.schedules.items()},
            "curriculum": None if changing.curriculum is None else changing.curriculum.to_config(),
            "sharing": changing.sharing,
            "drift_seed": None if changing.drift_seed == seed else changing.drift_seed,
        }
        json.dumps(changes)
        EnvConfig(**described, **changes)
    except (TypeError, ValueError):  # YAML cannot state a schedule or curriculum of the user's own
        return described
    return {**described, **changes}
