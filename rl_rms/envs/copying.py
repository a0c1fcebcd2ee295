"""Copies of the values that environments return."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def copied(value: Any) -> Any:
    """Copy arrays, dictionaries, lists and tuples recursively. Objects of other types are not copied.

    Examples:
        >>> first = {"a": np.zeros(2)}
        >>> second = copied(first)
        >>> second["a"] += 1.0
        >>> first
        {'a': array([0., 0.])}
    """
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return value
