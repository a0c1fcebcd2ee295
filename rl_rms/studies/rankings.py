"""Statistics of rankings: Kendall's tau, its value between two halves of the seeds, and the regret of a choice."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DRAWS = 2_000
_SPLITS = 200


def tau(one: Floats, other: Floats) -> float:
    """Compute Kendall's tau-b of two rankings: 1 for the same, about 0 for unrelated, -1 for reversed rankings.

    Args:
        one: Scores that give the first ranking, shape ``(networks,)``.
        other: Scores that give the second ranking, shape ``(networks,)``.

    Returns:
        Tau; nan if all scores of a ranking are equal, or if a score is nan.
    """
    first, second = (
        np.greater.outer(scores, scores).astype(int) - np.less.outer(scores, scores) for scores in (one, other)
    )
    untied = [np.count_nonzero(signs) / 2 for signs in (first, second)]
    if 0 in untied or np.isnan(one).any() or np.isnan(other).any():
        return np.nan
    agreements = (first * second).sum() / 2
    return float(np.clip(agreements / np.sqrt(untied[0]) / np.sqrt(untied[1]), -1, 1))


def agreement(one: Floats, other: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
    """Compute tau between two rankings by mean score, and its 95 % bootstrap interval over seeds.

    Args:
        one: Scores of shape ``(networks, seeds)``.
        other: Scores of shape ``(networks, seeds)``.
        rng: Source of random numbers.
    """
    drawn = []
    for _ in range(_DRAWS):
        means = [scores[:, rng.integers(scores.shape[1], size=scores.shape[1])].mean(1) for scores in (one, other)]
        drawn.append(tau(means[0], means[1]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return tau(one.mean(1), other.mean(1)), float(low), float(high)


def noise_floor(scores: Floats, rng: np.random.Generator) -> float:
    """Compute tau between the rankings of two halves of the seeds, averaged over random splits.

    Args:
        scores: Shape ``(networks, seeds)``.
        rng: Source of random numbers.
    """
    half = scores.shape[1] // 2
    found = []
    for _ in range(_SPLITS):
        order = rng.permutation(scores.shape[1])
        found.append(tau(scores[:, order[:half]].mean(1), scores[:, order[half : 2 * half]].mean(1)))
    return float(np.nanmean(found))


def regret(scores: Floats, chosen: int) -> tuple[float, float, float]:
    """Compute how far a network scores below the best network, with Student's 95 % interval over seeds.

    Args:
        scores: Shape ``(networks, seeds)``.
        chosen: The network's row.
    """
    from scipy.stats import t

    difference = scores[scores.mean(1).argmax()] - scores[chosen]
    mean = float(difference.mean())
    margin = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference)))
    return mean, mean - margin, mean + margin
