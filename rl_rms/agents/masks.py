"""Masks of the valid actions: read from an environment, converted and checked."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_rms.agents.spaces import ACTION_MASK, action_mask_size, observed_action_mask
from rl_rms.agents.trees import Tree

Bools = npt.NDArray[np.bool_]


def as_action_masks(masks: Any, space: gym.Space[Any], num_rows: int, name: str) -> Bools:
    """Convert masks of the valid actions to an array of one row per observation.

    Args:
        masks: True where an action is valid; ``num_rows * action_mask_size(space)`` entries in any shape.
        space: Action space of one environment.
        num_rows: Number of observations.
        name: Name of the masks in errors.

    Returns:
        Shape ``(num_rows, action_mask_size(space))``.

    Raises:
        ValueError: If the number of entries is wrong, or actions of the space cannot be masked.
    """
    size = action_mask_size(space)
    array = np.array(masks, dtype=np.bool_)
    if array.size != num_rows * size:
        raise ValueError(
            f"{name} must have shape ({num_rows}, {size}), one row per observation and {size} entries for "
            f"{space}, got shape {array.shape}; pass {size} entries per observation"
        )
    return array.reshape(num_rows, size)


def check_action_masks(masks: Bools, space: gym.Space[Any], name: str, first_row: int = 0) -> None:
    """Raise an error for masks that allow no action, no value of a MultiDiscrete component or no value of a bit.

    Args:
        masks: Shape ``(num_rows, action_mask_size(space))``.
        space: Action space of one environment.
        name: Name of a row in errors, before the row's index, such as ``"the action mask of row"``.
        first_row: Number that errors give to the first row.

    Raises:
        ValueError: If a row allows no action, or no value of a component or bit.
    """
    has_choices = np.logical_or.reduceat(masks, _first_entries(space), axis=1).all(axis=1)
    if has_choices.all():
        return
    row = int(np.argmin(has_choices))
    parts = {spaces.MultiDiscrete: " in every component", spaces.MultiBinary: " for every bit"}
    raise ValueError(
        f"{name} {first_row + row} must allow at least one action{parts.get(type(space), '')} of {space}, got "
        f"{masks[row].astype(int).tolist()}; fix the environment or the function that computes the mask"
    )


def _first_entries(space: gym.Space[Any]) -> list[int]:
    """The index in a mask at which the entries of each component or bit begin."""
    if isinstance(space, spaces.MultiDiscrete):
        return [0, *itertools.accumulate(space.nvec.ravel()[:-1].tolist())]
    return list(range(0, action_mask_size(space), 2)) if isinstance(space, spaces.MultiBinary) else [0]


def initial_action_masks(space: gym.Space[Any], num_envs: int) -> Bools:
    """Masks that allow every action, shape ``(num_envs, action_mask_size(space))``.

    Raises:
        ValueError: If actions of the space cannot be masked.
    """
    return np.ones((num_envs, action_mask_size(space)), dtype=np.bool_)


def read_action_masks(
    masks: Bools,
    observations: Tree,
    infos: list[dict[str, Any]],
    *,
    starts: Bools,
    resetting: Bools,
    space: gym.Space[Any],
    first_index: int = 0,
) -> Bools:
    """The masks of the valid actions after a step, from the observations or from infos.

    A sub-environment without a new mask keeps its mask. All actions count as valid in a sub-environment that
    resets in the next step, because the reset ignores the action.

    Args:
        masks: The masks before the step, shape ``(num_envs, action_mask_size(space))``.
        observations: The observations after the step.
        infos: Infos of the vector step and of the reset after it, in this order.
        starts: True for sub-environments whose observation is their episode's first, shape ``(num_envs,)``.
        resetting: True for sub-environments that reset in the next step, shape ``(num_envs,)``.
        space: Action space of one environment.
        first_index: Number that errors give to the first sub-environment.

    Raises:
        ValueError: If the environment gives no masks when all episodes begin, or a mask has a wrong size or
            allows no action.
    """
    num_envs = len(masks)
    given = [info for info in infos if ACTION_MASK in info]
    masks = masks.copy()
    observed = observed_action_mask(observations)
    if observed is not None:
        masks = as_action_masks(observed, space, num_envs, f"observation[{ACTION_MASK!r}]")
    elif starts.all() and not given:
        raise ValueError(
            f"mask_actions needs a mask, but the environment has neither info[{ACTION_MASK!r}] nor an observation "
            "of that name; leave mask_actions out, or add the mask to the environment"
        )
    else:
        for info in given:
            new_masks = as_action_masks(info[ACTION_MASK], space, num_envs, f"info[{ACTION_MASK!r}]")
            rows = np.asarray(info.get(f"_{ACTION_MASK}", np.ones(num_envs, np.bool_)))
            masks[rows] = new_masks[rows]
    masks[resetting] = True
    check_action_masks(masks, space, "the action mask of sub-environment", first_index)
    return masks
