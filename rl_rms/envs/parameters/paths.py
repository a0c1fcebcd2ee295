"""Targets that are attributes anywhere inside an environment, named by paths such as ``"model.opt.gravity[2]"``.

A name is an attribute of an object, or a key of a dictionary. An index in brackets selects an element.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from rl_rms.envs.parameters.parameter import fit, is_settable

_STEP = r"[A-Za-z_]\w*(?:\[-?\d+\])*"
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP})*")
# Objects of these types contain no parameters of an environment's dynamics.
_OPAQUE = (gym.Space, np.random.Generator, type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
# Attributes of Gymnasium's base class, which `number_paths` does not list.
_BASE = frozenset({*vars(gym.Env), "spec", "metadata", "render_mode"})
# `number_paths` lists the numbers in objects that are at most this many attributes, keys or list indices away from
# the environment.
_DEPTH = 4
# Maximum number of elements that `number_paths` lists one by one.
_SHORT = 10


@dataclass(frozen=True)
class AttributePath:
    """The path from an environment to a number in the environment.

    The path is resolved at each use, because some environments replace objects on the path at every reset.

    Attributes:
        text: Names of attributes and keys, separated by dots, and indices in brackets.
    """

    text: str

    @cached_property
    def steps(self) -> tuple[str | int, ...]:
        """Names of attributes and keys, and indices of elements, in order."""
        found = re.findall(r"([A-Za-z_]\w*)|\[(-?\d+)\]", self.text)
        return tuple(name or int(index) for name, index in found)

    def get(self, env: Any) -> Any:
        """Return the current value."""
        return _walk(env, self.steps)

    def set(self, env: Any, value: Any) -> None:
        """Set the value, converted to the type of the current value; see `rl_rms.envs.parameters.parameter.fit`.

        Raises:
            OutOfBoundsError: If the type cannot hold the value.
        """
        *way, last = self.steps
        holder = env
        for step in way:
            holder = _own(holder, step)
        _put(holder, last, fit(self.text, type(env).__name__, _walk(holder, (last,)), value))
        # Some libraries, such as Box2D, return a copy of a vector. The changed copy must then be assigned.
        if isinstance(last, int) and way and self.get(env) != holder[last]:
            _put(_walk(env, way[:-1]), way[-1], holder)


def find_path(env: Any, text: str) -> AttributePath | None:
    """Return the path to a number in an environment.

    The result is None if the text is not a path, if the environment lacks the path's first attribute, or if the
    path is one attribute that is not a number.

    Raises:
        ValueError: If the path does not lead to a number, or the number is read-only.
    """
    if not _PATH.fullmatch(text):
        return None
    path = AttributePath(text)
    owner = type(env).__name__
    here, so_far = env, ""
    for number, step in enumerate(path.steps):
        try:
            there = _walk(here, (step,))
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            if number == 0:
                return None
            none_yet = "; some environments create it at the first reset" if here is None else ""
            raise ValueError(
                f"{owner} has no {text!r} to change: {so_far!r} is a {type(here).__name__} without "
                f"{_say(step)!r}{none_yet}"
            ) from error
        here, so_far = there, so_far + _say(step) if isinstance(step, int) else f"{so_far}.{step}".lstrip(".")
    if not is_settable(here):
        if len(path.steps) == 1:
            return None
        inside = f"; pass the path to an element, such as '{text}[0]'" if hasattr(here, "__getitem__") else ""
        raise ValueError(
            f"{text!r} of {owner} must be a number to be changed, got a {type(here).__name__}{inside}"
        )
    try:
        path.set(env, here)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{text!r} of {owner} is read-only; register a function that sets it with "
            "register_parameter(..., set=...)"
        ) from error
    return path


def number_paths(env: Any) -> Iterator[tuple[str, int]]:
    """Yield paths to numbers in an environment's public attributes, and how many elements each path represents.

    If an array or list has more than 10 elements, the path to its first element represents all elements. Any other
    path represents one element.
    """
    yield from _numbers(env, "", {id(env.env): env.env} if isinstance(env, gym.Wrapper) else {}, 0, 1)
    own = vars(env)
    for one in type(env).__mro__:
        for name, value in vars(one).items():
            if not name.startswith("_") and name not in own and name not in _BASE and is_settable(value):
                yield name, 1


def _numbers(value: Any, path: str, seen: dict[int, Any], depth: int, count: int) -> Iterator[tuple[str, int]]:
    if is_settable(value):
        yield path, count
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            listed, count = _listed(value.size, count)
            for indices in islice(np.ndindex(value.shape), listed):
                yield path + "".join(f"[{one}]" for one in indices), count
    elif not isinstance(value, _OPAQUE) and id(value) not in seen and depth <= _DEPTH:
        seen[id(value)] = value
        parts = _named_parts(value)
        if isinstance(value, list):
            listed, count = _listed(len(value), count)
            parts = ((f"[{index}]", one) for index, one in enumerate(value[:listed]))
        for step, one in parts:
            yield from _numbers(one, f"{path}{step}".lstrip("."), seen, depth + 1, count)


def _listed(size: int, count: int) -> tuple[int, int]:
    """How many of ``size`` elements are listed, and how many elements each listed element represents."""
    return (size, count) if size <= _SHORT else (1, size)


def _named_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public attributes of an object, or the entries of a mapping, such as ``(".opt", value)``."""
    for name, one in (value if isinstance(value, Mapping) else getattr(value, "__dict__", {})).items():
        if isinstance(name, str) and name.isidentifier() and not name.startswith("_") and name not in _BASE:
            yield f".{name}", one


def _walk(start: Any, steps: Any) -> Any:
    for step in steps:
        start = start[step] if _is_item(start, step) else getattr(start, step)
    return start


def _own(holder: Any, step: str | int) -> Any:
    """Return what follows in the path. A list, dictionary or array of the class becomes the holder's own copy."""
    there = _walk(holder, (step,))
    if isinstance(there, (list, dict, np.ndarray)) and getattr(type(holder), str(step), None) is there:
        there = copy.deepcopy(there)
        setattr(holder, str(step), there)
    return there


def _is_item(holder: Any, step: str | int) -> bool:
    return isinstance(step, int) or (isinstance(holder, Mapping) and step in holder)


def _put(holder: Any, last: Any, value: Any) -> None:
    if _is_item(holder, last):
        holder[last] = value
    else:
        setattr(holder, last, value)


def _say(step: str | int) -> str:
    return f"[{step}]" if isinstance(step, int) else step
