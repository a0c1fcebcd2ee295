"""The estimator of ``half_life="auto"``: several half-lives, weighted by their prediction of squared gradients."""

import math
from typing import Any

import torch
from torch import Tensor

from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.estimators import HalfLifeEstimator, known_gradients

# The loss of the half-lives in `Bank` includes a gradient only if the earlier gradients that are finite and not
# 0 have a total weight above `_LEAST_WEIGHT` in the average with the shortest half-life. This weight is far
# above the smallest float64, so the quotient of two decayed averages stays precise.
_LEAST_WEIGHT = 1e-200


class Bank(HalfLifeEstimator):
    """The geometric mean of several half-lives, weighted by how well each predicts the next squared gradient.

    Each half-life h_k has a second moment v_k of each probe. The probes are the coordinates whose gradients the
    estimator observes. The loss of h_k is the Gaussian negative log-likelihood (QLIKE, Patton 2011) with a bounded
    quotient, averaged over the probes whose gradient is finite and not 0:

        l_k = 1/2 [ln v_k + min(g**2 / v_k, 100)]        with v_k from before g

    S_k is the decayed sum of ``num_probes * l_k`` over time, with a half-life of 256 updates. The weights are
    ``w = softmax(-eta S)`` with eta = 0.05. The estimate is ``h = exp(sum_k w_k ln h_k)``. The method is
    exponential weighting of experts with forgetting (Herbster and Warmuth 1998).

    The half-life that predicts ``E[g**2]`` best may be too short for learning. In reinforcement learning, large
    gradients occur in clusters and contain the signal. Therefore the estimate needs a lower bound.

    Examples:
        >>> bank = Bank(bounds=(1, 1e6))
        >>> _ = torch.manual_seed(0)
        >>> for _ in range(100):
        ...     bank.observe(torch.randn(16, 16))
        >>> bank.half_life > 500
        True
    """

    _HALF_LIVES = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
    _ETA = 0.05
    _SCORE_HALF_LIFE = 256.0
    _LARGEST_SURPRISE = 100.0  # bound of g**2 / v_k, so that one outlier does not dominate the sum

    def __init__(self, bounds: tuple[float, float] = (32.0, 10_000.0)) -> None:
        super().__init__(bounds)
        rho = torch.tensor([rho_from_half_life(h) for h in self._HALF_LIVES], dtype=torch.float64)
        time = torch.arange(self.block, dtype=torch.float64)
        # Ages of a block's gradients before each update of the block, and after its last update; shape (block + 1,
        # block).
        age = time[:, None] - time - 1
        age = torch.cat([age, age[-1:] + 1])
        weights = torch.where(age >= 0, rho[:, None, None] ** age.clamp_min(0) * (1 - rho)[:, None, None], 0.0)
        self._weights = weights.flatten(0, 1)
        self._fading = rho[:, None, None] ** torch.arange(self.block + 1, dtype=torch.float64)[:, None]
        self._score_decay = rho_from_half_life(self._SCORE_HALF_LIFE, self.block)
        self._averages = torch.zeros(len(self._HALF_LIVES), 1, 0, dtype=torch.float64)
        self._scores = [0.0] * len(self._HALF_LIVES)
        self._mean_half_life = self._mean()

    def observe(self, grads: Tensor) -> None:
        """Score each half-life on a block of gradients, and update the weights."""
        grads, known = known_gradients(grads)
        squares = grads.square()
        probes = grads.shape[1]
        if self._averages.shape[2] != 2 * probes:
            self._averages = self._averages.new_zeros(len(self._HALF_LIVES), 1, 2 * probes)
        # v_k is the weighted sum of the known squares divided by the sum of their weights. This quotient is
        # bias-corrected and skips unknown gradients.
        averages = self._weights @ torch.cat([squares, known], dim=1)
        averages = averages.view(len(self._HALF_LIVES), self.block + 1, 2 * probes)
        averages.addcmul_(self._fading, self._averages)
        self._averages = averages[:, -1:]
        total, weight = averages[:, :-1, :probes], averages[:, :-1, probes:]
        scored = known * (weight[0] > _LEAST_WEIGHT)
        losses = self._losses(grads, squares, total, weight, scored).tolist()
        # The mean is over the gradients that count, so that the other gradients do not change the losses' scale.
        share = self.block * self.num_probes / max(float(scored.sum()), 1.0)
        decay = self._score_decay
        self._scores = [decay * score + share * loss for score, loss in zip(self._scores, losses, strict=True)]
        self._mean_half_life = self._mean()

    def diagnostics(self) -> dict[str, float]:
        """``bank_unbounded``: the half-life in updates before it is clipped to the bounds."""
        return {"bank_unbounded": self._mean_half_life}

    def _losses(self, grads: Tensor, squares: Tensor, total: Tensor, weight: Tensor, scored: Tensor) -> Tensor:
        """Losses of each half-life, summed over a block, shape ``(half-lives,)``.

        Args:
            grads: Gradients, 0 if unknown, shape ``(block, probes)``.
            squares: Squared gradients, same shape.
            total: Averages of the squares before each gradient, shape ``(half-lives, block, probes)``.
            weight: Weights of the known gradients in these averages, same shape as ``total``.
            scored: 1 if a gradient counts in the losses, else 0, shape ``(block, probes)``.
        """
        v = (total + _LEAST_WEIGHT) / (weight + _LEAST_WEIGHT)
        surprise = (squares / v).clamp_max_(self._LARGEST_SURPRISE).add_(v.log_())
        return surprise.flatten(1) @ scored.flatten() * 0.5

    def _mean(self) -> float:
        lowest = min(self._scores)
        weights = [math.exp(self._ETA * (lowest - score)) for score in self._scores]
        logs = [weight * math.log(h) for weight, h in zip(weights, self._HALF_LIVES, strict=True)]
        return math.exp(sum(logs) / sum(weights))

    def unbounded_half_life(self) -> float:
        """The weighted geometric mean of the half-lives, in updates, before it is clipped to the bounds."""
        return self._mean_half_life

    def export_state(self) -> dict[str, Any]:
        """Copy the averages and the scores."""
        return {"averages": self._averages.clone(), "scores": list(self._scores)}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Load an exported state."""
        self._averages, self._scores = state["averages"].double(), list(state["scores"])
        self._mean_half_life = self._mean()
