"""Returns and lengths of the episodes in progress."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.curricula import Episode

SUCCESS_KEYS = ("is_success", "success")
"""The entries of info in which environments report successes; the first existing entry is used."""


class EpisodeCounter:
    """Sums the rewards and counts the steps of the episodes in one or several environments."""

    def __init__(self, num_envs: int = 1) -> None:
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def begin(self, row: int = 0) -> None:
        """Start an episode in environment ``row``, and discard the episode in progress."""
        self._returns[row], self._lengths[row] = 0.0, 0

    def add(
        self,
        rewards: Iterable[float],
        valid: Iterable[bool],
        done: Iterable[bool],
        successes: Iterable[bool | None],
    ) -> list[Episode]:
        """Add the results of one step of each environment.

        Args:
            rewards: Rewards, shape ``(num_envs,)``; non-finite rewards count as 0.
            valid: Whether each step is a transition; False for a step that only starts an episode.
            done: Whether each transition is the last of its episode.
            successes: Whether each environment reports a success; None if the environment reports nothing. Only
                the successes of episodes that end are used.

        Returns:
            The finished episodes in the order of their environments, without tasks.
        """
        ended = []
        for row, (reward, counts, ends, success) in enumerate(zip(rewards, valid, done, successes, strict=True)):
            if counts:
                # An agent may skip faulty rewards, and its log also counts them as 0.
                self._returns[row] += reward if math.isfinite(reward) else 0.0
                self._lengths[row] += 1
                if ends:
                    ended.append(Episode({}, self._returns[row], self._lengths[row], success, row))
        return ended

    def state_dict(self) -> dict[str, Any]:
        """Return the returns and lengths so far, as plain JSON data."""
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])


def success_keys(success_key: str | None) -> tuple[str, ...]:
    """Return the entries of info in which an environment reports successes.

    Raises:
        ValueError: If the key is not a string or is empty.
    """
    if success_key is None:
        return SUCCESS_KEYS
    if not isinstance(success_key, str) or not success_key:
        raise ValueError(
            f"success_key must be the name of an entry of info, got {success_key!r}; None uses "
            f"{' or '.join(SUCCESS_KEYS)}"
        )
    return (success_key,)


def success_in(info: Mapping[str, Any], keys: Sequence[str] = SUCCESS_KEYS) -> bool | None:
    """Return whether an environment reports a success; None if the environment reports nothing."""
    for key in keys:
        if key in info:
            return bool(info[key])
    return None


def successes_in(
    infos: Mapping[str, Any], done: npt.NDArray[np.bool_], keys: Sequence[str] = SUCCESS_KEYS
) -> list[bool | None]:
    """Read the successes that the sub-environments of a vector environment report, see `success_in`.

    Args:
        infos: Infos of the vector step; with SAME_STEP autoreset, ``final_info`` is used.
        done: Whether each episode ends, shape ``(num_envs,)``.
        keys: The entries of info that may hold the successes.
    """
    infos = infos.get("final_info", infos)
    for key in keys:
        if isinstance(infos.get(key), (np.ndarray, list)):
            stated = zip(infos[key], infos.get(f"_{key}", done), strict=True)
            return [bool(one) if is_stated and np.size(one) == 1 else None for one, is_stated in stated]
    return [None] * len(done)
