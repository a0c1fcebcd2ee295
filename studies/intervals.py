"""How sure a score is that several seeds gave: interquartile mean and bootstrap interval, by the field's library.

Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021.
"""

import functools
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """An interquartile mean over seeds and the ends of its 95 % interval."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """As a table's cell, such as ``12.3 (11.0 to 14.2)``."""
        return f"{short(self.middle)} ({short(self.low)} to {short(self.high)})"


def interquartile_mean(scores: ArrayLike) -> Estimate:
    """Interquartile mean of scores and its 95 % interval by rliable's bootstrap, the same each time.

    Args:
        scores: One for each seed, shape ``(seeds,)``.
    """
    return _interval(tuple(np.asarray(scores, dtype=np.float64).tolist()))


@functools.lru_cache(maxsize=4_096)  # a table is made for the terminal, the page and TensorBoard
def _interval(scores: tuple[float, ...]) -> Estimate:
    from rliable import library, metrics

    # rliable draws from numpy's global generator, whatever state it is given.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it hands the state on by a name that ends one day
            point, interval = library.get_interval_estimates(
                {"": np.array(scores)[:, None]}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=2_000
            )
    finally:
        np.random.set_state(state)  # noqa: NPY002
    low, high = interval[""][:, 0]
    return Estimate(float(point[""][0]), float(low), float(high))


def short(number: float) -> str:
    """Three digits, with a thousand's comma, and none behind the point of large numbers."""
    if not np.isfinite(number):
        return str(number)
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}" if abs(number) < 1e7 else f"{number:.2g}"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.1e}"
