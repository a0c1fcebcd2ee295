"""Numbers anywhere inside an environment as targets, by paths such as ``"model.opt.gravity[2]"``."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rl_rms.envs.parameters.parameter import fit, is_settable

_STEP = r"[A-Za-z_]\w*(?:\[-?\d+\])*"
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP})*")


@dataclass(frozen=True)
class AttributePath:
    """The path from an environment to a number in it.

    The path is resolved at each use, because some environments replace objects on it at every reset.

    Attributes:
        text: Names of attributes, separated by dots, and indices in brackets.
    """

    text: str

    @cached_property
    def steps(self) -> tuple[str | int, ...]:
        """Names of attributes and indices of elements, in order."""
        found = re.findall(r"([A-Za-z_]\w*)|\[(-?\d+)\]", self.text)
        return tuple(name or int(index) for name, index in found)

    def get(self, env: Any) -> Any:
        """The present value."""
        return _walk(env, self.steps)

    def set(self, env: Any, value: Any) -> None:
        """Set the value, in the type of the present one; see `rl_rms.envs.parameters.parameter.fit`.

        Raises:
            OutOfBoundsError: If the type cannot hold the value.
        """
        *way, last = self.steps
        holder = _walk(env, way)
        _put(holder, last, fit(self.text, type(env).__name__, _walk(holder, (last,)), value))
        # Some libraries, such as Box2D, return copies of their vectors, which must be assigned again.
        if isinstance(last, int) and way and self.get(env) != holder[last]:
            _put(_walk(env, way[:-1]), way[-1], holder)


def find_path(env: Any, text: str) -> AttributePath | None:
    """The path to a number of an environment, or None if it lacks the path's first attribute.

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


def _walk(start: Any, steps: Any) -> Any:
    for step in steps:
        start = start[step] if isinstance(step, int) else getattr(start, step)
    return start


def _put(holder: Any, last: str | int, value: Any) -> None:
    if isinstance(last, int):
        holder[last] = value
    else:
        setattr(holder, last, value)


def _say(step: str | int) -> str:
    return f"[{step}]" if isinstance(step, int) else step
