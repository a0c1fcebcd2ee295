"""Streams of gradients, and estimators that observe them."""

import torch

from rl_rms.optim.estimators import HalfLifeEstimator

WIDE = (1.0, 1e6)


def feed(estimator: HalfLifeEstimator, grads: torch.Tensor) -> HalfLifeEstimator:
    for start in range(0, len(grads) - estimator.block + 1, estimator.block):
        estimator.observe(grads[start : start + estimator.block])
    return estimator


def make(cls: type[HalfLifeEstimator], timescale: float = 50.0) -> HalfLifeEstimator:
    estimator = cls(bounds=WIDE)
    estimator.timescale = timescale
    return estimator


def gaussian(updates: int = 4000, probes: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(updates, probes, generator=torch.Generator().manual_seed(seed))


def telegraph(dwell: float, ratio: float = 25.0, updates: int = 6000, seed: int = 0) -> torch.Tensor:
    """Gradients with a common variance that switches between 1 and ``ratio``."""
    uniform = torch.rand(updates, 1, generator=torch.Generator().manual_seed(seed))
    upper = (uniform < 1 / dwell).cumsum(0) % 2
    return gaussian(updates, seed=seed + 1) * ratio ** (0.5 * upper)
