"""The half-life of an exponential average: conversions and parsing.

With ``v_t = rho * v_{t-1} + (1 - rho) * g_t**2`` the weight of a past squared gradient has halved after
``h = -ln 2 / ln rho`` updates, so ``rho = 2 ** (-1 / h)``. The functions compute in float64.
"""

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args

Unit = Literal["updates", "steps"]
Self = TypeVar("Self", bound="Duration")

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_SPELLING = re.compile(rf"\s*([-+]?{_DIGITS}(?:\.(?:{_DIGITS})?)?(?:[eE][-+]?[0-9]+)?|inf)\s*([a-z ]*?)\s*")
_UNITS: dict[str, Unit] = {
    "": "updates",
    "update": "updates",
    "updates": "updates",
    "step": "steps",
    "steps": "steps",
    "env step": "steps",
    "env steps": "steps",
}
# For half-lives above 1.3e16, rho is 1 in float64, and the average never changes. This bound is below 1.3e16.
_LONGEST = 1e15
_ALLOWED = 'a number of updates > 0 (69), "69 updates" or "20_000 steps"'

EstimatedHalfLife = Literal["match", "auto"]
"""Estimated half-lives: ``"match"`` uses the environment's timescale and the gradients, ``"auto"`` only the
gradients."""


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python or NumPy. True and False do not count as numbers."""
    # The check for float comes first because it is fast, and optimizers call this function at every step.
    return isinstance(value, (float, Real)) and not isinstance(value, bool)


def check_positive(name: str, value: Any, unset: str) -> None:
    """Check that an argument is None or a number above 0.

    Args:
        name: Name of the argument in the error.
        value: Value of the argument.
        unset: Meaning of None, as a part of the error message.

    Raises:
        ValueError: If the value is neither None nor a number above 0.
    """
    if value is not None and not (is_number(value) and value > 0):
        raise ValueError(f"{name} must be > 0, or None for {unset}, got {value!r}")


def rho_from_half_life(half_life: float, updates: float = 1.0) -> float:
    """The decay factor over ``updates`` updates, ``rho = 2 ** (-updates / half_life)``.

    Args:
        half_life: Number of updates after which a squared gradient's weight has halved, in (0, 1e15].
        updates: Number of updates, >= 0; may be fractional.

    Returns:
        rho in [0, 1].

    Raises:
        ValueError: If ``half_life`` is not in (0, 1e15].

    Examples:
        >>> round(rho_from_half_life(69), 4)
        0.99
    """
    _check_half_life(half_life)
    return float(2.0 ** (-updates / half_life))


def half_life_from_rho(rho: float) -> float:
    """Convert a decay per update to a half-life in updates, ``h = -ln 2 / ln rho``; 0 for ``rho = 0``.

    Args:
        rho: Decay per update in [0, 1).

    Returns:
        Half-life in updates.

    Raises:
        ValueError: If ``rho`` is outside [0, 1).

    Examples:
        >>> round(half_life_from_rho(0.99), 1)
        69.0
    """
    if not 0.0 <= rho < 1.0:
        raise ValueError(f"rho must be in [0, 1), got {rho!r}; 0.99 is a half-life of 69 updates")
    return -math.log(2.0) / math.log(rho) if rho > 0.0 else 0.0


@dataclass(frozen=True)
class Duration:
    """A number of updates or env steps. Subclasses check the number.

    Attributes:
        value: Number of updates or env steps.
        unit: ``"updates"`` (optimizer steps) or ``"steps"`` (env steps: transitions, without reset frames, of all
            sub-environments together).

    Raises:
        ValueError: If the subclass does not allow the value, or the unit is unknown.
    """

    value: float
    unit: Unit = "updates"

    argument: ClassVar[str]
    allowed: ClassVar[str] = _ALLOWED

    def __post_init__(self) -> None:
        self._check()
        if self.unit not in get_args(Unit):
            raise ValueError(f'the unit of {self.argument} must be "updates" or "steps", got {self.unit!r}')

    @classmethod
    def parse(cls: type[Self], spec: "float | str | Duration") -> Self:
        """Read ``69``, ``"69 updates"`` or ``"20_000 steps"``.

        Args:
            spec: A number of updates, a string with a number and its unit (updates by default), or an object of
                this class (returned unchanged).

        Returns:
            The duration.

        Raises:
            ValueError: If the string has another form, or the value is out of its range.
            TypeError: If ``spec`` is neither a number, a string nor an object of this class.
        """
        if isinstance(spec, cls):
            return spec
        if is_number(spec):
            try:
                return cls(float(cast("float", spec)))
            except OverflowError:
                raise ValueError(f"{cls.argument} must be {cls.allowed}, got {spec!r}") from None
        if not isinstance(spec, str):
            raise TypeError(f"{cls.argument} must be {cls.allowed}, got {spec!r}")
        match = _SPELLING.fullmatch(spec)
        unit = _UNITS.get(match[2]) if match else None
        if match is None or unit is None:
            raise ValueError(f"{cls.argument} must be {cls.allowed}, got {spec!r}")
        return cls(float(match[1]), unit)

    def in_updates(self, steps_per_update: float | None = None) -> float:
        """The duration in updates.

        Args:
            steps_per_update: Env steps between two updates; needed for a finite number of env steps.

        Raises:
            ValueError: If ``steps_per_update`` is needed, and is missing or not above 0.
        """
        if self.unit == "updates" or math.isinf(self.value):
            return self.value
        return self.value / self._steps(steps_per_update)

    def in_steps(self, steps_per_update: float | None = None) -> float:
        """The duration in env steps; ``steps_per_update`` is needed for a finite number of updates."""
        if self.unit == "steps" or math.isinf(self.value):
            return self.value
        return self.value * self._steps(steps_per_update)

    def _steps(self, steps_per_update: float | None) -> float:
        if steps_per_update is None or not steps_per_update > 0:
            raise ValueError(
                f"{self.argument} {str(self)!r} needs the number of env steps between two updates, got "
                f"steps_per_update={steps_per_update!r}. Set optimizer.steps_per_update in your training loop, or "
                "in Stable-Baselines3 call learn(callback=rl_rms.sb3.HalfLifeCallback())"
            )
        return steps_per_update

    def _check(self) -> None:
        """Raise a ValueError for a value that the subclass does not allow."""

    def __str__(self) -> str:
        # Twelve digits hide the rounding errors of half-lives that are computed from rho.
        return f"{self.value:.12g} {self.unit}"


@dataclass(frozen=True)
class HalfLife(Duration):
    """A half-life with its unit: the updates or env steps after which a squared gradient's weight has halved.

    Attributes:
        value: Number of units, in (0, 1e15].
        unit: ``"updates"`` or ``"steps"``, see `Duration`.

    Raises:
        ValueError: If the value is not in (0, 1e15], or the unit is unknown.

    Examples:
        >>> HalfLife.parse("20_000 steps").in_updates(steps_per_update=80)
        250.0
    """

    argument = "half_life"

    def _check(self) -> None:
        _check_half_life(self.value)


@dataclass(frozen=True)
class AverageHalfLife(Duration):
    """The half-life of a bias-corrected average: after this time, a value's weight has halved.

    Attributes:
        value: Number of units, > 0; ``inf`` for the average of all values.
        unit: ``"updates"`` or ``"steps"``, see `Duration`.

    Raises:
        ValueError: If the value is not above 0, or the unit is unknown.

    Examples:
        >>> AverageHalfLife.parse("inf").in_steps(80)
        inf
    """

    argument = "half_life"
    allowed = f"{_ALLOWED}, or inf"

    def _check(self) -> None:
        if not (is_number(self.value) and self.value > 0):
            raise ValueError(f"half_life must be {self.allowed}, got {self.value!r}")


@dataclass(frozen=True)
class Timescale(Duration):
    """The autocorrelation time of the environment's changing parameters, with its unit.

    Attributes:
        value: Number of units, > 0; ``inf`` if nothing changes.
        unit: ``"updates"`` or ``"steps"``, see `Duration`.

    Raises:
        ValueError: If the value is not above 0, or the unit is unknown.

    Examples:
        >>> Timescale.parse("20_000 steps").in_updates(steps_per_update=80)
        250.0
        >>> Timescale(math.inf, "steps").in_updates(steps_per_update=80)
        inf
    """

    argument = "timescale"
    allowed = f"{_ALLOWED}, or inf"

    def _check(self) -> None:
        if not (is_number(self.value) and self.value > 0):
            raise ValueError(f"timescale must be > 0, or inf if nothing changes, got {self.value!r}")


def parse_half_life(spec: float | str | HalfLife) -> HalfLife | EstimatedHalfLife:
    """Read a half-life, or the name of an estimated half-life.

    Args:
        spec: A half-life that `HalfLife.parse` reads, ``"match"`` or ``"auto"``.

    Returns:
        The half-life, or ``"match"`` or ``"auto"``.

    Raises:
        ValueError: If the string has another form, or the value is out of its range.
        TypeError: If ``spec`` is neither a number, a string nor a `HalfLife`.
    """
    if isinstance(spec, str) and spec in get_args(EstimatedHalfLife):
        return spec  # type: ignore[return-value]
    try:
        return HalfLife.parse(spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f'{error}; "match" and "auto" are also allowed') from None


def _check_half_life(half_life: float) -> None:
    if not (is_number(half_life) and 0 < half_life <= _LONGEST):
        raise ValueError(f"half_life must be > 0 and at most {_LONGEST:g}, got {half_life!r}; give {_ALLOWED}")
