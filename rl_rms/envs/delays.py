"""Actions that are carried out later than they are given."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

# The longest delay in env steps: how many actions are remembered.
LONGEST = 1000


class Delays:
    """The actions that each environment of a batch was given in its episode.

    At the episode's step ``j`` (from 0) with the delay ``k`` the action of step ``j - k`` is carried out; while
    ``j < k`` it is the idle one: 0, or what of the bounds is nearest to it, in a Box, and the first action of a
    Discrete. A delay that falls drops actions, one that rises repeats them.

    Args:
        space: The space of one action.
        num_envs: Number of environments.
    """

    def __init__(self, space: Box | Discrete, num_envs: int = 1) -> None:
        self._idle = (
            np.asarray(space.start)
            if isinstance(space, Discrete)
            else np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        )
        self._given: list[list[Any]] = [[] for _ in range(num_envs)]

    def clear(self, rows: Iterable[int]) -> None:
        """Forget the actions of environments whose episodes begin."""
        for row in rows:
            self._given[row] = []

    def state_dict(self) -> list[list[Any]]:
        """The actions of each environment, for `rl_rms.envs.encoding.encode`."""
        return [list(given) for given in self._given]

    def load_state_dict(self, state: list[list[Any]]) -> None:
        """Go on from a state of `state_dict`."""
        self._given = [list(given) for given in state]

    def exchange(self, actions: npt.NDArray[Any], delays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take the actions that are given, and return those that are carried out.

        Args:
            actions: Shape ``(num_envs, *action)``.
            delays: In env steps, rounded to whole ones, shape ``(num_envs,)``.
        """
        out = np.empty_like(actions)
        for row, (action, delay) in enumerate(zip(actions, np.rint(delays).astype(int).tolist(), strict=True)):
            given = self._given[row]
            # A copy: the caller may go on writing to the array.
            given.append(action.copy())
            del given[: -LONGEST - 1]
            out[row] = given[-1 - delay] if delay < len(given) else self._idle
        return out
