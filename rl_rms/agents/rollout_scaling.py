"""Normalizes the observations and rewards of a learner's rollouts, and updates both normalizers."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.checkpoint_checks import check_like
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer
from rl_rms.agents.rollout import Rollout
from rl_rms.agents.workers import Workers

Bools = npt.NDArray[np.bool_]


class RolloutScaling:
    """The normalizers of a learner.

    Args:
        observation: Standardizes observations; None leaves them unchanged.
        reward: Scales rewards; None leaves them unchanged.

    Attributes:
        normalizers: The normalizers in use by name.
    """

    def __init__(self, observation: ObservationNormalizer | None, reward: RewardNormalizer | None) -> None:
        self._observation, self._reward = observation, reward
        both = {"observation": observation, "reward": reward}
        self.normalizers = {name: one for name, one in both.items() if one is not None}

    @property
    def num_jumps(self) -> int | None:
        """Jumps at which the observation normalizer forgot earlier values; None without detection of jumps."""
        return None if self._observation is None else self._observation.num_jumps

    def set_span(self, env_steps: float) -> None:
        """Set the env steps of an update, for half-lives in updates."""
        for normalizer in self.normalizers.values():
            normalizer.steps_per_update = env_steps

    def scaled(self, rollout: Rollout, workers: Workers) -> Rollout:
        """Normalize a rollout. The rollout's rewards update the reward normalizer.

        Args:
            rollout: This worker's transitions, not normalized.
            workers: The processes whose rewards are merged.
        """
        changed: dict[str, Any] = {}
        if self._reward is not None:
            changed["rewards"] = self._reward(rollout.rewards, rollout.known, rollout.done, workers)
        if self._observation is not None:
            changed["observations"] = self._observation(rollout.observations)
            changed["final_observations"] = self._observation(rollout.final_observations)
        return dataclasses.replace(rollout, **changed) if changed else rollout

    def update(self, rollout: Rollout, workers: Workers) -> bool:
        """Update the observation normalizer after learning, and return whether the normalizer forgot at a jump.

        Args:
            rollout: This worker's transitions, not normalized.
            workers: The processes whose observations are merged.
        """
        if self._observation is None:
            return False
        before = self._observation.num_jumps
        self._observation.update(rollout.observations, rollout.known, workers)
        return self._observation.num_jumps != before

    def end_returns(self, done: Bools) -> None:
        """Restart the discounted returns of the sub-environments whose episodes ended in a rollout.

        Args:
            done: Whether the transition was its episode's last, shape ``(num_steps, num_envs)``.
        """
        if self._reward is not None:
            self._reward.returns = np.where(done.any(axis=0), 0.0, self._reward.returns)

    def restart_returns(self) -> None:
        """Restart the discounted returns, because all sub-environments begin new episodes."""
        if self._reward is not None:
            self._reward.restart()

    def scalars(self) -> dict[str, float]:
        """The finite half-lives, after the first update, and the number of jumps by TensorBoard tag."""
        scalars = {
            f"half_life/{name}": one.half_life
            for name, one in self.normalizers.items()
            if one.steps_per_update is not None and math.isfinite(one.half_life)
        }
        if self.num_jumps is not None:
            scalars["normalizer/jumps"] = float(self.num_jumps)
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """The statistics by name."""
        return {name: normalizer.state_dict() for name, normalizer in self.normalizers.items()}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Check a state from `state_dict`.

        Raises:
            ValueError: If the structure of the state differs, or a value is not finite.
        """
        for name, normalizer in self.normalizers.items():
            like = normalizer.state_dict()
            if "returns" in like:
                # The number of sub-environments may differ.
                like["returns"] = [0.0] * len(state[name].get("returns", ()))
            check_like(name, state[name], like)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`."""
        for name, normalizer in self.normalizers.items():
            normalizer.load_state_dict(state[name])
