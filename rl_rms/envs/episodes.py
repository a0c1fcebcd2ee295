"""Returns and lengths of the episodes in progress."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.curricula import Episode

_SUCCESS_KEYS = ("is_success", "success")


class EpisodeCounter:
    """Counts in one or several environments."""

    def __init__(self, num_envs: int = 1) -> None:
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def begin(self, row: int = 0) -> None:
        """Begin an episode in the environment number ``row``; one in progress is forgotten."""
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
            rewards: Shape ``(num_envs,)``.
            valid: False for reset frames, which are no transitions.
            done: Whether the transition was its episode's last.
            successes: The environments' own word on the episodes that end.

        Returns:
            The episodes that ended, in the order of their environments, without tasks.
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
        """Go on from a state of `state_dict`."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])


def success_in(info: Mapping[str, Any]) -> bool | None:
    """The success that an environment reports, ``info["is_success"]`` or ``info["success"]``; None for neither."""
    for key in _SUCCESS_KEYS:
        if key in info:
            return bool(info[key])
    return None


def successes_in(infos: Mapping[str, Any], done: npt.NDArray[np.bool_]) -> list[bool | None]:
    """`success_in` for the sub-environments of a vector environment.

    Args:
        infos: Their infos; with SAME_STEP autoreset the last ones are in ``final_info``.
        done: Where an episode ends, shape ``(num_envs,)``.
    """
    infos = infos.get("final_info", infos)
    for key in _SUCCESS_KEYS:
        if key in infos and isinstance(infos[key], np.ndarray):
            told = infos.get(f"_{key}", done)
            return [bool(one) if says else None for one, says in zip(infos[key], told, strict=True)]
    return [None] * len(done)
