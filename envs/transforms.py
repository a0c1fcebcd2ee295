"""What a world can do to rewards, observations and actions on their way, whatever the environment inside.

    reward'      = scale * reward + offset
    observation' = gain * observation + offset
    action'      = gain * action, within the bounds of the action space; mirrored first where flip >= 0.5

Each function takes single ones with single values, and batches with one value for all or one for each.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

Array = npt.NDArray[Any]
Space = gym.Space[Any]

# The targets, and the values at which each leaves everything as it is.
NEUTRAL = {
    "reward.scale": 1.0,
    "reward.offset": 0.0,
    "observation.gain": 1.0,
    "observation.offset": 0.0,
    "action.flip": 0.0,
    "action.gain": 1.0,
}


def misfit(target: str, observation_space: Space, action_space: Space) -> str | None:
    """What a target needs of an environment's (single) spaces and does not find, or None where it fits."""
    if target.startswith("observation.") and not is_float_box(observation_space):
        return f"observations that are a Box of floats, got {observation_space}"
    if target == "action.gain" and not is_float_box(action_space):
        return f"actions that are a Box of floats, got {action_space}"
    if target == "action.flip" and not isinstance(action_space, Discrete):
        # The negative of an action must be an action.
        symmetric = is_float_box(action_space) and np.array_equal(action_space.low, -action_space.high)  # type: ignore[attr-defined]
        if not symmetric:
            return f"actions that are Discrete, or a Box of floats symmetric about 0, got {action_space}"
    return None


def is_float_box(space: Space) -> bool:
    """Whether a space is a Box of floating-point numbers."""
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


def unbounded(space: Space) -> Box:
    """A Box of the same shape and precision without bounds: where moved observations lie."""
    return Box(-np.inf, np.inf, space.shape, space.dtype)  # type: ignore[arg-type]


def reward(reward: Any, scale: Any, offset: Any) -> Any:
    """``scale * reward + offset``.

    Args:
        reward: One reward, or a batch, shape ``(num_envs,)``.
        scale: One number, or one each, shape ``(num_envs,)``.
        offset: Likewise.
    """
    return scale * reward + offset


def observation(observation: Array, gain: Any, offset: Any) -> Array:
    """``gain * observation + offset`` for every component, in the observation's own precision.

    Args:
        observation: One observation, or a batch, shape ``(num_envs, *observation)``.
        gain: One number, or one each, shape ``(num_envs,)``.
        offset: Likewise.
    """
    moved: Array = _spread(gain, observation) * observation + _spread(offset, observation)
    return moved


def action(action: Any, space: Space, flip: Any, gain: Any) -> Any:
    """Mirrored where ``flip >= 0.5``, then ``gain * action`` clipped to the bounds, as an actuator saturates.

    Mirrored, action ``a`` of ``Discrete(n)`` is ``n - 1 - a`` and that of a Box is ``-a``.

    Args:
        action: One action, or a batch, shape ``(num_envs, *action)``.
        space: The space of one action.
        flip: One number, or one each, shape ``(num_envs,)``.
        gain: Likewise; not for Discrete.
    """
    if isinstance(space, Discrete):
        mirrored = 2 * space.start + space.n - 1 - action
        if np.ndim(flip) == 0:
            return mirrored if flip >= 0.5 else action
        return np.where(np.asarray(flip) >= 0.5, mirrored, action)
    assert isinstance(space, Box)
    action = np.asarray(action, dtype=space.dtype)
    sign = np.where(np.asarray(flip) >= 0.5, -1.0, 1.0)
    return np.clip(_spread(sign * gain, action) * action, space.low, space.high)


def _spread(value: Any, batch: Array) -> Array:
    """One number, or one for each row of a batch, in the batch's precision and shaped to multiply it."""
    spread = np.asarray(value, dtype=batch.dtype)
    return spread.reshape(spread.shape + (1,) * (batch.ndim - 1)) if spread.ndim else spread
