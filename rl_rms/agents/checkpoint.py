"""Checkpoints: the states of an agent's parts in one file, as tensors, numbers and strings."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
from torch import nn

from rl_rms.agents import storage
from rl_rms.agents.checkpoint_checks import check_fields, check_trusted, damage_named
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.agents.optimizers import OptimizerLike
from rl_rms.agents.spaces import space_from_dict

_KIND = "agent"
_SPACES = ("observation_space", "action_space")


class Part(Protocol):
    """A part of an agent whose state is saved."""

    def state_dict(self) -> dict[str, Any]:
        """The fields of this part."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load this part's fields from all fields of a file."""
        ...


def save(path: Path, fields: Mapping[str, Any], parts: Iterable[Part]) -> Path:
    """Write an agent; see `rl_rms.agents.storage.write`.

    Args:
        path: The file; ``.safetensors`` is added unless the path already ends in this suffix.
        fields: Further fields. Their names must differ from the names of the parts' fields.
        parts: The agent's parts. No two parts may have a field of the same name.

    Returns:
        The file's path.
    """
    contents = {"kind": _KIND, **fields}
    for part in parts:
        contents.update(part.state_dict())
    return storage.write(path, contents)


def read(path: Path, algorithm: str | None = None) -> dict[str, Any]:
    """Read an agent that `save` wrote, and check its fields.

    Args:
        path: The file; ``.safetensors`` is added unless the path already ends in this suffix.
        algorithm: The algorithm that the agent must have; None allows any.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged or not an agent, if its version or algorithm differs, or if a field is
            missing or has an invalid value, such as NaN weights.
    """
    path = storage.with_suffix(path)
    contents = storage.read(path)
    if contents.get("kind") != _KIND:
        raise ValueError(f"{path} is not an agent that rl_rms saved; give a file that an agent's save wrote")
    check_fields(path, contents)
    if algorithm is not None and contents["algorithm"] != algorithm:
        raise ValueError(
            f"{path} holds an agent of algorithm {contents['algorithm']!r}, not {algorithm!r}; load it with the "
            "class of its algorithm"
        )
    return contents


def constructor_arguments(
    contents: Mapping[str, Any],
    path: str | Path,
    config_class: type[AgentConfig],
    *,
    policy: PolicyConfig | nn.Module | None,
    optimizer: OptimizerLike | None,
    device: str | None,
) -> dict[str, Any]:
    """The constructor arguments of a saved agent, except ``env``.

    Args:
        contents: The fields that `read` returned.
        path: The file, for errors.
        config_class: The class of the agent's configuration.
        policy: See `rl_rms.agents.agent.Agent.load`.
        optimizer: See `rl_rms.agents.agent.Agent.load`.
        device: A torch device; None keeps the saved device.

    Raises:
        ValueError: If a field is damaged, if the policy is missing or differs from the saved policy, or if
            `rl_rms.agents.checkpoint_checks.check_trusted` rejects a class that the file names.
    """
    with damage_named(f"{path}, config,"):
        changed = {} if device is None else {"device": device}
        config = config_class.from_dict(contents["config"], **changed)
    module = None if isinstance(policy, PolicyConfig) else policy
    if contents["user_policy"] and module is None:
        raise ValueError(f"{path} has the weights of your own policy module; pass such a module as policy=...")
    if isinstance(policy, PolicyConfig) and policy != config.policy:
        raise ValueError(
            f"{path} was saved with policy={config.policy}, got policy={policy}; pass the saved policy"
        )
    if not isinstance(policy, (PolicyConfig, nn.Module)):
        for class_path in config.policy.user_classes.values():
            check_trusted("policy", class_path)
    if optimizer is None:
        check_trusted("optimizer", config.optimizer)
    with damage_named(f"{path}, observation_space or action_space,"):
        spaces = {name: space_from_dict(contents[name]) for name in _SPACES}
    return {"config": config, "seed": contents["seed"], "policy": module, "optimizer": optimizer, **spaces}


def check_spaces(path: str | Path, contents: Mapping[str, Any], *spaces: gym.Space[Any]) -> None:
    """Check that an environment has the spaces of a saved agent.

    Args:
        path: The file, for errors.
        contents: The fields that `read` returned.
        *spaces: Observation and action space of one sub-environment.

    Raises:
        ValueError: If a space differs from the saved one.
    """
    for name, space in zip(_SPACES, spaces, strict=True):
        saved = space_from_dict(contents[name])
        if space != saved:
            raise ValueError(
                f"env has {name} {space}, but {path} was trained on {saved}; pass an environment with that space"
            )


def restore(path: str | Path, contents: dict[str, Any], parts: Iterable[Part]) -> None:
    """Load the fields that `read` returned into an agent's parts.

    Args:
        path: The file, for errors.
        contents: The fields.
        parts: The agent's parts. The last part contains the policy, so a user's policy module changes only after
            all other parts were loaded.

    Raises:
        ValueError: If a part cannot load its fields.
    """
    with damage_named(str(path)):
        for part in parts:
            part.load_state_dict(contents)
