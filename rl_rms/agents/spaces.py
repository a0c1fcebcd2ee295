"""Observation and action spaces: images, conversion of actions, and spaces as plain data."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv

Array = npt.NDArray[Any]

# The key of the mask of valid actions in a Dict observation and in infos.
ACTION_MASK = "action_mask"


def observed_action_mask(observation: Any) -> Any:
    """The entry ``action_mask`` of a Dict observation; None without this entry.

    The argument ``observe`` of an environment moves a Dict observation into the entry ``observation``, so this
    entry may contain the mask.
    """
    while isinstance(observation, Mapping) and ACTION_MASK not in observation:
        observation = observation.get("observation")
    return observation[ACTION_MASK] if isinstance(observation, Mapping) else None


# A Box of floats from 0 to 1 with more channels or smaller sides is probably a board or a feature table.
_FLOAT_CHANNELS, _FLOAT_SIDE = 4, 7


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space contains images: a Box of uint8 from 0 to 255, or of floats from 0 to 1.

    Images have 3 axes, stacked frames have 4 axes, and uint8 images without channels have 2 axes. Images of floats
    have at most 4 channels and at least 7 by 7 pixels.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) not in {2, 3, 4}:
        return False
    if space.dtype == np.uint8:
        return bool((space.low == 0).all() and (space.high == 255).all())
    is_unit = np.issubdtype(space.dtype, np.floating) and bool((space.low == 0).all() and (space.high == 1).all())
    if not is_unit or len(space.shape) == 2:
        return False
    # With four axes, the first axis counts stacked frames, not channels.
    _, (channels, *sides) = image_layout(space.shape[-3:])
    return channels <= _FLOAT_CHANNELS and min(sides) >= _FLOAT_SIDE


def image_layout(shape: tuple[int, ...]) -> tuple[bool, tuple[int, int, int]]:
    """Return whether an image shape has the channels last, and the channels of all frames, height and width."""
    if len(shape) == 2:
        return False, (1, *shape)
    *frames, a, b, c = shape
    channels_last = a == b or (b != c and a >= c)
    height, width, channels = (a, b, c) if channels_last else (b, c, a)
    return channels_last, (math.prod(frames) * channels, height, width)


def image_scale(space: gym.Space[Any]) -> float:
    """The number by which to divide the values of a space: 255 for images of uint8, 1 for other spaces."""
    return 255.0 if is_image(space) and space.dtype == np.uint8 else 1.0


def action_mask_size(space: gym.Space[Any]) -> int:
    """Number of entries of a mask of the valid actions.

    Args:
        space: Discrete (one entry per action), MultiDiscrete (one entry per action of each component, one
            component after the other) or MultiBinary (two entries per bit: whether it may be 0, whether it may
            be 1).

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
        f"mask_actions needs Discrete, MultiDiscrete or MultiBinary actions, got {space}; leave mask_actions out"
    )


def sorted_items(space: spaces.Dict) -> list[tuple[Any, gym.Space[Any]]]:
    """The parts of a Dict, sorted by key, because equal Dict spaces may have their keys in different orders."""
    return sorted(space.items(), key=lambda item: str(item[0]))


def env_actions(space: gym.Space[Any], *, squash: bool = False) -> Callable[[Array], Array]:
    """A function that converts a batch of the policy's actions to the environment's action space.

    The actions have the shape ``(batch, *action)``. The result is a new array of this shape in the space's dtype.

    Args:
        space: Action space. Discrete and MultiDiscrete add their start; Box clips to its bounds.
        squash: Whether to apply tanh to actions of a Box and scale the results to the bounds of the Box.
    """
    dtype: Any = space.dtype
    if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Discrete) and not space.start):
        return lambda actions: actions.astype(dtype)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        start = space.start
        return lambda actions: (actions + start).astype(dtype, copy=False)
    assert isinstance(space, spaces.Box)
    low, high = space.low, space.high

    def clipped(actions: Array) -> Array:
        return np.clip(actions, low, high).astype(dtype, copy=False)

    def squashed(actions: Array) -> Array:
        least = low.astype(np.float64)
        return clipped(least + 0.5 * (np.tanh(actions) + 1.0) * (high - low))

    return squashed if squash else clipped


def unsupported_space(space: gym.Space[Any], name: str) -> ValueError:
    """The error for a space that agents do not support.

    Args:
        space: The space.
        name: Name of the space in the error, such as ``observation_space['mission']``.
    """
    drop = "leave it out with gymnasium.wrappers.FilterObservation, or " if name.endswith("]") else ""
    wrapper = "TransformAction" if name.startswith("action") else "TransformObservation"
    return ValueError(
        f"{name} must be Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them, got {space}; "
        f"{drop}convert it to a Box with gymnasium.wrappers.{wrapper}"
    )


def space_to_dict(space: gym.Space[Any], name: str = "space") -> dict[str, Any]:
    """Describe a space as plain data and tensors.

    Args:
        space: The space.
        name: Name of the space in errors.

    Raises:
        ValueError: If agents do not support the space or its dtype, or if a Dict's key is neither a string nor an
            integer.
    """
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": space.dtype.str}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": space.dtype.str,
        }
    if isinstance(space, spaces.MultiBinary):
        # MultiBinary(2) and MultiBinary((2,)) differ.
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
    if isinstance(space, spaces.Box):
        if not space.dtype.isnative or space.dtype == np.longdouble:
            raise ValueError(
                f"a Box must have a native dtype that torch supports, got {space.dtype.str!r}; use float32"
            )
        names = ("low", "high", "bounded_below", "bounded_above")
        arrays = {name: torch.from_numpy(np.array(getattr(space, name))) for name in names}
        return {"kind": "Box", "dtype": space.dtype.str, **arrays}
    if isinstance(space, spaces.Dict):
        for key in space:
            if not isinstance(key, (str, int)):
                raise ValueError(f"keys of a Dict space must be strings or integers, got {key!r}; rename this key")
        parts = [[key, space_to_dict(part, f"{name}[{key!r}]")] for key, part in space.items()]
        return {"kind": "Dict", "parts": parts}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [space_to_dict(part, f"{name}[{i}]") for i, part in enumerate(space)]}
    raise unsupported_space(space, name)


def space_from_dict(plain: dict[str, Any]) -> gym.Space[Any]:
    """Rebuild the space that `space_to_dict` described."""
    kind = plain["kind"]
    if kind == "Dict":
        # Gymnasium sorts the keys of a dictionary, but keeps the order of a list of pairs.
        return spaces.Dict([(key, space_from_dict(part)) for key, part in plain["parts"]])
    if kind == "Tuple":
        return spaces.Tuple([space_from_dict(part) for part in plain["parts"]])
    if kind == "MultiBinary":
        return spaces.MultiBinary(plain["n"])
    dtype: Any = np.dtype(plain["dtype"]).type
    if kind == "Discrete":
        return spaces.Discrete(plain["n"], start=plain["start"], dtype=dtype)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(plain["nvec"]), dtype=dtype, start=np.array(plain["start"]))
    space = spaces.Box(plain["low"].numpy(), plain["high"].numpy(), dtype=dtype)
    # The bounds of an unbounded Box of integers are finite, so a Box made from them counts as bounded.
    space.bounded_below, space.bounded_above = plain["bounded_below"].numpy(), plain["bounded_above"].numpy()
    return space


def checked_spaces(
    env: VectorEnv | None,
    observation_space: gym.Space[Any] | None,
    action_space: gym.Space[Any] | None,
    *,
    mask_actions: bool,
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Check and return an agent's observation space and action space.

    Args:
        env: The environment, whose spaces are returned; None returns the given spaces.
        observation_space: Observation space without an environment.
        action_space: Action space without an environment.
        mask_actions: Whether the agent masks actions.

    Raises:
        ValueError: If a space is missing or cannot be saved, or its actions cannot be masked.
    """
    if env is not None:
        observation_space, action_space = env.single_observation_space, env.single_action_space
    if observation_space is None or action_space is None:
        raise ValueError("an agent needs env, or both observation_space and action_space, got env=None")
    space_to_dict(observation_space, "observation_space")
    space_to_dict(action_space, "action_space")
    if mask_actions:
        action_mask_size(action_space)
    return observation_space, action_space
