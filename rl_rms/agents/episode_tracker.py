"""Returns and lengths of the episodes in progress in a vector environment."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from rl_rms.agents.env_state import find_changing
from rl_rms.agents.rollout import Episode
from rl_rms.envs.episodes import SUCCESS_KEYS, successes_in

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class EpisodeTracker:
    """Adds up the rewards and env steps of episodes, and finds the successes that the environment reports.

    Args:
        env: The vector environment.

    Attributes:
        returns: Undiscounted sums of the rewards of the episodes in progress, shape ``(num_envs,)``.
    """

    def __init__(self, env: VectorEnv) -> None:
        changing = find_changing(env)
        self._success_keys = SUCCESS_KEYS if changing is None else changing.success_keys
        self._all = np.ones(env.num_envs, dtype=np.bool_)
        self.returns = np.zeros(env.num_envs)
        # Episode lengths are differences of this counter, because incrementing one integer is faster than
        # incrementing an array.
        self._num_steps = 0
        self._num_steps_before = np.zeros(env.num_envs, dtype=np.int64)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Env steps of the episodes in progress, shape ``(num_envs,)``."""
        return self._num_steps - self._num_steps_before

    def restart(self) -> None:
        """Begin new episodes in all sub-environments."""
        self.returns[:] = 0.0
        self._num_steps_before[:] = self._num_steps

    def count(self, rewards: Array, valid: Bools | None) -> int:
        """Count one vector step, and return its number of valid transitions.

        Args:
            rewards: Shape ``(num_envs,)``.
            valid: False for steps that reset or fail, shape ``(num_envs,)``; None if no step resets or fails. A
                new episode begins after a step that resets or fails.
        """
        # An in-place sum takes twice as long for one sub-environment.
        self.returns = self.returns + rewards
        self._num_steps += 1
        if valid is None:
            return len(self.returns)
        rows = (~valid).nonzero()[0]
        self.returns[rows] = 0.0
        self._num_steps_before[rows] = self._num_steps
        return len(valid) - len(rows)

    def close(self, done: Bools, info: Mapping[str, Any], num_timesteps: int) -> list[Episode]:
        """End the finished episodes, and return an `Episode` for each.

        Args:
            done: Sub-environments whose episode ended.
            info: Infos of the ended episodes, which may report successes.
            num_timesteps: Env steps of the agent.
        """
        successes = successes_in(info, self._all, self._success_keys) if info else None
        returns, before, episodes = self.returns, self._num_steps_before, []
        for i in done.nonzero()[0].tolist():
            success = None if successes is None else successes[i]
            length = self._num_steps - before.item(i)
            episodes.append(Episode(returns.item(i), length, i, num_timesteps, success))
            returns[i], before[i] = 0.0, self._num_steps
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """The episodes in progress."""
        return {"returns": self.returns, "lengths": self.lengths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`."""
        self.returns = state["returns"]
        self._num_steps, self._num_steps_before = 0, -state["lengths"]
