"""Returns and lengths of the episodes in progress."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.curricula import Episode

_SUCCESS_KEYS = ("is_success", "success")


class EpisodeCounter:
    """Counts returns and lengths in one or several environments."""

    def __init__(self, num_envs: int = 1) -> None:
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def begin(self, row: int = 0) -> None:
        """Begin an episode in environment ``row``, and discard an episode in progress."""
        self._returns[row], self._lengths[row] = 0.0, 0

    def add(
        self,
        rewards: Iterable[float],
        valid: Iterable[bool],
        done: Iterable[bool],
        successes: Iterable[bool | None],
    ) -> list[Episode]:
        """Add a transition in each environment.

        Args:
            rewards: Rewards, shape ``(num_envs,)``.
            valid: Whether each frame is a transition; False for reset frames.
            done: Whether each transition is the last of its episode.
            successes: Success of each episode that ends, as the environment reports; None if it reports nothing.

        Returns:
            The finished episodes in the order of their environments, without tasks.
        """
        ended = []
        for row, (reward, counts, ends, success) in enumerate(zip(rewards, valid, done, successes, strict=True)):
            if counts:
                self._returns[row] += reward
                self._lengths[row] += 1
                if ends:
                    ended.append(Episode({}, self._returns[row], self._lengths[row], success, row))
        return ended

    def state_dict(self) -> dict[str, Any]:
        """Returns and lengths so far, as plain JSON data."""
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `state_dict`."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])


def success_in(info: Mapping[str, Any]) -> bool | None:
    """The success in ``info["is_success"]`` or ``info["success"]``; None without either."""
    for key in _SUCCESS_KEYS:
        if key in info:
            return bool(info[key])
    return None


def successes_in(infos: Mapping[str, Any], done: npt.NDArray[np.bool_]) -> list[bool | None]:
    """`success_in` for the sub-environments of a vector environment.

    Args:
        infos: Infos of the vector step; with SAME_STEP autoreset, ``final_info`` is used.
        done: Whether each episode ends, shape ``(num_envs,)``.
    """
    infos = infos.get("final_info", infos)
    for key in _SUCCESS_KEYS:
        if key in infos and isinstance(infos[key], np.ndarray):
            mask = infos.get(f"_{key}", done)
            return [bool(one) if is_reported else None for one, is_reported in zip(infos[key], mask, strict=True)]
    return [None] * len(done)
