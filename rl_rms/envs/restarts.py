"""Reads the seeds and the mask of a reset, and checks whether sub-environments can be restarted."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import shown
from rl_rms.envs.parametrized import Parametrized

# Attributes of a Parametrized that a new sub-environment inherits from the failed one.
INHERITED = ("parameter_values", "parameter_noise_key")


def savable(make: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    """Make a sub-environment with a `Parametrized`, which saves the state within an episode."""
    env = make()
    return env if env.has_wrapper_attr("parameter_targets") else Parametrized(env, ())


def check_restartable(env: Any) -> None:
    """Raise an error if a sub-environment cannot be replaced by a new one.

    Raises:
        ValueError: If a sub-environment is a NonStationary, or ``max_concurrency`` is set.
    """
    if any(env.call("has_wrapper_attr", "schedules")):
        raise ValueError(
            "on_env_error='restart' does not work with sub-environments that are a NonStationary, because a "
            'restart would lose their clocks; make them with rl_rms.envs.make_vec(..., sharing="independent")'
        )
    if getattr(env, "max_concurrency", None) is not None:
        raise ValueError(
            "on_env_error='restart' does not work with max_concurrency, because a killed worker keeps its "
            "semaphore; leave one of them out"
        )


def is_set(value: Any) -> bool:
    """Whether the value of an `INHERITED` attribute has been set."""
    return value is not None and None not in value


def seeds_of(seed: Any, num_envs: int) -> list[int | None]:
    """Return the sub-environments' seeds at a reset: consecutive seeds for an int, or the sequence's elements.

    Raises:
        ValueError: If the length of a sequence is wrong.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(num_envs)]
    seeds = [None if one is None else int(one) for one in seed]
    if len(seeds) != num_envs:
        raise ValueError(
            f"seed must be None, an int, or a sequence with one seed for each of {num_envs} sub-environments, got "
            f"{len(seeds)} seeds"
        )
    return seeds


def reset_mask_of(
    options: dict[str, Any] | None, num_envs: int
) -> tuple[npt.NDArray[np.bool_], dict[str, Any] | None]:
    """Return the mask of the sub-environments to reset, and the options without ``reset_mask``.

    Raises:
        ValueError: If ``options["reset_mask"]`` is not a valid mask.
    """
    if options is None or "reset_mask" not in options:
        return np.ones(num_envs, dtype=np.bool_), options
    options = dict(options)
    mask = np.asarray(options.pop("reset_mask"))
    if mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f'options["reset_mask"] must be an array of bool, shape ({num_envs},), with at least one True, got '
            f"{shown(mask)}"
        )
    return mask, options
