"""One parameter of a class of environments: how to read and write the parameter, and its allowed values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from rl_rms.envs.checks import check_one_of, number_of
from rl_rms.half_life import is_number

Effect = Literal["step", "reset", "episode"]


class OutOfBoundsError(ValueError):
    """The error for a value that is not allowed for a parameter."""


class NoEffectError(ValueError):
    """The error for a parameter whose change has no effect.

    Attributes:
        reason: The reason, without the parameter's name.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Parameter:
    """Writes and reads a parameter of an unwrapped environment or of a wrapper.

    Attributes:
        name: The parameter's name. Without ``set`` or ``get``, this name is also the attribute's name.
        set: ``set(env, value)``; None sets the attribute ``name`` and keeps its type.
        get: ``get(env)`` returns the current value; None reads the attribute ``name``.
        derive: ``derive(env)`` recomputes values that depend on the parameter; None for no such values.
        batched: Whether a vector environment supports one value for each sub-environment.
        inert: ``inert(env)`` returns the reason why a change has no effect in this environment, or None if a
            change has an effect.
        low: Smallest allowed value.
        above: Lower bound that values must exceed.
        high: Largest allowed value.
        effect: Time at which a change takes effect: the next ``"step"``, the next ``"reset"``, or the next
            ``"episode"``, in which case the episode in progress is truncated.
        provoke: ``provoke(env)`` moves an environment after its reset to a state in which the parameter has an
            effect, if random actions seldom lead to such a state. rl_rms calls ``provoke`` only on copies.
    """

    name: str
    set: Callable[[Any, Any], None] | None = None
    get: Callable[[Any], Any] | None = None
    derive: Callable[[Any], None] | None = None
    batched: bool = False
    inert: Callable[[Any], str | None] | None = None
    low: float = -math.inf
    above: float = -math.inf
    high: float = math.inf
    effect: Effect = "step"
    provoke: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        if not (self.low <= self.high and self.above < self.high):
            raise ValueError(
                f"the bounds of {self.name!r} must allow at least one value, got low={self.low:g}, "
                f"above={self.above:g}, high={self.high:g}"
            )
        check_one_of(f"effect of {self.name!r}", self.effect, get_args(Effect))

    def setter(self, env: Any) -> Callable[[Any], None]:
        """Return the function that sets the parameter and the values that depend on it.

        Without ``set``, values take the attribute's own type; see `fit`.
        """
        assign: Callable[[Any], None]
        if self.set is not None:
            assign = partial(self.set, env)
        elif type(getattr(env, self.name, 0.0)) is float:
            assign = partial(setattr, env, self.name)
        else:
            assign = partial(_fit_and_assign, env, self.name)
        if self.derive is not None:
            assign = partial(_assign_and_derive, assign, partial(self.derive, env))
        if not self.is_bounded:
            return assign
        return partial(self._check_and_assign, assign, type(env).__name__)

    def read(self, env: Any) -> Any:
        """Return the parameter's current value, in its own type."""
        return getattr(env, self.name) if self.get is None else self.get(env)

    def value(self, env: Any) -> float:
        """Return the parameter's current value as a number; see `rl_rms.envs.checks.number_of`."""
        return number_of(self.read(env))

    def why_inert(self, env: Any) -> str | None:
        """Return the reason why a change has no effect; None if no reason is known."""
        return None if self.inert is None else self.inert(env)

    @property
    def is_bounded(self) -> bool:
        """Whether the parameter has a bound."""
        return max(self.low, self.above) > -math.inf or self.high < math.inf

    def allows(self, value: Any) -> bool:
        """Whether a number, or every element of an array, is within the bounds. NaN is out of bounds."""
        if isinstance(value, np.ndarray):
            return bool(((value >= self.low) & (value > self.above) & (value <= self.high)).all())
        return bool(self.low <= value <= self.high and (value > self.above or self.above == -math.inf))

    @property
    def bounds(self) -> str:
        """The bounds as text for errors."""
        limits = [
            f"{sign} {bound:g}"
            for sign, bound in ((">", self.above), (">=", self.low), ("<=", self.high))
            if math.isfinite(bound)
        ]
        return " and ".join(limits)

    def _check_and_assign(self, assign: Callable[[Any], None], owner: str, value: Any) -> None:
        if not self.allows(value):
            raise OutOfBoundsError(
                f"{self.name!r} of {owner} must be {self.bounds}, got {value}; keep its schedule within this range"
            )
        assign(value)


@dataclass(frozen=True, kw_only=True)
class ParameterOfEach(Parameter):
    """A parameter of all environments in the attribute ``envs`` of a vector environment.

    Attributes:
        single: The parameter of one environment.
    """

    single: Parameter

    def setter(self, env: Any) -> Callable[[Any], None]:
        """Return a function that sets the values of environments whose value has changed since the last call."""
        return _SetterOfEach([self.single.setter(one) for one in env.envs])

    def read(self, env: Any) -> Any:
        """Return the current value in the first environment, in its own type."""
        return self.single.read(env.envs[0])


def of_each(single: Parameter) -> ParameterOfEach:
    """Return the parameter of a vector environment with the bounds of a single environment's parameter."""
    bounds = {name: getattr(single, name) for name in ("low", "above", "high", "effect")}
    return ParameterOfEach(single.name, batched=True, single=single, **bounds)


class _SetterOfEach:
    def __init__(self, setters: list[Callable[[Any], None]]) -> None:
        self._setters = setters
        self._values: list[Any] = [None] * len(setters)

    def __call__(self, value: Any) -> None:
        values = np.broadcast_to(value, len(self._setters)).tolist()
        for assign, old, new in zip(self._setters, self._values, values, strict=True):
            if new != old:
                assign(new)
        self._values = values


def is_settable(value: Any) -> bool:
    """Whether a value is a number, a bool, a member of an enumeration, or an array of shape () with a number."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "biuf"
    return is_number(value) or isinstance(value, (bool, np.bool_, Enum))


def fit(name: str, owner: str, before: Any, value: Any) -> Any:
    """Convert a value to the type of the value that it replaces.

    Args:
        name: Path of the attribute, for errors.
        owner: Class of the environment, for errors.
        before: The current value: a number, a bool, a member of an enumeration or an array.
        value: The new value: a scalar, or shape ``(num_envs,)``.

    Raises:
        OutOfBoundsError: If the type cannot hold the value.
    """
    if isinstance(before, Enum):
        members = {number_of(one): one for one in type(before)}
        number = number_of(value)
        if number not in members:
            allowed = ", ".join(f"{key:g} ({one.name})" for key, one in members.items())
            raise OutOfBoundsError(
                f"{name!r} of {owner} is of type {type(before).__name__} and must be one of {allowed}, got "
                f"{value}; use a schedule of such values"
            )
        return members[number]
    old, new = np.asarray(before), np.asarray(value)
    kind = old.dtype.kind
    if kind not in "biuf":
        return value
    if kind != "f":
        # The end is one more than the largest value, because float64 represents the end exactly.
        low, end = (0, 2) if kind == "b" else (np.iinfo(old.dtype).min, np.iinfo(old.dtype).max + 1)
        wrong = np.atleast_1d(new)[~np.atleast_1d((np.floor(new) == new) & (new >= low) & (new < float(end)))]
        if wrong.size:
            needed = "0 or 1" if kind == "b" else f"a whole number that {old.dtype.name} holds"
            raise OutOfBoundsError(
                f"{name!r} of {owner} is of type {type(before).__name__} and must be {needed}, got {wrong[0]}. "
                f"Use a schedule of such values, or make the attribute a float, such as {float(old.flat[0])!r}, "
                "in the environment's constructor"
            )
    if new.ndim == 0 and not isinstance(before, np.ndarray):
        return type(before)(value)
    return new.astype(old.dtype)


def _fit_and_assign(env: Any, name: str, value: Any) -> None:
    setattr(env, name, fit(name, type(env).__name__, getattr(env, name), value))


def _assign_and_derive(assign: Callable[[Any], None], derive: Callable[[], None], value: Any) -> None:
    assign(value)
    derive()
