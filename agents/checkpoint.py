"""An agent as one file of data: tensors, numbers and strings, which loading reads and never runs."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch

from rl_rms.agents.config import AgentConfig, MetaConfig, PolicyConfig

FORMAT = "rl_rms agent"
VERSION = 1
_TRUSTED = ("rl_rms.", "torch.optim.")

ConfigT = TypeVar("ConfigT", bound=AgentConfig)


def write(path: Path, contents: dict[str, Any]) -> Path:
    """Write beside and rename into place, so that a half-written file never stands under the name.

    Args:
        path: Where to; ``.pt`` is added where there is no suffix.
        contents: Tensors, numbers, strings, and lists and dictionaries of them.

    Returns:
        The file's path.
    """
    path = path if path.suffix else path.with_suffix(".pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save({"format": FORMAT, "version": VERSION, **contents}, file)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    return path


def read(path: Path, algorithm: str) -> dict[str, Any]:
    """Read what `write` wrote.

    Args:
        path: The file; ``.pt`` is added where there is no suffix.
        algorithm: The algorithm it must be of.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no agent, of another version or another algorithm.
    """
    path = path if path.suffix else path.with_suffix(".pt")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise ValueError(f"{path} is not an agent that rl_rms saved, or it is damaged") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise ValueError(f"{path} is not an agent that rl_rms saved")
    if contents["version"] != VERSION:
        raise ValueError(
            f"{path} has format version {contents['version']}, this rl_rms reads {VERSION}; load it with the one "
            "that saved it"
        )
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
