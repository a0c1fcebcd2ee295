"""Imports the callbacks that a configuration names, and makes them with their arguments."""

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rl_rms.cli.errors import UserError

if TYPE_CHECKING:
    from rl_rms.agents.callbacks import Callback

_LIBRARY = "rl_rms.agents"


def named_callbacks(callbacks: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the name or import path of each callback, and its arguments. Nothing is imported.

    Args:
        callbacks: A list of names and of dictionaries ``{name: arguments}``.

    Raises:
        ValueError: If the list or an entry has a wrong form.
    """
    if not isinstance(callbacks, list):
        raise ValueError(f"callbacks must be a list, such as [my_callbacks:Mine], got {callbacks!r}")
    for number, item in enumerate(callbacks):
        named = item if isinstance(item, Mapping) else {item: None}
        ((name, arguments), *others) = named.items() or [(None, None)]
        arguments = {} if arguments is None else arguments
        is_named = isinstance(arguments, Mapping) and all(isinstance(key, str) for key in arguments)
        if others or not isinstance(name, str) or not is_named:
            raise ValueError(
                f"callbacks[{number}] must be the name of a callback of {_LIBRARY}, or an import path "
                f"module:Class, alone or with arguments as {{name: {{argument: value}}}}, got {item!r}"
            )
        yield name, dict(arguments)


def refuse_callbacks(callbacks: Any, command: str) -> None:
    """Raise an error for a configuration with callbacks, because the command does not call callbacks.

    Raises:
        UserError: If the configuration has a callback.
    """
    names = [name for name, _ in named_callbacks(callbacks)]
    if names:
        raise UserError(
            f"callbacks must be empty, because {command} does not call callbacks, got {', '.join(names)}; set "
            "callbacks: [] in the configuration, or under the key fix of the sweep or federation"
        )


def make_named(callbacks: Any) -> "list[Callback]":
    """Import and make the callbacks of a configuration.

    Raises:
        UserError: If a callback cannot be imported, is not a subclass of `Callback`, needs a missing package, or
            rejects the arguments.
    """
    return [_make(number, *named) for number, named in enumerate(list(named_callbacks(callbacks)))]


def _make(number: int, name: str, arguments: dict[str, Any]) -> "Callback":
    from rl_rms.agents.callbacks import Callback

    place = f"callbacks[{number}] {name!r}"
    module, _, attribute = name.rpartition(":")
    try:
        found = getattr(import_module(module or _LIBRARY), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{place} cannot be imported: {error}; name a callback of {_LIBRARY}, or a class of a module in the "
            "current folder or on Python's search path, as module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise UserError(f"{place} must be a subclass of rl_rms.agents.Callback, got {found!r}")
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{place} does not take the arguments {arguments!r}: {error}") from error
    try:
        return found(**arguments)
    except (ImportError, ValueError) as error:
        raise UserError(f"{place}: {error}") from error
