"""Nested data in one safetensors file: tensors as tensors, all other data as JSON in the header.

The header's metadata has one entry, ``rl_rms``, of the form ``<version> <SHA-256> <contents>``. Equal contents
give equal bytes. The SHA-256 is the checksum of the contents and the tensors. `read` first compares the checksum
with the file, and raises an error for a truncated or altered file. Reading a file runs no code from the file.
"""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from rl_rms.agents import files

SUFFIX = ".safetensors"
_ENTRY = "rl_rms"
VERSION = 2
# Largest allowed header in bytes; an agent's header is far smaller.
_LONGEST_HEADER = 100_000_000
# Dictionaries with these keys represent values that JSON lacks.
_TENSOR, _ITEMS, _NUMBER = "$tensor", "$items", "$number"


def with_suffix(path: Path) -> Path:
    """Add ``.safetensors`` to a path, unless the path ends in it.

    Examples:
        >>> with_suffix(Path("lr_0.001")).name
        'lr_0.001.safetensors'
    """
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def write(path: Path, contents: dict[str, Any]) -> Path:
    """Write a file atomically, see `rl_rms.agents.files.write`.

    Args:
        path: Path of the file; ``.safetensors`` is added unless the path ends in it.
        contents: Tensors, numbers, strings, None, and nested lists, tuples and dictionaries of such values. Tuples
            are read as lists. Keys are strings or whole numbers.

    Returns:
        The file's path.

    Raises:
        TypeError: If ``contents`` has values or keys of other types.
        UnwritableError: If the file cannot be written; an earlier file is unchanged.
    """
    path = with_suffix(path)
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_plain(contents, tensors), allow_nan=False)
    about = {_ENTRY: f"{VERSION} {checksum(text, tensors)} {text}"}
    files.write(path, save(tensors, about))
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a file that `write` wrote, with tensors on the CPU.

    Args:
        path: The file; ``.safetensors`` is added unless the path ends in it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If `write` did not write the file, or the file is damaged or has another version.
    """
    path = with_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        return decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def decode(content: bytes) -> dict[str, Any]:
    """The contents of the bytes of a file that `write` wrote, with tensors on the CPU.

    Raises:
        ValueError: If `write` did not write these bytes, or the bytes are damaged or have another version.
    """
    try:
        version, digest, text = _about(content)
    except ValueError as error:
        raise ValueError(f"is not a checkpoint that rl_rms saved, or it is damaged: {error}") from error
    if version != str(VERSION):
        raise ValueError(
            f"has format version {version}, but this version of rl_rms reads {VERSION}; load it with the version "
            "of rl_rms that saved it"
        )
    try:
        tensors = load(content)
        if checksum(text, tensors) != digest:
            raise ValueError("its checksum does not match its content")
        contents = _restored(json.loads(text), tensors)
        if not isinstance(contents, dict):
            raise ValueError("its content is not a dictionary")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"is damaged: {error}") from error
    return contents


def _about(content: bytes) -> list[str]:
    """Read the version, the SHA-256 and the contents in a file's header.

    Raises:
        ValueError: If the header is missing or was not written by `write`.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _LONGEST_HEADER):
        raise ValueError("it has no header")
    try:
        header = json.loads(content[8 : 8 + length])
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    about = header.get("__metadata__") if isinstance(header, dict) else None
    entry = about.get(_ENTRY) if isinstance(about, dict) else None
    if not isinstance(entry, str) or entry.count(" ") < 2:
        raise ValueError("its header is not from rl_rms")
    return entry.split(" ", 2)


def checksum(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the text and of every tensor's name, dtype, shape and bytes."""
    digest = sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a value to JSON data, and add its tensors to ``tensors``.

    Raises:
        TypeError: If the value contains an object that cannot be saved.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # The tensor is copied, because safetensors cannot save tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _plain(part, tensors) for key, part in value.items()}
        return {_ITEMS: [[_key(key), _plain(part, tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_plain(part, tensors) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint holds tensors, numbers and strings, got {type(value).__name__}: {value!r}")


def _key(key: Any) -> str | int:
    if isinstance(key, (str, int)):
        return key
    raise TypeError(f"a checkpoint's keys are strings and whole numbers, got {key!r}")


def _restored(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, list):
        return [_restored(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _NUMBER in value:
        return float(value[_NUMBER])
    if _ITEMS in value:
        return {key: _restored(part, tensors) for key, part in value[_ITEMS]}
    return {key: _restored(part, tensors) for key, part in value.items()}
