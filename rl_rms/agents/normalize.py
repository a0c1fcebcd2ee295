"""Running statistics that scale rewards and observations, and forget by a half-life.

Reset frames are left out in every autoreset mode, and no discounted return continues over an episode's end.
"""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_rms.agents.config import NormalizerConfig
from rl_rms.agents.spaces import ACTION_MASK, is_image, sorted_items
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import ALONE, Workers

_CLIP = 10.0
_EPSILON = 1e-8
_DEFAULT = NormalizerConfig()

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class RunningMeanVariance:
    """Bias-corrected running mean and variance of each coordinate, which may forget earlier values.

    ``mean = sum(w_i x_i) / sum(w_i)`` and ``variance = sum(w_i (x_i - mean)**2) / sum(w_i)``, where the weights
    ``w_i`` of earlier values decay.

    Args:
        shape: Shape of one value.

    Attributes:
        weight: Sum of the weights; without decay the number of values.
        mean: Mean of the values, shape ``shape``; 0 before the first.
        variance: Biased variance of the values, same shape; 1 before the first.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.weight = 0.0
        self.mean = np.zeros(shape)
        self.variance = np.ones(shape)

    def update(self, batch: Array, weights: Floats64, decay: float, workers: Workers = ALONE) -> None:
        """Decay the weights of earlier values, then merge a batch's moments (Chan, Golub and LeVeque 1983).

        Args:
            batch: Shape ``(batch, *shape)``; may be empty.
            weights: Weight of each value, see `decaying_weights`, shape ``(batch,)``.
            decay: Factor of the weights of earlier values.
            workers: The processes whose batches are merged.
        """
        together = RunningMeanVariance(self.mean.shape)
        moments = _moments(batch, weights)
        for weight, mean, variance in [moments] if workers.alone else workers.all_gather(moments):
            together._merge(float(weight.flat[0]), mean, variance)
        self.weight *= decay
        self._merge(together.weight, together.mean, together.variance)

    def _merge(self, weight: float, mean: Array, variance: Array) -> None:
        if weight == 0.0:
            return
        total = self.weight + weight
        delta = mean - self.mean
        squares = self.variance * self.weight + variance * weight
        self.variance = (squares + delta * delta * (self.weight * weight / total)) / total
        self.mean = self.mean + delta * (weight / total)
        self.weight = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {"weight": self.weight, "mean": self.mean.tolist(), "variance": self.variance.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the statistics of `state_dict`.

        Raises:
            ValueError: If the weight or a variance is below 0.
        """
        variance = np.array(state["variance"])
        for name, least in (("weight", state["weight"]), ("variance", variance.min(initial=0.0))):
            if least < 0:
                raise ValueError(f"{name} must be >= 0, got {least:g}")
        self.weight, self.mean, self.variance = state["weight"], np.array(state["mean"]), variance


def _moments(batch: Array, weights: Floats64) -> Floats64:
    """Sum of the weights, weighted mean and variance of a batch, each of the shape of one value."""
    moments = np.zeros((3, *batch.shape[1:]))
    total = weights.sum()
    if total > 0.0:
        moments[0] = total
        moments[1] = np.einsum("n,n...->...", weights, batch, dtype=np.float64) / total
        moments[2] = np.einsum("n,n...->...", weights, np.square(batch - moments[1])) / total
    return moments


def decaying_weights(valid: Bools, half_life: float, workers: Workers = ALONE) -> tuple[Floats64, float]:
    """Weights of a rollout's values, which halve every ``half_life`` env steps.

    A vector step with ``k`` valid transitions, summed over all workers, multiplies the weights of all earlier
    values by ``2 ** (-k / half_life)``, so weights do not depend on how a stream is cut into rollouts.

    Args:
        valid: Whether a transition counts, ``(num_steps, num_envs)``.
        half_life: Half-life in env steps; ``inf`` never forgets.
        workers: The processes that step their sub-environments together.

    Returns:
        The weights of the valid transitions in the order of ``values[valid]``, and the factor of the weights of
        earlier rollouts.
    """
    if math.isinf(half_life):
        return np.ones(np.count_nonzero(valid)), 1.0
    counts = valid.sum(axis=1)
    # Valid transitions from each step on, and after the last one.
    left = np.append(workers.sum(counts.astype(np.float64))[::-1].cumsum()[::-1], 0.0)
    decays = 2.0 ** (-left / half_life)
    return np.repeat(decays[1:], counts), float(decays[0])


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return ``R_t = gamma R_{t-1} + r_t``.

    The return restarts with every episode, reset frames are left out, and scaled rewards are clipped to +-10. The
    mean is not subtracted, because that would change the optimal policy if episodes can end.

    Args:
        num_envs: Number of sub-environments.
        gamma: Discount per env step.
        config: States the half-life.

    Attributes:
        frozen: Whether the statistics stay as they are.
        steps_per_update: Env steps between two updates, for a half-life in updates.

    Source: the scaling of Stable-Baselines3's ``VecNormalize``.
    """

    def __init__(self, num_envs: int, gamma: float, config: NormalizerConfig = _DEFAULT) -> None:
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.moments = RunningMeanVariance()
        self.frozen = False
        self.steps_per_update: float | None = None
        self._half_life = config.parsed_half_life

    @property
    def half_life(self) -> float:
        """Half-life in env steps."""
        return self._half_life.in_steps(self.steps_per_update)

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
            weights, decay = decaying_weights(valid, self.half_life, workers)
            self.moments.update(seen[valid], weights, decay, workers)
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
        config: States the half-life.

    Attributes:
        frozen: Whether the statistics stay as they are.
        steps_per_update: Env steps between two updates, for a half-life in updates.

    Raises:
        ValueError: If no part of the space can be normalized.
    """

    def __init__(self, space: gym.Space[Any], config: NormalizerConfig = _DEFAULT) -> None:
        self._normalizer = _make(space)
        if self._normalizer is None:
            raise ValueError(
                f"normalize_observation needs Box observations other than pictures, got {space}; leave it out"
            )
        self.frozen = False
        self.steps_per_update: float | None = None
        self._half_life = config.parsed_half_life

    @property
    def half_life(self) -> float:
        """Half-life in env steps."""
        return self._half_life.in_steps(self.steps_per_update)

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
            weights, decay = decaying_weights(valid, self.half_life, workers)
            for moments, part in _parts(self._normalizer, observations):
                moments.update(part[: len(valid)][valid], weights, decay, workers)

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


def _parts(normalizer: _Normalizer, observations: Tree) -> Iterator[tuple[RunningMeanVariance, Array]]:
    """The moments of each part with the part's observations."""
    if isinstance(normalizer, RunningMeanVariance):
        yield normalizer, observations
    elif normalizer is not None:
        for key, part in normalizer.items():
            yield from _parts(part, observations[key])


def _leaves(normalizer: _Normalizer) -> list[RunningMeanVariance]:
    if isinstance(normalizer, RunningMeanVariance):
        return [normalizer]
    return [] if normalizer is None else [one for part in normalizer.values() for one in _leaves(part)]
