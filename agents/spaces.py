"""Observation and action spaces: what is a picture, actions as the environment takes them, spaces as data."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

Array = npt.NDArray[Any]

# The key of a Dict observation that says which actions may be played.
ACTION_MASK = "action_mask"


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space is of pictures: uint8 from 0 to 255, of 3 axes, or of 4 where frames are stacked."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) in {3, 4}
        and bool((space.low == 0).all() and (space.high == 255).all())
    )


def action_mask_size(space: gym.Space[Any]) -> int:
    """How many entries a mask of the valid actions has.

    Args:
        space: Discrete (one entry per action), MultiDiscrete (one per action of each component, one component
            after the other) or MultiBinary (two per bit: whether it may be 0, whether it may be 1).

    Raises:
        ValueError: If actions of the space cannot be masked.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return 2 * math.prod(space.shape)
    raise ValueError(
        f"mask_actions needs Discrete, MultiDiscrete or MultiBinary actions, got {space}; leave it out"
    )


def to_env(actions: Array, space: gym.Space[Any], *, squash: bool = False) -> Array:
    """A batch of the policy's actions as the environment takes them.

    Args:
        actions: Shape ``(batch, *action)``.
        space: Discrete and MultiDiscrete get their start added, MultiBinary its dtype; Box is clipped to its
            bounds, or scaled to them where ``squash`` says that tanh is to be applied first.
        squash: Whether the policy's actions are from before a tanh.
    """
    if isinstance(space, spaces.Discrete):
        return actions + space.start if space.start else actions
    if isinstance(space, spaces.MultiDiscrete):
        return (actions + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return actions.astype(space.dtype)
    assert isinstance(space, spaces.Box)
    if squash:
        low = space.low.astype(np.float64)
        actions = low + 0.5 * (np.tanh(actions) + 1.0) * (space.high - low)
    clipped: Array = np.clip(actions, space.low, space.high)
    return clipped.astype(space.dtype, copy=False)


def space_to_dict(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as plain data.

    Raises:
        ValueError: If it is of a kind that no agent takes.
    """
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": space.dtype.str,
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        return {
            "kind": "Box",
            "low": torch.from_numpy(np.array(space.low)),
            "high": torch.from_numpy(np.array(space.high)),
            "dtype": space.dtype.str,
        }
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": {key: space_to_dict(part) for key, part in space.items()}}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [space_to_dict(part) for part in space]}
    raise ValueError(f"spaces must be Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple, got {space}")


def space_from_dict(plain: dict[str, Any]) -> gym.Space[Any]:
    """The space that `space_to_dict` made plain."""
    kind = plain["kind"]
    if kind == "Discrete":
        return spaces.Discrete(plain["n"], start=plain["start"])
    if kind == "MultiDiscrete":
        dtype: Any = np.dtype(plain["dtype"]).type
        return spaces.MultiDiscrete(np.array(plain["nvec"]), dtype=dtype, start=np.array(plain["start"]))
    if kind == "MultiBinary":
        return spaces.MultiBinary(plain["shape"])
    if kind == "Dict":
        return spaces.Dict({key: space_from_dict(part) for key, part in plain["parts"].items()})
    if kind == "Tuple":
        return spaces.Tuple([space_from_dict(part) for part in plain["parts"]])
    return spaces.Box(plain["low"].numpy(), plain["high"].numpy(), dtype=np.dtype(plain["dtype"]).type)
