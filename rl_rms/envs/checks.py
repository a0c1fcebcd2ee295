"""Checks of arguments and returned values. Errors name the argument, the value received and the allowed values."""

import inspect
import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from rl_rms.half_life import is_number

# The sum of two integers below 2**62 fits into NumPy's int64.
_TOO_MANY = 2**62


def number_of(value: Any) -> float:
    """Convert a number, a bool or a member of an enumeration to a float.

    If the values of all members of the enumeration are numbers, a member becomes its value. Otherwise, a member
    becomes its position in the enumeration.
    """
    if not isinstance(value, Enum):
        return float(value)
    members = list(type(value))
    return float(value.value if all(is_number(one.value) for one in members) else members.index(value))


def check_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Check that a value is a finite number in range, and convert it to float.

    Raises:
        ValueError: If the value is not a finite number in range.
    """
    good = is_number(value) and _is_finite(value)
    if not (good and least <= value <= most and above < value < below):
        limits = ((">=", least), (">", above), ("<=", most), ("<", below))
        allowed = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if math.isfinite(limit))
        raise ValueError(f"{name} must be a finite number{allowed and ' ' + allowed}, got {value!r}")
    return float(value)


def check_int(name: str, value: Any, *, least: int, unit: str = "") -> int:
    """Check that a value is a whole number in range, and convert it to int.

    A float such as ``20000.0`` is allowed, because YAML reads ``2.0e4`` as a float.

    Raises:
        ValueError: If the value is not a whole number in range.
    """
    good = is_number(value) and _is_finite(value) and float(value).is_integer()
    if not good or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}{unit and ' ' + unit}, got {value!r}")
    if value >= _TOO_MANY:
        raise ValueError(f"{name} must be below 2**62{unit and ' ' + unit}, got {value!r}")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """Check that a value is a Python or NumPy bool, and convert it to bool.

    Raises:
        ValueError: If the value is not a bool.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def check_one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Check that a value is one of the allowed values.

    Raises:
        ValueError: If the value is not allowed.
    """
    if value not in allowed:
        choices = ", ".join("null" if one is None else str(one) for one in allowed)
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # raised by an int that is too large for a float
        return False


def arguments(one: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function and their defaults; ``inspect.Parameter.empty`` means no default."""
    return {name: parameter.default for name, parameter in inspect.signature(one).parameters.items()}


def check_reset(result: Any) -> tuple[Any, dict[str, Any]]:
    """Return the result of a reset after checking that it is a pair ``(observation, info)``.

    Raises:
        ValueError: If the result is not a pair.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(f"reset() must return (observation, info), got {shown(result)}")
    return result


def check_reward(reward: Any) -> Any:
    """Return a reward after checking that it is one number.

    Raises:
        ValueError: If the reward is not one number.
    """
    if isinstance(reward, (float, int, np.floating, np.integer)) or is_scalar(reward, "iuf"):
        return reward
    raise ValueError(f"reward must be a number, got {shown(reward)}")


def is_scalar(value: Any, kinds: str) -> bool:
    """Whether a value is an array or NumPy number of shape () whose ``dtype.kind`` is in ``kinds``."""
    return getattr(value, "shape", None) == () and np.asarray(value).dtype.kind in kinds


def shown(value: Any) -> str:
    """Describe a value in errors by its type and at most 80 characters of its repr."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def check_keys(name: str, value: Any) -> None:
    """Check that a value is a dictionary whose keys are strings.

    Raises:
        ValueError: If the value is not a dictionary, or a key is not a string.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(
            f"{name} must be a dictionary with strings as keys, got {value!r}; leave {name} out if there are no "
            "entries"
        )
