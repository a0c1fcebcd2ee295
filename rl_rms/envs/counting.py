"""Returns and lengths of the episodes in progress, for whoever decides by how episodes went."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """An episode that has ended.

    Attributes:
        row: Number of the environment.
        episode_return: Sum of its rewards.
        length: Its env steps.
        success: What the environment says of it, None where it says nothing.
    """

    row: int
    episode_return: float
    length: int
    success: bool | None


class EpisodeCounter:
    """Counts in one or several environments.

    Args:
        num_envs: Number of environments.
    """

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
    ) -> list[Ended]:
        """Add a transition in each environment.

        Args:
            rewards: Shape ``(num_envs,)``.
            valid: False for reset frames, which are no transitions.
            done: Whether the transition was its episode's last.
            successes: What the environments say of the episodes that end.

        Returns:
            The episodes that it ended, in the order of their environments.
        """
        ended = []
        for row, (reward, counts, ends, success) in enumerate(zip(rewards, valid, done, successes, strict=True)):
            if counts:
                self._returns[row] += reward
                self._lengths[row] += 1
                if ends:
                    ended.append(Ended(row, self._returns[row], self._lengths[row], success))
        return ended

    def state_dict(self) -> dict[str, Any]:
        """Returns and lengths so far, as plain JSON data."""
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])


def success_in(info: Mapping[str, Any]) -> bool | None:
    """What an environment says of the episode that ends: ``info["is_success"]`` or ``info["success"]``, if any."""
    for key in ("is_success", "success"):
        if key in info:
            return bool(info[key])
    return None
