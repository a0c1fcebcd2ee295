"""Transforms of rewards, observations and actions between an environment and its agent.

    reward'      = scale * reward + offset + noise * z
    observation' = hide(permute(gain * observation + offset + offsets * vector + noise * z))
    action'      = gain * permute(+-action of `delay` env steps ago) + bias + noise * z, within the bounds

``z`` is standard normal and drawn for each component at each env step. ``vector`` is drawn once for each value of
``observation.offsets_draw``. ``flip >= 0.5`` mirrors an action. For Discrete actions, ``noise`` is the share of
env steps with a random action. Permutations are numbered, and number 0 is the identity.
``mask`` is the share of an observation's components that are set to 0. Observations of uint8 are rounded and
clipped to their bounds. ``observation.image.noise`` changes the part ``image`` of a Dict observation; the name of
a part of a Tuple is its index. Random numbers come from `rl_rms.envs.noise`.

`reward`, `observation` and `action` transform one element with scalars, or a batch with scalars or arrays of shape
``(num_envs,)``.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.delays import LONGEST

Array = npt.NDArray[Any]
Space = gym.Space[Any]

# For each target, the value at which the target has no effect.
NEUTRAL = {
    "reward.scale": 1.0,
    "reward.offset": 0.0,
    "reward.noise": 0.0,
    "observation.gain": 1.0,
    "observation.offset": 0.0,
    "observation.offsets": 0.0,
    "observation.offsets_draw": 0.0,
    "observation.noise": 0.0,
    "observation.permute": 0.0,
    "observation.mask": 0.0,
    "action.delay": 0.0,
    "action.flip": 0.0,
    "action.permute": 0.0,
    "action.gain": 1.0,
    "action.bias": 0.0,
    "action.noise": 0.0,
}
# Targets that need random numbers at each env step, and targets that need random numbers once for each value.
NOISES = ("reward.noise", "observation.noise", "action.noise")
DRAWN = (
    "observation.offsets",
    "observation.offsets_draw",
    "observation.permute",
    "observation.mask",
    "action.permute",
)
# The bounds of the targets that have bounds. For Discrete actions, ``action.noise`` is also at most 1.
BOUNDS = {
    "reward.noise": (0.0, math.inf),
    "observation.offsets": (0.0, math.inf),
    "observation.offsets_draw": (0.0, 2.0**53),
    "observation.noise": (0.0, math.inf),
    "observation.permute": (0.0, 2.0**53),
    "observation.mask": (0.0, 1.0),
    "action.delay": (0.0, float(LONGEST)),
    "action.permute": (0.0, 2.0**53),
    "action.noise": (0.0, math.inf),
}


def transform_of(target: str) -> str | None:
    """Return the target's key in `NEUTRAL`, which omits the part of the observation; None for other targets.

    Examples:
        >>> transform_of("observation.image.noise")
        'observation.noise'
    """
    names = target.split(".")
    kind = f"observation.{names[-1]}" if names[0] == "observation" else target
    return kind if kind in NEUTRAL else None


def keys_of(target: str) -> tuple[str, ...]:
    """Return the keys of the part that an ``observation.*`` target changes; empty for the whole observation."""
    return tuple(target.split(".")[1:-1])


def has_noise(targets: Iterable[str]) -> bool:
    """Whether any target needs random numbers at each env step."""
    return any(transform_of(target) in NOISES for target in targets)


def is_drawn(targets: Iterable[str]) -> bool:
    """Whether any target needs random numbers."""
    return any(transform_of(target) in NOISES + DRAWN for target in targets)


def transform_names(observation_space: Space) -> list[str]:
    """Return the names of all transforms: the keys of `NEUTRAL`, and their forms for parts of observations."""
    parts = list(_leaves(observation_space))
    names = []
    for kind in NEUTRAL:
        group, _, name = kind.partition(".")
        names += [".".join((group, *keys, name)) for keys in parts] if group == "observation" else [kind]
    return names


def _leaves(space: Space) -> Iterator[tuple[str, ...]]:
    """Yield the keys of each part that is neither a Dict nor a Tuple."""
    items = _items(space)
    if items is None:
        yield ()
        return
    for key, part in items:
        yield from ((key, *keys) for keys in _leaves(part))


def _items(space: Space) -> list[tuple[str, Space]] | None:
    if isinstance(space, spaces.Dict):
        return [(str(key), part) for key, part in space.items()]
    return [(str(i), part) for i, part in enumerate(space)] if isinstance(space, spaces.Tuple) else None


def part_space(space: Space, keys: tuple[str, ...]) -> Space | None:
    """Return the space of a part; None if there is no such part."""
    for key in keys:
        part = dict(_items(space) or ()).get(key)
        if part is None:
            return None
        space = part
    return space


def with_part(observation: Any, keys: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    """Change one part of the observation by a function. The other parts are not copied."""
    if not keys:
        return change(observation)
    if isinstance(observation, tuple):
        number = int(keys[0])
        changed = with_part(observation[number], keys[1:], change)
        return (*observation[:number], changed, *observation[number + 1 :])
    key = next(one for one in observation if str(one) == keys[0])
    return {**observation, key: with_part(observation[key], keys[1:], change)}


def misfit(target: str, observation_space: Space, action_space: Space) -> str | None:
    """Describe the property that a target needs and the spaces lack; None if the spaces fit the target."""
    if target.startswith("reward."):
        return None
    space: Space | None = action_space
    if target.startswith("observation."):
        space = part_space(observation_space, keys_of(target))
        if space is None:
            return f"the part {'.'.join(keys_of(target))!r} of the observations, got {observation_space}"
    assert space is not None
    needed, fits = _needed(target, space)
    return None if fits else f"{needed}, got {space}"


def _needed(target: str, space: Space) -> tuple[str, bool]:
    """Describe the property of a space that a target needs, and return whether the space has this property."""
    if target.startswith("observation."):
        is_movable = is_float_box(space) or is_uint8_box(space)
        if transform_of(target) == "observation.permute":
            several = is_movable and components(space) > 1
            return "observations that are a Box of floats or uint8 with more than one component", several
        return "observations, or a part of them, that are a Box of floats or uint8", is_movable
    if target in ("action.gain", "action.bias"):
        return "actions that are a Box of floats", is_float_box(space)
    discrete = isinstance(space, Discrete)
    if target == "action.flip":
        # The negative of an action must be an action.
        symmetric = is_float_box(space) and np.array_equal(space.low, -space.high)  # type: ignore[attr-defined]
        return "actions that are Discrete, or a Box of floats symmetric about 0", discrete or symmetric
    if target == "action.permute":
        needed = (
            "more than one Discrete action, or a Box of floats with more than one component and the same bounds "
            "for each component"
        )
        return needed, _is_permutable(space)
    return "actions that are Discrete, or a Box of floats", discrete or is_float_box(space)


def is_float_box(space: Space) -> bool:
    """Whether a space is a Box of floating-point numbers."""
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


def is_uint8_box(space: Space) -> bool:
    """Whether a space is a Box of uint8, such as images."""
    return isinstance(space, Box) and space.dtype == np.uint8


def components(space: Space) -> int:
    """Return the number of items that a permutation rearranges: components of a Box, or actions of a Discrete."""
    return int(space.n) if isinstance(space, Discrete) else math.prod(space.shape or ())


def moved_space(space: Space, targets: Iterable[str]) -> Space:
    """Return the space of transformed observations, in which each changed Box of floats has no bounds.

    Args:
        space: The space of one observation.
        targets: Names of targets. Targets of parts that wrappers have removed from ``space`` are ignored.
    """
    for target in targets:
        if target.startswith("observation.") and transform_of(target) is not None:
            space = _without_bounds(space, keys_of(target))
    return space


def _without_bounds(space: Space, keys: tuple[str, ...]) -> Space:
    if not keys:
        is_float = is_float_box(space)
        return Box(-np.inf, np.inf, space.shape, space.dtype) if is_float else space  # type: ignore[arg-type]
    if isinstance(space, spaces.Dict):
        parts = {
            key: _without_bounds(part, keys[1:]) if str(key) == keys[0] else part for key, part in space.items()
        }
        return spaces.Dict(list(parts.items()))
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(
            [_without_bounds(part, keys[1:]) if str(i) == keys[0] else part for i, part in enumerate(space)]
        )
    return space


def bounds_of(target: str, action_space: Space) -> tuple[float, float] | None:
    """Return the bounds of a target's values; None if the target has no bounds."""
    if target == "action.noise" and isinstance(action_space, Discrete):
        return 0.0, 1.0
    return BOUNDS.get(transform_of(target) or "")


def check_value(target: str, value: Any, bounds: tuple[float, float]) -> None:
    """Raise an error if a value is outside of a target's bounds.

    Args:
        target: Name of a transform.
        value: Scalar, or shape ``(num_envs,)``.
        bounds: The smallest and the largest value.

    Raises:
        ValueError: If the value is out of bounds.
    """
    low, high = bounds
    values = np.atleast_1d(value)
    wrong = values[~((values >= low) & (values <= high))]
    if wrong.size:
        raise ValueError(
            f"{target} must be in [{low:g}, {high:g}], got {wrong[0]:g}; keep its schedule in this range"
        )


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
    """Mirror actions if ``flip >= 0.5``, then clip ``gain * action + shift`` to the bounds.

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
    """Replace a share of Discrete actions by uniformly random actions.

    Args:
        actions: Actions, shape ``(num_envs,)``.
        space: The space of one action.
        share: Scalar, or shape ``(num_envs,)``.
        uniforms: Random numbers in [0, 1), shape ``(num_envs, 2)``. The first number decides whether to replace
            the action, and the second number selects the new action.
    """
    drawn = space.start + np.floor(uniforms[:, 1] * space.n).astype(actions.dtype)
    return np.where(uniforms[:, 0] < share, drawn, actions)


def _is_permutable(space: Space) -> bool:
    if isinstance(space, Discrete):
        return components(space) > 1
    if not isinstance(space, Box) or not is_float_box(space) or components(space) < 2:
        return False
    # Every component's value must be valid for all other components.
    return all((bound == bound.flat[0]).all() for bound in (space.low, space.high))


def _spread(value: Any, batch: Array) -> Array:
    """Convert a value to the batch's dtype, and reshape it so that it multiplies the batch's rows."""
    spread = np.asarray(value, dtype=batch.dtype)
    return spread.reshape(spread.shape + (1,) * (batch.ndim - spread.ndim)) if spread.ndim else spread
