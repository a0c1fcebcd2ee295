"""Checks of parameters, directions and second moments that a federation receives or loads."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.envs.checks import shown
from rl_rms.optim.rule import State, rmsprop_init

# Squares of larger values can overflow float32.
_LARGEST_DIRECTION = 1e18


def check_direction(direction: Any, params: Mapping[str, Tensor]) -> None:
    """Check the direction of a client's report.

    Args:
        direction: The direction by parameter name.
        params: The server's parameters by name.

    Raises:
        ValueError: If a name, shape, dtype, layout or device differs, or a value is not finite or too large.
    """
    if not isinstance(direction, Mapping) or direction.keys() != params.keys():
        raise ValueError(f"direction must hold the {len(params)} parameters of the policy and no others")
    for name, param in params.items():
        value = direction[name]
        if not isinstance(value, Tensor) or _kind(value) != _kind(param):
            got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
            raise ValueError(
                f"direction of {name} must be a dense tensor on {param.device}, {param.dtype} of shape "
                f"{tuple(param.shape)}, got {got}"
            )
        if not bool((value.abs() <= _LARGEST_DIRECTION).all()):  # false for nan
            raise ValueError(
                f"direction of {name} must be finite, with magnitudes of at most {_LARGEST_DIRECTION:g}"
            )


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.layout, tensor.device


def check_names(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check names, shapes and values of parameters.

    Args:
        given: The parameters by name.
        own: The policy's own parameters by name.

    Raises:
        ValueError: If a name or a shape differs, or a value is not a finite floating point number.
    """
    if (
        not isinstance(given, Mapping)
        or given.keys() != own.keys()
        or not all(isinstance(param, Tensor) for param in given.values())
        or any(given[name].shape != own[name].shape for name in own)
    ):
        raise ValueError("the parameters belong to another policy; give server and clients the same configuration")
    for name, param in given.items():
        if not param.is_floating_point() or not bool(param.isfinite().all()):
            raise ValueError(
                f"the parameter {name} must hold finite floating point values; give another checkpoint"
            )


def checked_state(given: Any, own: Mapping[str, Tensor]) -> dict[str, State]:
    """Check loaded second moments, and return them by parameter name.

    Args:
        given: The loaded second moments; empty before the first round.
        own: The policy's own parameters by name.

    Raises:
        ValueError: If names, shapes or values are wrong.
    """
    expected = rmsprop_init(dict(own)) if given else {}
    if not isinstance(given, Mapping) or given.keys() != expected.keys():
        raise ValueError("the second moments belong to another policy; give another checkpoint")
    for name, parts in expected.items():
        for part, initial in parts.items():
            shape = torch.as_tensor(initial).shape
            value = given[name].get(part) if isinstance(given[name], Mapping) else None
            is_number = isinstance(value, (Tensor, int, float))
            tensor = torch.as_tensor(value, dtype=torch.float64) if is_number else torch.tensor(math.nan)
            if tensor.shape != shape or not bool((tensor.isfinite() & (tensor >= 0)).all()):
                raise ValueError(
                    f"{part} of {name} must be finite, >= 0 and of shape {tuple(shape)}; give another checkpoint"
                )
    return {name: dict(given[name]) for name in expected}
