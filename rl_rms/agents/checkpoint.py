"""Checkpoints: the states of an agent's parts in one file, as tensors, numbers and strings."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rl_rms.agents import storage
from rl_rms.agents.checkpoint_checks import check_fields

_KIND = "agent"


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
        path: The file; ``.safetensors`` is added unless the path ends in it.
        fields: Fields that no part has.
        parts: The agent's parts. Their fields have different names.

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
        path: The file; ``.safetensors`` is added unless the path ends in it.
        algorithm: The algorithm that the agent must have; None allows any.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not an agent, is damaged, has another version or algorithm, or lacks a field, or
            if a field has an invalid value, such as weights that are nan.
    """
    path = storage.with_suffix(path)
    contents = storage.read(path)
    if contents.get("kind") != _KIND:
        raise ValueError(f"{path} is not an agent that rl_rms saved")
    check_fields(path, contents)
    if algorithm is not None and contents["algorithm"] != algorithm:
        raise ValueError(
            f"{path} holds an agent of algorithm {contents['algorithm']!r}, not {algorithm!r}; load it with the "
            "class of its own algorithm"
        )
    return contents


def restore(contents: dict[str, Any], parts: Iterable[Part]) -> None:
    """Load the fields of `read` into an agent's parts.

    Args:
        contents: The fields.
        parts: The agent's parts. The last part holds the policy, so that a user's policy module changes only after
            all other parts were loaded.
    """
    for part in parts:
        part.load_state_dict(contents)
