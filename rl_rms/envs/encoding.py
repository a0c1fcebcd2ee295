"""Bit-exact encoding of numbers, arrays, bytes and containers as plain JSON data."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def encode(value: Any) -> Any:
    """Encode a value for JSON.

    A value is a bool, a real number, an array of bools or real numbers, a string, bytes, None, or a list, tuple or
    dictionary of such values.

    Raises:
        ValueError: If the value has or contains another type.

    Examples:
        >>> encode((np.float32(0.5), [1, None]))
        {'tuple': [{'dtype': '<f4', 'number': 0.5}, [1, None]]}
    """
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return _encode_numbers(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        encoded = [encode(one) for one in value]
        return encoded if isinstance(value, list) else {"tuple": encoded}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(one)] for key, one in value.items()]}
    raise ValueError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def decode(data: Any) -> Any:
    """Decode data that `encode` returned."""
    if isinstance(data, list):
        return [decode(one) for one in data]
    if not isinstance(data, Mapping):
        return data
    if "dtype" in data:
        return _decode_numbers(data)
    if "float" in data or "bytes" in data:
        return float(data["float"]) if "float" in data else base64.b64decode(data["bytes"], validate=True)
    if "tuple" in data:
        return tuple(decode(one) for one in data["tuple"])
    return {decode(key): decode(one) for key, one in data["dict"]}


def _encode_numbers(value: Any) -> dict[str, Any]:
    """Encode an array or a NumPy number."""
    kind = {"dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return {**kind, "number": encode(value.item())}
    return {**kind, "shape": list(value.shape), "base64": base64.b64encode(value.tobytes()).decode()}


def _decode_numbers(data: Mapping[str, Any]) -> Any:
    if np.dtype(data["dtype"]).kind not in "biuf":
        raise ValueError(f"dtype must be a boolean or numeric dtype, got {data['dtype']!r}")
    if "number" in data:
        return np.dtype(data["dtype"]).type(decode(data["number"]))
    content = base64.b64decode(data["base64"], validate=True)
    return np.frombuffer(content, dtype=data["dtype"]).reshape(data["shape"]).copy()
