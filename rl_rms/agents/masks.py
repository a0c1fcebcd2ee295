"""Masks of the valid actions: their shape, and which of them leave an action."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_rms.agents.spaces import action_mask_size

Bools = npt.NDArray[np.bool_]


def as_action_masks(masks: Any, space: gym.Space[Any], num_rows: int, name: str) -> Bools:
    """Convert masks of the valid actions to an array of one row per observation.

    Args:
        masks: True where an action is valid; ``num_rows * action_mask_size(space)`` entries in any shape.
        space: Action space of one environment.
        num_rows: Number of observations.
        name: What errors call the masks.

    Returns:
        Shape ``(num_rows, action_mask_size(space))``.

    Raises:
        ValueError: If the number of entries differs, or actions of the space cannot be masked.
    """
    size = action_mask_size(space)
    array = np.array(masks, dtype=np.bool_)
    if array.size != num_rows * size:
        raise ValueError(
            f"{name} must have shape ({num_rows}, {size}), one row per observation and {size} entries for "
            f"{space}, got shape {array.shape}; pass one entry per action"
        )
    return array.reshape(num_rows, size)


def check_action_masks(masks: Bools, space: gym.Space[Any], name: str, first_row: int = 0) -> None:
    """Refuse masks that leave an action, a component or a bit without a valid choice.

    Args:
        masks: Shape ``(num_rows, action_mask_size(space))``.
        space: Action space of one environment.
        name: What errors call a row, such as ``"the action mask of row"``.
        first_row: Number of the first row in errors.

    Raises:
        ValueError: If there is such a row.
    """
    has_choices = np.logical_or.reduceat(masks, _first_entries(space), axis=1).all(axis=1)
    if has_choices.all():
        return
    row = int(np.argmin(has_choices))
    parts = {spaces.MultiDiscrete: " in every component", spaces.MultiBinary: " for every bit"}
    raise ValueError(
        f"{name} {first_row + row} must allow at least one action{parts.get(type(space), '')} of {space}, got "
        f"{masks[row].astype(int).tolist()}; mend the environment or the function that computes the mask"
    )


def _first_entries(space: gym.Space[Any]) -> list[int]:
    """The first entry of each choice in a mask: one choice per action, component or bit."""
    if isinstance(space, spaces.MultiDiscrete):
        return [0, *itertools.accumulate(space.nvec.ravel()[:-1].tolist())]
    return list(range(0, action_mask_size(space), 2)) if isinstance(space, spaces.MultiBinary) else [0]
