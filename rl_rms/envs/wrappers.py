"""Finds Gymnasium's wrappers by name and other wrappers by import path, and checks the wrappers' arguments."""

import copy
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers as gymnasium_wrappers
from gymnasium.error import DependencyNotInstalled

Wrap = Callable[[Any], gym.Env[Any, Any]]
WrapperLike = str | Mapping[str, Any] | Sequence[Any] | Callable[..., gym.Env[Any, Any]]
"""Name of a Gymnasium wrapper such as ``"FlattenObservation"``, import path ``"module:Class"``, class or function.
With arguments, the form is ``{name: arguments}`` or ``(wrapper, arguments)``."""

DRIFT = "drift"
"""In a list of wrappers, this entry marks the position at which the changes of `NonStationary` are applied."""
# Gymnasium's wrappers that are not allowed, and what to use instead.
_INSTEAD = {
    "Autoreset": "vector environments begin the next episode themselves, see autoreset_mode",
    "RecordVideo": "set video_every, or use rl_rms.agents.VideoCallback",
}
_KNOWN: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    name: one
    for name in gymnasium_wrappers.__all__
    if name not in _INSTEAD
    and isinstance(one := vars(gymnasium_wrappers).get(name), type)
    and issubclass(one, gym.Wrapper)
}


class WrapperNeedsError(DependencyNotInstalled):
    """Raised if a wrapper needs a package that is not installed."""


@dataclass(frozen=True)
class _Named:
    """A wrapper with its arguments, which wraps an environment when it is called."""

    name: str
    wrapper: Callable[..., gym.Env[Any, Any]]
    kwargs: Mapping[str, Any]

    def __call__(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        try:
            # The arguments are copied, so that sub-environments do not share mutable objects.
            wrapped = self.wrapper(env, **copy.deepcopy(dict(self.kwargs)))
        except DependencyNotInstalled as error:
            raise WrapperNeedsError(
                f"the wrapper {self.name} needs a package that is not installed: {error}"
            ) from error
        except Exception as error:  # Gymnasium's wrappers also use assert
            problem = " ".join(str(error).split())
            raise ValueError(
                f"the wrapper {self.name} with {dict(self.kwargs)!r} cannot wrap {env}: {type(error).__name__}: "
                f"{problem}; change its arguments or its position, or leave it out"
            ) from error
        return _checked(self.name, wrapped)


@dataclass(frozen=True)
class _Function:
    """A user's function that wraps an environment."""

    wrap: Callable[..., gym.Env[Any, Any]]

    def __call__(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return _checked(_name_of(self.wrap), self.wrap(env))


def as_wrappers(wrappers: Iterable[WrapperLike]) -> tuple[list[Wrap], list[Wrap]]:
    """Find wrappers, and return functions that wrap an environment, from the innermost to the outermost wrapper.

    Returns:
        The wrappers before the entry ``"drift"``, which are inside the changes of `NonStationary`, and the
        wrappers after this entry, which are around the changes. Without the entry, all wrappers are around the
        changes.

    Raises:
        ValueError: If an entry has a wrong form, a wrapper cannot be found, an argument is unknown or missing, or
            ``"drift"`` occurs twice.
    """
    items = _items("wrappers", wrappers)
    made: list[Wrap] = []
    num_inside = 0
    for number, item in enumerate(items):
        if isinstance(item, str) and item == DRIFT:
            num_inside = number
            continue
        one, kwargs = _parts(f"wrappers[{number}]", item)
        if kwargs is None and not isinstance(one, str):
            made.append(_Function(one))
            continue
        wrapper = _find(f"wrappers[{number}]", one) if isinstance(one, str) else one
        name = one if isinstance(one, str) else _name_of(one)
        made.append(_Named(name, wrapper, _arguments(name, wrapper, kwargs or {})))
    return made[:num_inside], made[num_inside:]


def check_config(key: str, wrappers: Any) -> None:
    """Check the wrappers of a configuration, without importing a user's module.

    Args:
        key: Name of the list in errors.
        wrappers: A list of names, of dictionaries ``{name: arguments}`` and at most one ``"drift"``.

    Raises:
        ValueError: If the list has a wrong form, if a wrapper of Gymnasium is unknown, or if one of its arguments
            is unknown or missing.
    """
    for number, item in enumerate(_items(key, wrappers)):
        if item == DRIFT:
            continue
        place = f"{key}[{number}]"
        one, kwargs = _parts(place, item) if isinstance(item, (str, Mapping)) else (None, None)
        if not isinstance(one, str):
            raise _wrong_form(place, item)
        if ":" not in one:
            _arguments(one, _find(place, one), kwargs or {})


def _items(key: str, wrappers: Any) -> list[Any]:
    if isinstance(wrappers, (str, Mapping)) or not isinstance(wrappers, Iterable):
        raise ValueError(
            f"{key} must be a list, such as [FlattenObservation, {{TimeLimit: {{max_episode_steps: 100}}}}], got "
            f"{wrappers!r}"
        )
    items = list(wrappers)
    if sum(isinstance(item, str) and item == DRIFT for item in items) > 1:
        raise ValueError(f"{key} must have {DRIFT!r} at most once, got {items!r}")
    return items


def _parts(place: str, item: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Split an entry into the wrapper's name or callable, and its arguments; None if no arguments are given."""
    if isinstance(item, Mapping) and len(item) == 1:
        ((one, kwargs),) = item.items()
        kwargs = {} if kwargs is None else kwargs
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        one, kwargs = item
    else:
        one, kwargs = item, None
    if not (isinstance(one, str) or callable(one)):
        raise _wrong_form(place, item)
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)):
        raise ValueError(f"the arguments of {place} {one!r} must be given by name, got {kwargs!r}")
    return one, kwargs


def _wrong_form(place: str, item: Any) -> ValueError:
    return ValueError(
        f"{place} must be the name of a wrapper of Gymnasium, or an import path module:Class, alone or with "
        f"arguments as {{name: {{argument: value}}}}, got {item!r}"
    )


def _find(place: str, name: str) -> Callable[..., gym.Env[Any, Any]]:
    """Find the wrapper with a name or an import path."""
    if name in _KNOWN:
        return _KNOWN[name]
    if name in _INSTEAD:
        raise ValueError(f"{place} cannot be {name!r}: {_INSTEAD[name]}")
    module, colon, attribute = name.partition(":")
    if not colon:
        close = difflib.get_close_matches(name.rpartition(".")[2], _KNOWN, n=1)
        mend = f"did you mean {close[0]}?" if close else f"the wrappers are {', '.join(sorted(_KNOWN))}."
        raise ValueError(
            f"{place} {name!r} is not a wrapper of Gymnasium; {mend} The import path of any other wrapper has the "
            "form module:Class"
        )
    try:
        found: Callable[..., gym.Env[Any, Any]] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{place} {name!r} cannot be imported: {error}; name a class of a module in the current folder or on "
            "Python's search path, as module:Class"
        ) from error
    if not callable(found):
        raise ValueError(f"{place} {name!r} must name a class or a function, got {found!r}")
    return found


def _arguments(name: str, wrapper: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of a wrapper, and convert lists to tuples or arrays as the annotations require.

    Raises:
        ValueError: If an argument is unknown, or an argument without a default is missing.
    """
    given = list(inspect.signature(wrapper).parameters.values())[1:]  # the first argument is the environment
    takes = {one.name: one for one in given if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    for argument, value in kwargs.items():
        if argument not in takes and all(one.kind is not one.VAR_KEYWORD for one in given):
            close = difflib.get_close_matches(argument, takes, n=1)
            mend = f"did you mean {close[0]}?" if close else f"it takes {', '.join(takes) or 'none'}"
            raise ValueError(f"the wrapper {name} has no argument {argument!r}, got {value!r}; {mend}")
    missing = [one.name for one in takes.values() if one.default is one.empty and one.name not in kwargs]
    if missing:
        raise ValueError(f"the wrapper {name} needs a value for {' and '.join(missing)}, got {dict(kwargs)!r}")
    return {key: _as_annotated(value, takes.get(key)) for key, value in kwargs.items()}


def _as_annotated(value: Any, parameter: inspect.Parameter | None) -> Any:
    """Convert a list from YAML to the tuple or array that the argument requires."""
    annotation = "" if parameter is None else str(parameter.annotation)
    if isinstance(value, list) and "tuple" in annotation:
        return tuple(value)
    return np.asarray(value, dtype=np.float32) if isinstance(value, list) and "ndarray" in annotation else value


def _checked(name: str, wrapped: Any) -> gym.Env[Any, Any]:
    if not isinstance(wrapped, gym.Env):
        raise TypeError(
            f"the wrapper {name} must return a gymnasium.Env, got {wrapped!r}; return the wrapped environment"
        )
    return wrapped


def _name_of(one: Any) -> str:
    return getattr(one, "__qualname__", repr(one))
