"""Delays of actions, in env steps."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

# Longest delay in env steps, which limits the number of stored actions.
LONGEST = 1000


class Delays:
    """Delays the actions of each environment in a batch.

    With the delay ``k``, step ``j`` of an episode executes the action of step ``j - k``. Steps count from 0. The
    first ``k`` steps execute the idle action, which is 0 clipped to the bounds of a Box, or the first action of a
    Discrete. If the delay becomes shorter, some actions are skipped. If the delay becomes longer, some actions are
    repeated.
    """

    def __init__(self, space: Box | Discrete, num_envs: int = 1) -> None:
        self._idle = (
            np.asarray(space.start)
            if isinstance(space, Discrete)
            else np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        )
        self._actions: list[list[Any]] = [[] for _ in range(num_envs)]

    def clear(self, rows: Iterable[int]) -> None:
        """Clear the stored actions of environments whose episodes begin."""
        for row in rows:
            self._actions[row] = []

    def state_dict(self) -> list[list[Any]]:
        """Return the stored actions of each environment, for `rl_rms.envs.encoding.encode`."""
        return [list(queue) for queue in self._actions]

    def load_state_dict(self, state: list[list[Any]]) -> None:
        """Restore a state that `state_dict` returned."""
        self._actions = [list(queue) for queue in state]

    def exchange(self, actions: npt.NDArray[Any], delays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Store the new actions, and return the delayed actions.

        Args:
            actions: New actions, shape ``(num_envs, *action)``.
            delays: Delays in env steps, shape ``(num_envs,)``. Fractions are rounded.
        """
        delayed = np.empty_like(actions)
        for row, (action, delay) in enumerate(zip(actions, np.rint(delays).astype(int).tolist(), strict=True)):
            queue = self._actions[row]
            # The caller may overwrite the array of actions later.
            queue.append(action.copy())
            del queue[: -LONGEST - 1]
            delayed[row] = queue[-1 - delay] if delay < len(queue) else self._idle
        return delayed
