"""Interquartile means and bootstrap intervals of the scores of several seeds.

Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """An aggregate of several seeds' scores, such as the interquartile mean, and the ends of its 95 % interval."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """The estimate as a table cell: ``12.3 (11 to 14.2)``, or ``12.3 (one seed)`` if the ends are nan."""
        if np.isfinite(self.middle) and np.isnan(self.low) and np.isnan(self.high):
            return f"{short(self.middle)} (one seed)"
        return f"{short(self.middle)} ({short(self.low)} to {short(self.high)})"


def trimmed_mean(values: Floats) -> Floats:
    """Mean over the first axis of the middle half of the values; nan if a value is nan.

    A bootstrap calls this function thousands of times, and ``scipy.stats.trim_mean`` takes ten times as long.
    """
    cut = len(values) // 4
    last = len(values) - cut - 1
    middle: Floats = np.partition(values, (cut, last), axis=0)[cut : last + 1].mean(axis=0)
    return np.where(np.isnan(values).any(axis=0), np.nan, middle)


def interquartile(values: Floats) -> float:
    """Compute the interquartile mean without an interval; nan counts as infinity."""
    return float(trimmed_mean(np.nan_to_num(values, nan=np.inf)))


def interquartile_mean(scores: ArrayLike) -> Estimate:
    """Compute the interquartile mean of scores and its 95 % interval by rliable's bootstrap, with a fixed seed.

    Args:
        scores: One score per seed, shape ``(seeds,)``. With a single seed, the ends of the interval are nan.
    """
    return _estimate(tuple(np.asarray(scores, dtype=np.float64).tolist()))


# Tables, verdict and figure need the same estimates, and a bootstrap is slow.
@functools.lru_cache(maxsize=4_096)
def _estimate(of_seeds: tuple[float, ...]) -> Estimate:
    return estimate(np.array(of_seeds)[:, None], lambda drawn: float(trimmed_mean(drawn[:, 0])))


def estimate(scores: Floats, aggregate: Callable[[Floats], float]) -> Estimate:
    """Compute an aggregate of scores, and its 95 % interval by rliable's bootstrap.

    Args:
        scores: A column for each setting, shape ``(seeds, settings)``. The bootstrap draws whole rows. With a
            single row, the ends of the interval are nan.
        aggregate: Function that computes a number from scores of shape ``(seeds, settings)``.
    """
    if len(scores) == 1:
        return Estimate(float(aggregate(scores)), np.nan, np.nan)
    middle, low, high = _bootstrap(scores, lambda drawn: np.array([aggregate(drawn)]))
    return Estimate(float(middle[0]), float(low[0]), float(high[0]))


def probability_of_improvement(scores: ArrayLike, reference: ArrayLike) -> Estimate:
    """Estimate the probability that a score exceeds a score of the reference, with its 95 % interval.

    A tie counts as one half.

    Args:
        scores: One score per seed, shape ``(seeds,)``.
        reference: Scores to compare with, shape ``(other seeds,)``.
    """
    columns = [np.asarray(one, dtype=np.float64)[:, None] for one in (scores, reference)]
    middle, low, high = _intervals(columns, lambda *drawn: np.array([_improvement(*drawn)]))
    return Estimate(float(middle[0]), float(low[0]), float(high[0]))


def _improvement(scores: Floats, reference: Floats) -> float:
    return float(np.mean((scores > reference.T) + 0.5 * (scores == reference.T)))


def interquartile_curve(scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Interquartile mean over seeds at each point of a curve, and the ends of its 95 % band.

    Args:
        scores: Scores of shape ``(seeds, points)``; the bootstrap draws whole rows.

    Returns:
        Interquartile mean, lower end and upper end of the band, each of shape ``(points,)``.
    """
    return _curve(tuple(map(tuple, np.asarray(scores, dtype=np.float64).tolist())))


@functools.lru_cache(maxsize=64)
def _curve(of_seeds: tuple[tuple[float, ...], ...]) -> tuple[Floats, Floats, Floats]:
    return _bootstrap(np.array(of_seeds), trimmed_mean)


def _bootstrap(scores: Floats, aggregate: Callable[[Floats], Floats]) -> tuple[Floats, Floats, Floats]:
    rows = np.arange(len(scores), dtype=np.float64)[:, None]
    return _intervals(rows, lambda drawn: aggregate(scores[drawn[:, 0].astype(np.int64)]))


def _intervals(scores: Any, aggregate: Callable[..., Floats]) -> tuple[Floats, Floats, Floats]:
    from rliable import library

    # rliable accepts a random state, but draws from NumPy's global random generator.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        point, interval = library.get_interval_estimates({"": scores}, aggregate, reps=2_000)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return point[""], interval[""][0], interval[""][1]


def short(number: float) -> str:
    """Format a number according to its magnitude.

    The text of a magnitude from 0.001 to 100 has at most three significant digits. A magnitude from 100 to 1e7
    becomes a whole number with commas. Other finite numbers except 0 have two significant digits.
    """
    if not np.isfinite(number):
        return str(number)
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}" if abs(number) < 1e7 else f"{number:.2g}"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.1e}"


def listed(texts: Iterable[str]) -> str:
    """Join texts with commas and "and"."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
