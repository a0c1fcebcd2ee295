"""The counters of a training run and its last episodes."""

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rl_rms.agents.metrics import RETURN
from rl_rms.agents.rollout import Episode
from rl_rms.agents.workers import ALONE, Workers


@dataclass
class TrainingState:
    """The counters of a training run.

    Attributes:
        num_timesteps: Env steps so far, all sub-environments together.
        num_rollouts: Rollouts so far.
        num_nonfinite: Number of non-finite rewards and observations, and of updates with non-finite gradients, so
            far.
        target_timesteps: The current `learn` ends after the rollout that reaches this number of env steps.
        episodes: The last 100 finished episodes.
        new_episodes: The episodes that finished in the last rollout.
        is_interrupted: Whether `learn` should raise KeyboardInterrupt; see `Agent.interrupt` for the moment.
    """

    num_timesteps: int = 0
    num_rollouts: int = 0
    num_nonfinite: int = 0
    target_timesteps: int = 0
    episodes: deque[Episode] = field(default_factory=lambda: deque(maxlen=100))
    new_episodes: list[Episode] = field(default_factory=list)
    is_interrupted: bool = False

    def raise_if_interrupted(self, workers: Workers = ALONE) -> None:
        """Raise KeyboardInterrupt once in every worker if any worker was interrupted."""
        if not workers.all_true(not self.is_interrupted):
            self.is_interrupted = False
            raise KeyboardInterrupt

    def scalars(self) -> dict[str, float]:
        """Means over the last 100 episodes by TensorBoard tag."""
        if not self.episodes:
            return {}
        scalars = {
            RETURN: float(np.mean([episode.ret for episode in self.episodes])),
            "rollout/ep_len_mean": float(np.mean([episode.length for episode in self.episodes])),
        }
        successes = [episode.success for episode in self.episodes if episode.success is not None]
        if successes:
            scalars["rollout/success_rate"] = float(np.mean(successes))
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """The counters and the last episodes, for a resumed training run."""
        return {
            "num_timesteps": self.num_timesteps,
            "num_rollouts": self.num_rollouts,
            "num_nonfinite": self.num_nonfinite,
            "episodes": [dataclasses.astuple(episode) for episode in self.episodes],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        self.num_timesteps, self.num_rollouts = state["num_timesteps"], state["num_rollouts"]
        self.num_nonfinite = state["num_nonfinite"]
        self.episodes.extend(Episode(*episode) for episode in state["episodes"])
