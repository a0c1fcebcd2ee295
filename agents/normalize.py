"""Running statistics that bring rewards to a common scale."""

from typing import Any

import numpy as np
import numpy.typing as npt

_CLIP = 10.0
_EPSILON = 1e-8

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return ``R_t = gamma R_{t-1} + r_t``.

    The return begins anew with every episode, reset frames are left out, and scaled rewards are cut off at +-10.
    The mean is not subtracted, which would change what the best policy is where episodes can end. Unlike
    Gymnasium's vector wrapper it is right under every autoreset mode.

    Args:
        num_envs: Number of sub-environments.
        gamma: Discount per env step.

    Source: the scaling of Stable-Baselines3's ``VecNormalize``.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.count = 0
        self.mean = 0.0
        self.variance = 1.0

    def restart(self) -> None:
        """Tell that all sub-environments begin new episodes."""
        self.returns[:] = 0.0

    def __call__(self, rewards: Floats, valid: Bools, done: Bools) -> Floats:
        """Take the returns into the statistics, then scale the rewards.

        Args:
            rewards: Shape ``(num_steps, num_envs)``.
            valid: False for reset frames, same shape.
            done: Whether the transition was its episode's last, same shape.

        Returns:
            Scaled rewards, same shape.
        """
        for reward, is_valid, is_done in zip(rewards, valid, done, strict=True):
            self.returns = np.where(is_valid, self.gamma * self.returns + reward, self.returns)
            self._update(self.returns[is_valid])
            self.returns[is_done] = 0.0
        scale = np.float32(1.0 / np.sqrt(self.variance + _EPSILON))
        scaled: Floats = np.clip(rewards * scale, -_CLIP, _CLIP)
        return scaled

    def _update(self, batch: npt.NDArray[np.float64]) -> None:
        """Merge a batch's moments into the running ones (Chan, Golub and LeVeque 1983)."""
        if len(batch) == 0:
            return
        total = self.count + len(batch)
        delta = float(batch.mean()) - self.mean
        squares = self.variance * self.count + float(batch.var()) * len(batch)
        self.variance = (squares + delta * delta * self.count * len(batch) / total) / total
        self.mean += delta * len(batch) / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {
            "count": self.count,
            "mean": self.mean,
            "variance": self.variance,
            "returns": self.returns.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the statistics of `state_dict`; with other sub-environments than then, returns begin anew."""
        self.count, self.mean, self.variance = state["count"], state["mean"], state["variance"]
        if len(state["returns"]) == len(self.returns):
            self.returns = np.array(state["returns"])
