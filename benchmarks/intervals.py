"""How sure the benchmarks are of their scores, by the field's library for that (the extra ``plots``)."""

import warnings

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def interquartile_mean(scores: Floats) -> tuple[float, float, float]:
    """Interquartile mean of scores, ``(seeds,)``, and its 95 % interval by rliable's bootstrap."""
    from rliable import library, metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # rliable hands the state on by a name that ends one day
        point, interval = library.get_interval_estimates(
            {"": scores[:, None]},
            lambda x: np.array([metrics.aggregate_iqm(x)]),
            reps=2_000,
            random_state=np.random.RandomState(0),  # so that a table is the same each time
        )
    low, high = interval[""][:, 0]
    return float(point[""][0]), float(low), float(high)
