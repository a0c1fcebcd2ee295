"""Interquartile means and bootstrap intervals of the scores of several seeds.

Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_DRAWS = 2_000


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


def trimmed_mean(values: Floats, axis: int = 0) -> Floats:
    """Mean over an axis of the middle half of the values; nan if a value is nan.

    A bootstrap needs thousands of these means, and ``scipy.stats.trim_mean`` takes ten times as long.
    """
    number = values.shape[axis]
    cut = number // 4
    parts = np.partition(values, (cut, number - cut - 1), axis)
    middle: Floats = parts.take(range(cut, number - cut), axis).mean(axis)
    return np.where(np.isnan(values).any(axis), np.nan, middle)


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
    scores = np.array(of_seeds)
    if len(scores) == 1:
        return Estimate(float(scores[0]), np.nan, np.nan)
    (rows,) = _draws(len(scores))
    return Estimate(float(trimmed_mean(scores)), *_interval(trimmed_mean(scores[rows], axis=1)))


def estimate(scores: Floats, aggregate: Callable[[Floats], float]) -> Estimate:
    """Compute an aggregate of scores, and its 95 % interval by rliable's bootstrap.

    Args:
        scores: A column for each setting, shape ``(seeds, settings)``. The bootstrap draws whole rows. With a
            single row, the ends of the interval are nan.
        aggregate: Function that computes a number from scores of shape ``(seeds, settings)``.
    """
    if len(scores) == 1:
        return Estimate(float(aggregate(scores)), np.nan, np.nan)
    (rows,) = _draws(len(scores))
    return Estimate(float(aggregate(scores)), *_interval(np.array([aggregate(scores[row]) for row in rows])))


def probability_of_improvement(scores: ArrayLike, reference: ArrayLike) -> Estimate:
    """Estimate the probability that a score exceeds a score of the reference, with its 95 % interval.

    A tie counts as one half. The result is nan if a score is nan.

    Args:
        scores: One score per seed, shape ``(seeds,)``.
        reference: Scores to compare with, shape ``(other seeds,)``.
    """
    ours, others = (np.asarray(one, dtype=np.float64) for one in (scores, reference))
    pairs = np.greater.outer(ours, others) + 0.5 * np.equal.outer(ours, others)
    pairs[np.logical_or.outer(np.isnan(ours), np.isnan(others))] = np.nan
    rows, columns = _draws(len(ours), len(others))
    drawn = pairs[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return Estimate(float(pairs.mean()), *_interval(drawn))


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
    scores = np.array(of_seeds)
    (rows,) = _draws(len(scores))
    low, high = _interval(np.array([trimmed_mean(scores[row]) for row in rows]))
    return trimmed_mean(scores), low, high


def _interval(drawn: Floats) -> Any:
    """Ends of the 95 % interval of the aggregates of all draws."""
    tail = (1 - 0.95) / 2
    return np.percentile(drawn, [100 * tail, 100 * (1 - tail)], axis=0)


@functools.lru_cache(maxsize=256)
def _draws(*numbers: int) -> tuple[NDArray[np.int64], ...]:
    """For each sample, the rows that rliable's bootstrap draws, shape ``(draws, rows)``.

    Args:
        *numbers: Number of rows of each sample.
    """
    from rliable import library

    drawn: list[list[NDArray[np.int64]]] = []

    def record(*samples: NDArray[np.int64]) -> Floats:
        drawn.append([sample[:, 0] for sample in samples])
        return np.zeros(1)

    samples = [np.arange(number)[:, None] for number in numbers]
    scores: dict[str, Any] = {"": samples if len(samples) > 1 else samples[0]}
    # rliable accepts a random state, but draws from NumPy's global random generator.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        library.get_interval_estimates(scores, record, reps=_DRAWS)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    # rliable calls the function before the draws with all rows.
    return tuple(np.array(rows) for rows in zip(*drawn[-_DRAWS:], strict=True))


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
