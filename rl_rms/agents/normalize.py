"""Normalizes rewards and observations by running statistics with a half-life.

The statistics exclude reset frames, in every autoreset mode, failed steps, and transitions with imputed values.
Discounted returns restart at the end of an episode.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_rms.agents.config_parts import NormalizerConfig, normalizer_config
from rl_rms.agents.jumps import JumpDetector
from rl_rms.agents.moments import RunningMeanVariance, Weighting, decaying_weights
from rl_rms.agents.spaces import ACTION_MASK, is_image, sorted_items
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import ALONE, Workers
from rl_rms.half_life import AverageHalfLife

# The bounds are arrays, because ufuncs would convert Python numbers at every call.
_LOWEST, _HIGHEST = np.array(-10.0), np.array(10.0)
_LOWEST32, _HIGHEST32 = _LOWEST.astype(np.float32), _HIGHEST.astype(np.float32)
_ZERO = np.zeros(())
_EPSILON = 1e-8
_DEFAULT = NormalizerConfig()
_NEVER_FORGETS = AverageHalfLife(math.inf)

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class ForgettingMeanVariance(RunningMeanVariance):
    """Running mean and variance that forget all earlier values at a jump if ``on_jump`` is ``"forget"``.

    Args:
        shape: Shape of one value.
        config: Configuration, of which only ``on_jump`` is used.

    Attributes:
        detector: Detects jumps; None if ``on_jump`` is ``"keep"``.
    """

    def __init__(self, shape: tuple[int, ...] = (), config: NormalizerConfig = _DEFAULT) -> None:
        super().__init__(shape)
        self.detector = JumpDetector(shape) if config.on_jump == "forget" else None
        # The last variance and its scale are cached, because the variance changes only once per rollout.
        self._scale_of: tuple[Array, Array] = (self.variance, _scale(self.variance))

    def standardized(self, values: Array) -> Floats:
        """``clip((x - mean) / sqrt(variance + 1e-8), -10, 10)``.

        Args:
            values: Shape ``(..., *shape)``.
        """
        variance, scale = self._scale_of
        if variance is not self.variance:
            scale = _scale(self.variance)
            self._scale_of = self.variance, scale
        scaled = (values - self.mean) * scale
        floats: Floats = np.minimum(np.maximum(scaled, _LOWEST), _HIGHEST).astype(np.float32)
        return floats

    def update(self, batch: Array, weighting: Weighting, workers: Workers = ALONE) -> RunningMeanVariance:
        """Update the statistics. At a jump and one block later, only the detector's last block remains."""
        merged = super().update(batch, weighting, workers)
        recent = None if self.detector is None else self.detector.update(merged, weighting)
        if recent is not None:
            self.weight, self.mean, self.variance = recent.weight, recent.mean, recent.variance
        return merged

    def state_dict(self) -> dict[str, Any]:
        """The statistics and the detector's state as plain data."""
        detector = None if self.detector is None else self.detector.state_dict()
        return {**super().state_dict(), "detector": detector}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        if self.detector is not None:
            self.detector.load_state_dict(state["detector"])
        super().load_state_dict(state)


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return ``R_t = gamma R_{t-1} + r_t``.

    The return restarts with every episode. Scaled rewards are clipped to +-10. The mean is not subtracted, because
    subtraction would change the optimal policy if episodes can end.

    Args:
        num_envs: Number of sub-environments; None for an agent without an environment, which keeps any number of
            loaded returns.
        gamma: Discount per env step.
        half_life: Half-life of the statistics, in env steps or in updates.

    Attributes:
        frozen: Whether the statistics stay unchanged.
        steps_per_update: Env steps between two updates, for a half-life in updates; None before the first update.

    Source: the scaling of Stable-Baselines3's ``VecNormalize``.
    """

    def __init__(self, num_envs: int | None, gamma: float, half_life: AverageHalfLife = _NEVER_FORGETS) -> None:
        self.gamma = gamma
        self.returns = np.zeros(num_envs or 1)
        self._has_envs = num_envs is not None
        self.moments = RunningMeanVariance()
        self.frozen = False
        self.steps_per_update: float | None = None
        self._half_life = half_life

    @property
    def half_life(self) -> float:
        """Half-life in env steps."""
        return self._half_life.in_steps(self.steps_per_update)

    def restart(self) -> None:
        """Reset the returns, because all sub-environments begin new episodes."""
        self.returns = np.zeros_like(self.returns)

    def __call__(self, rewards: Floats, valid: Bools, done: Bools, workers: Workers = ALONE) -> Floats:
        """Update the statistics with the returns, then scale the rewards.

        Args:
            rewards: Shape ``(num_steps, num_envs)``.
            valid: False for reset frames, failed steps and transitions with imputed values, same shape.
            done: Whether the transition was its episode's last, same shape.
            workers: The processes whose returns are merged.

        Returns:
            Scaled rewards, same shape.
        """
        # A step that is not valid keeps the return, and the end of an episode restarts the return.
        is_whole = np.count_nonzero(valid) == valid.size
        decays = np.where(valid, self.gamma, 1.0)
        returns = rewards.astype(np.float64) if is_whole else np.where(valid, rewards, _ZERO)
        decays[1:][done[:-1]] = 0.0
        before = self.returns
        for decay, present in zip(decays, returns, strict=True):
            # NumPy's argument ``out`` is not used, because it takes twice as long for one sub-environment.
            before = present + decay * before
            present[...] = before
        self.returns = np.where(done[-1], 0.0, before)
        if not self.frozen:
            values = returns.reshape(-1) if is_whole else returns[valid]
            self.moments.update(values, decaying_weights(valid, self.half_life, workers), workers)
        scale = np.float32(1.0 / math.sqrt(float(self.moments.variance) + _EPSILON))
        scaled: Floats = np.minimum(np.maximum(rewards * scale, _LOWEST32), _HIGHEST32)
        return scaled

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {**self.moments.state_dict(), "returns": self.returns.tolist(), "frozen": self.frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`; the returns restart if the number of sub-environments differs."""
        self.moments.load_state_dict(state)
        self.frozen = state["frozen"]
        returns = np.array(state["returns"], dtype=np.float64)
        if returns.shape == self.returns.shape or not self._has_envs:
            self.returns = returns


class ObservationNormalizer:
    """Shifts and scales observations by their running mean and standard deviation.

    The result is ``clip((o - mean) / sqrt(variance + 1e-8), -10, 10)``. The statistics include the observations in
    which the policy acted, except in transitions with imputed values. The statistics change only between rollouts,
    so acting and learning use the same statistics. In the first rollout, the mean is 0 and the variance 1. Each
    part of Dict and Tuple observations has its own statistics. Images, action masks and observations of spaces
    other than Box are not normalized.

    Args:
        space: Observation space of one sub-environment.
        config: Configuration with the half-life and the response to jumps.

    Attributes:
        frozen: Whether the statistics stay unchanged.
        steps_per_update: Env steps between two updates, for a half-life in updates; None before the first update.

    Raises:
        ValueError: If no part of the space can be normalized.
    """

    def __init__(self, space: gym.Space[Any], config: NormalizerConfig = _DEFAULT) -> None:
        self._normalizer = _make(space, config)
        if self._normalizer is None:
            raise ValueError(
                f"normalize_observation needs Box observations that are neither images nor empty, got {space}; "
                "set it to true, which skips parts that cannot be normalized, or to false"
            )
        self._scaled: Callable[[Tree], Tree] = partial(_apply, self._normalizer)
        if isinstance(self._normalizer, ForgettingMeanVariance):
            self._scaled = self._normalizer.standardized
        self.frozen = False
        self.steps_per_update: float | None = None
        self._half_life = config.parsed_half_life

    @property
    def half_life(self) -> float:
        """Half-life in env steps."""
        return self._half_life.in_steps(self.steps_per_update)

    @property
    def num_jumps(self) -> int | None:
        """Jumps so far, all parts of the observations together; None if ``on_jump`` is ``"keep"``."""
        detectors = [moments.detector for moments in _leaves(self._normalizer) if moments.detector is not None]
        return sum(detector.num_jumps for detector in detectors) if detectors else None

    def __call__(self, observations: Tree) -> Tree:
        """Normalize observations with any number of leading axes. The normalized parts become float32."""
        return self._scaled(observations)

    def update(self, observations: Tree, valid: Bools, workers: Workers = ALONE) -> None:
        """Update the statistics with a rollout's observations.

        Args:
            observations: Shape ``(num_steps + 1, num_envs, *observation)`` or ``(num_steps, ...)``.
            valid: False for reset frames, failed steps and transitions with imputed values, shape ``(num_steps,
                num_envs)``.
            workers: The processes whose observations are merged.
        """
        if not self.frozen:
            weighting = decaying_weights(valid, self.half_life, workers)
            is_whole = np.count_nonzero(valid) == valid.size
            for moments, part in _parts(self._normalizer, observations):
                acted = part[: len(valid)]
                values = acted.reshape(-1, *acted.shape[2:]) if is_whole else acted[valid]
                moments.update(values, weighting, workers)

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {"parts": [moments.state_dict() for moments in _leaves(self._normalizer)], "frozen": self.frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        for moments, saved in zip(_leaves(self._normalizer), state["parts"], strict=True):
            moments.load_state_dict(saved)
        self.frozen = state["frozen"]


def make_observation_normalizer(
    space: gym.Space[Any], normalize: bool | float | str | NormalizerConfig
) -> ObservationNormalizer | None:
    """Make the normalizer of an observation space.

    Args:
        space: Observation space of one sub-environment.
        normalize: Hyperparameter ``normalize_observation``.

    Returns:
        The normalizer; None for False, or for True if no part of the space can be normalized.

    Raises:
        ValueError: If a half-life or a configuration is given, and no part of the space can be normalized.
    """
    config = normalizer_config(normalize)
    if config is None or (normalize is True and _make(space, config) is None):
        return None
    return ObservationNormalizer(space, config)


# The moments of a space: an object for a Box, a dictionary for a Dict or Tuple, None without normalization.
_Normalizer = ForgettingMeanVariance | dict[Any, Any] | None


def _make(space: gym.Space[Any], config: NormalizerConfig) -> _Normalizer:
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        items = enumerate(space) if isinstance(space, spaces.Tuple) else sorted_items(space)
        parts = {key: _make(part, config) for key, part in items if key != ACTION_MASK}
        return parts if any(part is not None for part in parts.values()) else None
    if not isinstance(space, spaces.Box) or is_image(space) or 0 in space.shape:
        return None
    return ForgettingMeanVariance(space.shape, config)


def _apply(normalizer: _Normalizer, observations: Tree) -> Tree:
    if isinstance(normalizer, ForgettingMeanVariance):
        return normalizer.standardized(observations)
    if normalizer is None:
        return observations
    if isinstance(observations, tuple):
        return tuple(_apply(normalizer[i], part) for i, part in enumerate(observations))
    return {key: _apply(normalizer.get(key), part) for key, part in observations.items()}


def _parts(normalizer: _Normalizer, observations: Tree) -> Iterator[tuple[ForgettingMeanVariance, Array]]:
    """Yield the moments of each part together with the part's observations."""
    if isinstance(normalizer, ForgettingMeanVariance):
        yield normalizer, observations
    elif normalizer is not None:
        for key, part in normalizer.items():
            yield from _parts(part, observations[key])


def _leaves(normalizer: _Normalizer) -> list[ForgettingMeanVariance]:
    if isinstance(normalizer, ForgettingMeanVariance):
        return [normalizer]
    return [] if normalizer is None else [moments for part in normalizer.values() for moments in _leaves(part)]


def _scale(variance: Array) -> Array:
    scale: Array = 1.0 / np.sqrt(variance + _EPSILON)
    return scale
