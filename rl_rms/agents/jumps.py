"""Detects jumps of the mean in a stream of correlated values."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.moments import RunningMeanVariance, Weighting

Array = npt.NDArray[Any]

# Half-life of the detector's averages, in blocks.
_HALF_LIFE = 30.0
# Minimum product of a block's env steps and the number of sub-environments.
_BLOCK = 2_048
_SIGNIFICANT, _RELEVANT = 8.0, 2.0
_PRIOR_BLOCKS, _PRIOR_SHARE = 5.0, 1 / 8
_WARM_UP = 2
_EPSILON = 1e-8


class JumpDetector:
    """Fires when the mean of a block of values jumps in some coordinate.

    A block is one or more rollouts with at least ``2048 / num_envs`` env steps together. Values within an episode
    are correlated, so the variance of block means is far larger than ``variance / block length``. The detector
    therefore measures the variance of block means. The detector averages over blocks with a half-life of 30
    blocks. ``m`` is the average of block means. ``b``, with the weight ``n``, is the average of the block means'
    squared deviations from ``m``. ``w`` is the average of the variances within blocks, including the new block.
    Once the averages contain two blocks, the detector fires if both conditions hold for a coordinate:

    - ``(block mean - m)**2 > 8**2 * (n b + 5 (b + w) / 8) / (n + 5)``: the deviation is unusually large.
      The prior counts as five blocks with the variance ``(b + w) / 8``.
    - ``(block mean - m)**2 > 2**2 * (b + w)``: the deviation is larger than two standard deviations of the values.

    At a jump, the averages restart with the block in which the detector fires. The averages restart again with the
    next block, because the jump may lie within a block. Changes that affect only the scale are not detected. In
    environments without jumps, the detector gave no false alarm in 2.56 million env steps
    (``benchmarks/results/jumps.md``).

    Args:
        shape: Shape of one value.

    Attributes:
        num_jumps: Number of detected jumps.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.num_jumps = 0
        self._shape = shape
        self._block, self._block_steps = RunningMeanVariance(shape), 0
        self._follows_jump = False
        self._restart()

    def _restart(self) -> None:
        self._num_blocks = 0
        self._weight = self._weight_between = 0.0
        self._mean, self._between, self._within = np.zeros((3, *self._shape))

    def update(self, moments: RunningMeanVariance, weighting: Weighting) -> RunningMeanVariance | None:
        """Add a rollout to the current block.

        Args:
            moments: The statistics of the rollout's values.
            weighting: The weights of the rollout's values and of earlier values.

        Returns:
            The statistics of the finished block, if the caller should forget all values before the block;
            otherwise None. The caller should forget earlier values when the detector fires, and again after the
            next block. Blocks with nan or infinite statistics are ignored.
        """
        self._block.merge(moments, weighting.decay)
        self._block_steps += weighting.num_steps
        if self._block_steps < math.ceil(_BLOCK / weighting.num_envs**2):
            return None
        block = self._block
        self._block, self._block_steps = RunningMeanVariance(self._shape), 0
        is_known = block.weight > 0.0 and bool(np.isfinite(block.mean + block.variance).all())
        return block if is_known and self._restarts_with(block.mean, block.variance) else None

    def _restarts_with(self, mean: Array, variance: Array) -> bool:
        """Add a block to the averages, and return whether the caller should forget all values before the block."""
        deviation = np.square(mean - self._mean)
        is_jump = self._num_blocks >= _WARM_UP and self._is_far(deviation, variance)
        # The jump may lie within the block in which the detector fires, so the averages restart with the next
        # block too.
        restarts = is_jump or self._follows_jump
        self._follows_jump = is_jump
        self.num_jumps += is_jump
        if restarts:
            self._restart()
        decay = 2.0 ** (-1.0 / _HALF_LIFE)
        if self._num_blocks:
            self._weight_between = decay * self._weight_between + 1.0
            self._between = self._between + (deviation - self._between) / self._weight_between
        self._weight = decay * self._weight + 1.0
        self._mean = self._mean + (mean - self._mean) / self._weight
        self._within = self._within + (variance - self._within) / self._weight
        self._num_blocks += 1
        return restarts

    def _is_far(self, deviation: Array, variance: Array) -> bool:
        # The variance of the block itself is included, so that a constant coordinate can begin to vary without a
        # jump.
        within = self._within + (variance - self._within) / (self._weight + 1.0)
        total = within + self._between + _EPSILON
        is_relevant = deviation > _RELEVANT**2 * total
        if not is_relevant.any():
            return False
        measured = self._weight_between * self._between
        usual = (measured + _PRIOR_BLOCKS * _PRIOR_SHARE * total) / (self._weight_between + _PRIOR_BLOCKS)
        return bool((is_relevant & (deviation > _SIGNIFICANT**2 * usual)).any())

    def state_dict(self) -> dict[str, Any]:
        """The counters, the averages and the unfinished block as plain data."""
        return {
            "num_jumps": self.num_jumps,
            "num_blocks": self._num_blocks,
            "follows_jump": self._follows_jump,
            "block": self._block.state_dict(),
            "block_steps": self._block_steps,
            "weight": self._weight,
            "weight_between": self._weight_between,
            "mean": self._mean.tolist(),
            "between": self._between.tolist(),
            "within": self._within.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`.

        Raises:
            ValueError: If a weight or a variance is below 0.
        """
        arrays = {name: np.array(state[name]) for name in ("mean", "between", "within")}
        least = {name: float(np.min(state[name], initial=0.0)) for name in ("weight", "weight_between")}
        least |= {name: float(arrays[name].min(initial=0.0)) for name in ("between", "within")}
        for name, value in least.items():
            if value < 0:
                raise ValueError(f"{name} must be >= 0, got {value:g}")
        self._block.load_state_dict(state["block"])
        self._block_steps, self._follows_jump = state["block_steps"], state["follows_jump"]
        self.num_jumps, self._num_blocks = state["num_jumps"], state["num_blocks"]
        self._weight, self._weight_between = state["weight"], state["weight_between"]
        self._mean, self._between, self._within = (arrays[name] for name in ("mean", "between", "within"))
