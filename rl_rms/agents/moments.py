"""Running mean and variance of the values of rollouts, with a half-life."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_rms.agents.workers import ALONE, Workers

Array = npt.NDArray[Any]
Floats64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class RunningMeanVariance:
    """Weighted running mean and variance of each coordinate.

    ``mean = sum(w_i x_i) / sum(w_i)`` and ``variance = sum(w_i (x_i - mean)**2) / sum(w_i)``, where the weights
    ``w_i`` of earlier values may decay.

    Args:
        shape: Shape of one value.

    Attributes:
        weight: Sum of the weights; without decay the number of values.
        mean: Mean of the values, shape ``shape``; 0 before the first value.
        variance: Biased variance of the values, same shape; 1 before the first value.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.weight = 0.0
        self.mean = np.zeros(shape)
        self.variance = np.ones(shape)

    def update(self, batch: Array, weighting: "Weighting", workers: Workers = ALONE) -> "RunningMeanVariance":
        """Decay the weights of earlier values, then merge a batch's moments.

        Args:
            batch: Shape ``(batch, *shape)``; may be empty.
            weighting: Weights of the batch's values and of earlier values, see `decaying_weights`.
            workers: The processes whose batches are merged.

        Returns:
            The statistics of the batches of all workers.
        """
        merged = RunningMeanVariance(self.mean.shape)
        moments = _moments(batch, weighting)
        if workers.alone:
            merged._merge(*moments)
        else:
            stacked = np.stack(np.broadcast_arrays(*moments))
            for weight, mean, variance in workers.all_gather(stacked):
                merged._merge(float(weight.flat[0]), mean, variance)
        self.merge(merged, weighting.decay)
        return merged

    def merge(self, other: "RunningMeanVariance", decay: float) -> None:
        """Decay the weights, then merge other statistics (Chan, Golub and LeVeque 1983).

        Args:
            other: The other statistics.
            decay: Factor of the weights of earlier values.
        """
        self.weight *= decay
        self._merge(other.weight, other.mean, other.variance)

    def _merge(self, weight: float, mean: Array, variance: Array) -> None:
        if weight == 0.0:
            return
        total = self.weight + weight
        if self.weight == 0.0:
            self.variance, self.mean, self.weight = variance * weight / total, mean, total
            return
        delta = mean - self.mean
        squares = self.variance * self.weight + variance * weight
        self.variance = (squares + delta * delta * (self.weight * weight / total)) / total
        self.mean = self.mean + delta * (weight / total)
        self.weight = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics as plain data."""
        return {"weight": self.weight, "mean": self.mean.tolist(), "variance": self.variance.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the statistics from `state_dict`.

        Raises:
            ValueError: If the weight or a variance is below 0.
        """
        variance = np.array(state["variance"])
        for name, least in (("weight", state["weight"]), ("variance", variance.min(initial=0.0))):
            if least < 0:
                raise ValueError(f"{name} must be >= 0, got {least:g}")
        self.weight, self.mean, self.variance = state["weight"], np.array(state["mean"]), variance


def _moments(batch: Array, weighting: "Weighting") -> tuple[float, Array, Array]:
    """Sum of the weights, weighted mean and variance of a batch."""
    weights, total = weighting.weights, weighting.total
    if total == 0.0:
        zero = np.zeros(batch.shape[1:])
        return total, zero, zero
    mean: Array = np.einsum("n,n...->...", weights, batch, dtype=np.float64) / total
    variance: Array = np.einsum("n,n...->...", weights, np.square(batch - mean)) / total
    return total, mean, variance


class Weighting(NamedTuple):
    """Weights of the values of a rollout.

    Attributes:
        weights: Weight of each valid transition, in the order of ``values[valid]``.
        decay: Factor of the weights of earlier rollouts.
        num_steps: Vector steps of the rollout.
        num_envs: Sub-environments of all workers.
        total: Sum of the weights.
    """

    weights: Floats64
    decay: float
    num_steps: int
    num_envs: int
    total: float


def decaying_weights(valid: Bools, half_life: float, workers: Workers = ALONE) -> Weighting:
    """Weights of a rollout's values. A weight halves every ``half_life`` env steps.

    A vector step with ``k`` valid transitions, summed over all workers, multiplies the weights of all earlier
    values by ``2 ** (-k / half_life)``, so weights do not depend on the length of rollouts.

    Args:
        valid: Whether each transition enters the statistics, shape ``(num_steps, num_envs)``.
        half_life: Half-life in env steps; ``inf`` never forgets.
        workers: The processes that step their sub-environments together.
    """
    num_steps, num_envs = len(valid), valid.shape[1] * workers.size
    if math.isinf(half_life):
        count = np.count_nonzero(valid)
        return Weighting(np.ones(count), 1.0, num_steps, num_envs, float(count))
    counts = valid.sum(axis=1)
    # Number of valid transitions from each step to the rollout's end; 0 after the last step.
    left = np.append(workers.sum(counts.astype(np.float64))[::-1].cumsum()[::-1], 0.0)
    decays = 2.0 ** (-left / half_life)
    weights = np.repeat(decays[1:], counts)
    return Weighting(weights, float(decays[0]), num_steps, num_envs, float(weights.sum()))
