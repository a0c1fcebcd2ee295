"""Running statistics that scale rewards and observations.

Reset frames are left out in every autoreset mode, and no discounted return continues over an episode's end.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_rms.agents.spaces import ACTION_MASK, is_image, sorted_items
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import ALONE, Workers

_CLIP = 10.0
_EPSILON = 1e-8

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class RunningMeanVariance:
    """Running mean and variance of each coordinate.

    Args:
        shape: Shape of one value.

    Attributes:
        count: Number of values so far.
        mean: Mean of the values, shape ``shape``; 0 before the first.
        variance: Biased variance of the values, same shape; 1 before the first.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean = np.zeros(shape)
        self.variance = np.ones(shape)

    def update(self, batch: Array, workers: Workers = ALONE) -> None:
        """Merge a batch's moments into the running ones (Chan, Golub and LeVeque 1983).

        Args:
            batch: Shape ``(batch, *shape)``; may be empty.
            workers: The processes whose batches are merged.
        """
        mean, variance = np.zeros_like(self.mean), np.zeros_like(self.mean)
        if len(batch):
            mean, variance = batch.mean(axis=0, dtype=np.float64), batch.var(axis=0, dtype=np.float64)
        if workers.alone:
            self._merge(len(batch), mean, variance)
            return
        everyone = workers.all_gather(np.stack([np.full_like(mean, len(batch)), mean, variance]))
        together = RunningMeanVariance(self.mean.shape)
        for counts, mean, variance in everyone:
            together._merge(int(counts.flat[0]), mean, variance)
        self._merge(together.count, together.mean, together.variance)

    def _merge(self, count: int, mean: Array, variance: Array) -> None:
        if count == 0:
            return
        total = self.count + count
        delta = mean - self.mean
        squares = self.variance * self.count + variance * count
        self.variance = (squares + delta * delta * self.count * count / total) / total
        self.mean = self.mean + delta * count / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {"count": self.count, "mean": self.mean.tolist(), "variance": self.variance.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the statistics of `state_dict`.

        Raises:
            ValueError: If a variance is below 0.
        """
        variance = np.array(state["variance"])
        if (variance < 0).any():
            raise ValueError(f"variance must be >= 0, got {variance.min():g}")
        self.count, self.mean, self.variance = state["count"], np.array(state["mean"]), variance


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return ``R_t = gamma R_{t-1} + r_t``.

    The return restarts with every episode, reset frames are left out, and scaled rewards are clipped to +-10. The
    mean is not subtracted, because that would change the optimal policy if episodes can end.

    Args:
        num_envs: Number of sub-environments.
        gamma: Discount per env step.

    Attributes:
        frozen: Whether the statistics stay as they are.

    Source: the scaling of Stable-Baselines3's ``VecNormalize``.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.moments = RunningMeanVariance()
        self.frozen = False

    def restart(self) -> None:
        """Reset the returns, because all sub-environments begin new episodes."""
        self.returns[:] = 0.0

    def __call__(self, rewards: Floats, valid: Bools, done: Bools, workers: Workers = ALONE) -> Floats:
        """Update the statistics with the returns, then scale the rewards.

        Args:
            rewards: Shape ``(num_steps, num_envs)``.
            valid: False for reset frames, same shape.
            done: Whether the transition was its episode's last, same shape.
            workers: The processes whose returns are merged.

        Returns:
            Scaled rewards, same shape.
        """
        seen = np.empty(rewards.shape)
        for t, reward in enumerate(rewards):
            np.copyto(self.returns, self.gamma * self.returns + reward, where=valid[t])
            seen[t] = self.returns
            self.returns[done[t]] = 0.0
        if not self.frozen:
            self.moments.update(seen[valid], workers)
        scale = np.float32(1.0 / math.sqrt(float(self.moments.variance) + _EPSILON))
        scaled: Floats = np.clip(rewards * scale, -_CLIP, _CLIP)
        return scaled

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {**self.moments.state_dict(), "returns": self.returns.tolist(), "frozen": self.frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state of `state_dict`; the returns restart if the number of sub-environments differs."""
        self.moments.load_state_dict(state)
        self.frozen = state["frozen"]
        returns = np.array(state["returns"], dtype=np.float64)
        if returns.shape == self.returns.shape:
            self.returns = returns


class ObservationNormalizer:
    """Shifts and scales observations by their running mean and standard deviation.

    ``clip((o - mean) / sqrt(variance + 1e-8), -10, 10)``. The statistics are of the observations that were acted
    on. They change between rollouts only, so learning sees the same values as acting; before the first rollout
    they are 0 and 1. Each part of Dict and Tuple observations has its own; images and categories are left alone.

    Args:
        space: Observation space of one sub-environment.

    Attributes:
        frozen: Whether the statistics stay as they are.

    Raises:
        ValueError: If no part of the space can be normalized.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._normalizer = _make(space)
        if self._normalizer is None:
            raise ValueError(
                f"normalize_observation needs Box observations other than pictures, got {space}; leave it out"
            )
        self.frozen = False

    def __call__(self, observations: Tree) -> Tree:
        """Normalized observations, float32, of any number of leading axes."""
        return _apply(self._normalizer, observations)

    def update(self, observations: Tree, valid: Bools, workers: Workers = ALONE) -> None:
        """Update the statistics with a rollout's observations.

        Args:
            observations: Shape ``(num_steps + 1, num_envs, *observation)`` or ``(num_steps, ...)``.
            valid: Whether the observation was acted on, for the first ``num_steps``, ``(num_steps, num_envs)``.
            workers: The processes whose observations are merged.
        """
        if not self.frozen:
            _update(self._normalizer, observations, valid, workers)

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {"parts": [moments.state_dict() for moments in _leaves(self._normalizer)], "frozen": self.frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state of `state_dict`."""
        for moments, saved in zip(_leaves(self._normalizer), state["parts"], strict=True):
            moments.load_state_dict(saved)
        self.frozen = state["frozen"]


# The moments of a space: one object, None for none, or a dictionary by the keys of a Dict or indices of a Tuple.
_Normalizer = RunningMeanVariance | dict[Any, Any] | None


def _make(space: gym.Space[Any]) -> _Normalizer:
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        items = enumerate(space) if isinstance(space, spaces.Tuple) else sorted_items(space)
        parts = {key: _make(part) for key, part in items if key != ACTION_MASK}
        return parts if any(part is not None for part in parts.values()) else None
    return RunningMeanVariance(space.shape) if isinstance(space, spaces.Box) and not is_image(space) else None


def _apply(normalizer: _Normalizer, observations: Tree) -> Tree:
    if isinstance(normalizer, RunningMeanVariance):
        scale = 1.0 / np.sqrt(normalizer.variance + _EPSILON)
        return np.clip((observations - normalizer.mean) * scale, -_CLIP, _CLIP).astype(np.float32)
    if normalizer is None:
        return observations
    if isinstance(observations, tuple):
        return tuple(_apply(normalizer[i], part) for i, part in enumerate(observations))
    return {key: _apply(normalizer.get(key), part) for key, part in observations.items()}


def _update(normalizer: _Normalizer, observations: Tree, valid: Bools, workers: Workers) -> None:
    if isinstance(normalizer, RunningMeanVariance):
        normalizer.update(observations[: len(valid)][valid], workers)
    elif normalizer is not None:
        for key, part in normalizer.items():
            _update(part, observations[key], valid, workers)


def _leaves(normalizer: _Normalizer) -> list[RunningMeanVariance]:
    if isinstance(normalizer, RunningMeanVariance):
        return [normalizer]
    return [] if normalizer is None else [one for part in normalizer.values() for one in _leaves(part)]
