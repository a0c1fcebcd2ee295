"""An agent as one file of data: tensors, numbers and strings, which loading reads and never runs."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from rl_rms.agents import storage
from rl_rms.agents.config import AgentConfig, MetaConfig, PolicyConfig

_KIND = "agent"
_TRUSTED = ("rl_rms.", "torch.optim.")

ConfigT = TypeVar("ConfigT", bound=AgentConfig)


def write(path: Path, contents: dict[str, Any]) -> Path:
    """Write an agent; see `rl_rms.agents.storage.write`."""
    return storage.write(path, {"kind": _KIND, **contents})


def read(path: Path, algorithm: str) -> dict[str, Any]:
    """Read what `write` wrote.

    Args:
        path: The file; ``.safetensors`` is added where there is no suffix.
        algorithm: The algorithm it must be of.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no agent, of another version or another algorithm, or damaged.
    """
    path = storage.with_suffix(path)
    contents = storage.read(path)
    if contents.get("kind") != _KIND:
        raise ValueError(f"{path} is not an agent that rl_rms saved")
    if contents["algorithm"] != algorithm:
        raise ValueError(
            f"{path} holds an agent of algorithm {contents['algorithm']!r}, not {algorithm!r}; load it with the "
            "class of its own algorithm"
        )
    return contents


def config_to_dict(config: AgentConfig) -> dict[str, Any]:
    """A configuration as plain data."""
    plain = dataclasses.asdict(config)
    plain["policy"]["hidden_sizes"] = list(plain["policy"]["hidden_sizes"])
    if plain["meta"] is not None:
        plain["meta"]["adapt"] = list(plain["meta"]["adapt"])
    return plain


def config_from_dict(cls: type[ConfigT], plain: dict[str, Any], *, device: str | None = None) -> ConfigT:
    """The configuration that `config_to_dict` made plain, on ``device`` if one is given."""
    meta = None if plain["meta"] is None else MetaConfig(**plain["meta"])
    changed: dict[str, Any] = {"policy": PolicyConfig(**plain["policy"]), "meta": meta}
    if device is not None:
        changed["device"] = device
    return cls(**{**plain, **changed})


def check_trusted(optimizer: str) -> None:
    """Refuse to import an optimizer that only the file names, unless it is torch's or this library's.

    Raises:
        ValueError: If it is another's.
    """
    if not optimizer.startswith(_TRUSTED):
        raise ValueError(
            f"the checkpoint names the optimizer {optimizer!r}; importing it would run code that the file chose, "
            "so pass the class as optimizer=..."
        )
