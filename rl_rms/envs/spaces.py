"""Spaces of observations and actions: Boxes of floats or uint8, and the parts of Dict and Tuple spaces."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete

Space = gym.Space[Any]


def is_float_box(space: Space) -> bool:
    """Whether a space is a Box of floating-point numbers."""
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


def is_uint8_box(space: Space) -> bool:
    """Whether a space is a Box of uint8, such as images."""
    return isinstance(space, Box) and space.dtype == np.uint8


def components(space: Space) -> int:
    """Return the number of items that a permutation rearranges: components of a Box, or actions of a Discrete."""
    return int(space.n) if isinstance(space, Discrete) else math.prod(space.shape or ())


def leaves(space: Space) -> Iterator[tuple[str, ...]]:
    """Yield the keys of each part that is neither a Dict nor a Tuple."""
    items = _items(space)
    if items is None:
        yield ()
        return
    for key, part in items:
        yield from ((key, *keys) for keys in leaves(part))


def part_space(space: Space, keys: tuple[str, ...]) -> Space | None:
    """Return the space of a part; None if there is no such part."""
    for key in keys:
        part = dict(_items(space) or ()).get(key)
        if part is None:
            return None
        space = part
    return space


def with_part(observation: Any, keys: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    """Return the observation with one part changed by a function. The other parts are not copied."""
    if not keys:
        return change(observation)
    if isinstance(observation, tuple):
        number = int(keys[0])
        changed = with_part(observation[number], keys[1:], change)
        return (*observation[:number], changed, *observation[number + 1 :])
    key = next(one for one in observation if str(one) == keys[0])
    return {**observation, key: with_part(observation[key], keys[1:], change)}


def without_bounds(space: Space, keys: tuple[str, ...]) -> Space:
    """Return the space, in which the part with the given keys has no bounds if it is a Box of floats."""
    if not keys:
        is_float = is_float_box(space)
        return Box(-np.inf, np.inf, space.shape, space.dtype) if is_float else space  # type: ignore[arg-type]
    if isinstance(space, spaces.Dict):
        parts = {
            key: without_bounds(part, keys[1:]) if str(key) == keys[0] else part for key, part in space.items()
        }
        return spaces.Dict(list(parts.items()))
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(
            [without_bounds(part, keys[1:]) if str(i) == keys[0] else part for i, part in enumerate(space)]
        )
    return space


def _items(space: Space) -> list[tuple[str, Space]] | None:
    if isinstance(space, spaces.Dict):
        return [(str(key), part) for key, part in space.items()]
    return [(str(i), part) for i, part in enumerate(space)] if isinstance(space, spaces.Tuple) else None
