"""Imports classes by the paths in a configuration."""

import importlib
import inspect
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


def import_class(argument: str, path: str, base: type[T], example: str) -> type[T]:
    """Import a class.

    Args:
        argument: Name of the argument in errors.
        path: Import path, such as ``"torch.optim.Adam"``.
        base: The required base class.
        example: A valid import path, for errors.

    Raises:
        ValueError: If the class does not exist or is not a subclass of ``base``.
    """
    wanted = f"the import path of a torch {base.__name__} class such as {example}"
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{argument} must be {wanted}, got {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{argument} must be {wanted}, got {path!r}, which is {found!r}")
    return found


def make_module(argument: str, path: str, **arguments: Any) -> nn.Module:
    """Import a torch module class and make an instance.

    Args:
        argument: Name of the argument in errors.
        path: Import path.
        **arguments: The positional arguments of the class, in order, with names for errors.

    Raises:
        ValueError: If the class does not exist, is not a torch module, or does not take the arguments.
    """
    found = import_class(argument, path, nn.Module, "my_networks.Network")
    try:
        inspect.signature(found).bind(*arguments.values())
    except TypeError as error:
        raise ValueError(
            f"{argument} must take the arguments ({', '.join(arguments)}), got {path!r}: {error}"
        ) from error
    return found(*arguments.values())
