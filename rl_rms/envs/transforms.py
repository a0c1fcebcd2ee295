"""Transforms of rewards, observations and actions between an environment and its agent.

    reward'      = scale * reward + offset + noise * z
    observation' = hide(permute(gain * observation + offset + offsets * vector + noise * z))
    action'      = gain * permute(+-action of `delay` env steps ago) + bias + noise * z, within the bounds

``z`` is standard normal and drawn for each component at each env step. ``vector`` is also standard normal, but
drawn once for each value of ``observation.offsets_draw``. ``flip >= 0.5`` mirrors an action. For Discrete actions,
``noise`` is the probability of a random action. Permutations are numbered, and number 0 is the identity. ``mask``
is the share of an observation's components that are set to 0. Observations of uint8 are rounded and clipped to
their bounds. ``observation.image.noise`` changes the part ``image`` of a Dict observation; the name of a part of a
Tuple is its index. Random numbers come from `rl_rms.envs.noise`.

The functions `reward`, `observation` and `action` transform one reward, observation or action with scalars, or a
batch with scalars or arrays of shape ``(num_envs,)``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.spaces import Space

Array = npt.NDArray[Any]


def reward(reward: Any, scale: Any, offset: Any, noise: Any = 0.0) -> Any:
    """Return ``scale * reward + offset + noise``.

    Args:
        reward: One reward, or a batch, shape ``(num_envs,)``.
        scale: Scalar, or shape ``(num_envs,)``.
        offset: Scalar, or shape ``(num_envs,)``.
        noise: Scalar, or shape ``(num_envs,)``.
    """
    return scale * reward + offset + noise


def observation(observation: Array, gain: Any, offset: Any) -> Array:
    """Return ``gain * observation + offset`` for every component, in the observation's dtype.

    Args:
        observation: One observation, or a batch, shape ``(num_envs, *observation)``.
        gain: Scalar, or shape ``(num_envs,)``.
        offset: Scalar, or shape ``(num_envs,)``.
    """
    # NumPy turns arrays of shape () into scalars.
    return np.asarray(_spread(gain, observation) * observation + _spread(offset, observation))


def to_uint8(observation: Array, space: Box) -> Array:
    """Round and clip transformed observations to a Box of uint8."""
    return np.clip(np.rint(observation), space.low, space.high).astype(np.uint8)


def permute(batch: Array, orders: Array) -> Array:
    """Permute the components of each element: component ``i`` becomes the old component ``orders[i]``.

    Args:
        batch: Elements, shape ``(num_envs, *element)``.
        orders: Permutations, shape ``(1 or num_envs, components)``.
    """
    flat = batch.reshape(len(batch), -1)
    return np.take_along_axis(flat, np.broadcast_to(orders, flat.shape), axis=1).reshape(batch.shape)


def hide(batch: Array, ranks: Array, share: Any) -> Array:
    """Set the ``round(share * components)`` components of lowest rank to 0.

    Args:
        batch: Elements, shape ``(num_envs, *element)``.
        ranks: Rank of each component, shape ``(1 or num_envs, components)``.
        share: Scalar, or shape ``(num_envs,)``.
    """
    flat = batch.reshape(len(batch), -1)
    hidden = ranks < np.rint(np.atleast_1d(share) * flat.shape[1])[:, None]
    return np.where(hidden, flat.dtype.type(0), flat).reshape(batch.shape)


def action(action: Any, space: Space, flip: Any, gain: Any, shift: Any = 0.0) -> Any:
    """Mirror actions if ``flip >= 0.5``. For a Box, also clip ``gain * action + shift`` to the bounds.

    Mirroring turns an action ``a`` of ``Discrete(n)`` into ``n - 1 - a``, and an action ``a`` of a Box into
    ``-a``.

    Args:
        action: One action, or a batch, shape ``(num_envs, *action)``.
        space: The space of one action.
        flip: Scalar, or shape ``(num_envs,)``.
        gain: Scalar, or shape ``(num_envs,)``; unused for Discrete.
        shift: Sum of bias and noise: scalar, shape ``(num_envs,)``, or one for each component; unused for
            Discrete.
    """
    if isinstance(space, Discrete):
        mirrored = 2 * space.start + space.n - 1 - action
        if np.ndim(flip) == 0:
            return mirrored if flip >= 0.5 else action
        return np.where(np.asarray(flip) >= 0.5, mirrored, action)
    assert isinstance(space, Box)
    action = np.asarray(action, dtype=space.dtype)
    sign = np.where(np.asarray(flip) >= 0.5, -1.0, 1.0)
    moved = np.clip(_spread(sign * gain, action) * action + _spread(shift, action), space.low, space.high)
    return np.asarray(moved)


def relabel(actions: Array, space: Discrete, orders: Array) -> Array:
    """Permute Discrete actions: ``a`` becomes ``orders[a]``.

    Args:
        actions: Actions, shape ``(num_envs,)``.
        space: The space of one action.
        orders: Permutations, shape ``(1 or num_envs, n)``.
    """
    rows = np.arange(len(actions)) if len(orders) > 1 else 0
    return np.asarray(space.start + orders[rows, actions - space.start])


def replace(actions: Array, space: Discrete, share: Any, uniforms: Array) -> Array:
    """Replace Discrete actions by uniformly random actions with a given probability.

    Args:
        actions: Actions, shape ``(num_envs,)``.
        space: The space of one action.
        share: The probability: scalar, or shape ``(num_envs,)``.
        uniforms: Random numbers in [0, 1), shape ``(num_envs, 2)``. The first number decides whether to replace
            the action, and the second number selects the new action.
    """
    drawn = space.start + np.floor(uniforms[:, 1] * space.n).astype(actions.dtype)
    return np.where(uniforms[:, 0] < share, drawn, actions)


def column(value: Any) -> Array:
    """Reshape a value for broadcasting over rows: ``(1, 1)`` for a scalar, else ``(num_envs, 1)``."""
    return np.atleast_1d(value)[:, None]


def _spread(value: Any, batch: Array) -> Array:
    """Convert a value to the batch's dtype, and reshape it for broadcasting over the batch's rows."""
    spread = np.asarray(value, dtype=batch.dtype)
    return spread.reshape(spread.shape + (1,) * (batch.ndim - spread.ndim)) if spread.ndim else spread
