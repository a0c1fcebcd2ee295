"""Drawing for the figures of the studies: colors, estimates with intervals, and bands."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rl_rms.studies.intervals import Estimate

# Okabe and Ito's palette, which color-blind readers tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw_estimates(axis: Any, at: Iterable[Any], estimates: Sequence[Estimate], **options: Any) -> None:
    """Draw estimates with their intervals, with the options of matplotlib's ``errorbar``."""
    middles = [one.middle for one in estimates]
    # Of few seeds the middle may lie outside by a rounding error.
    spread = np.maximum([[m - one.low, one.high - m] for m, one in zip(middles, estimates, strict=True)], 0.0).T
    axis.errorbar(list(at), middles, spread, **{"fmt": "o", **options})


def draw_band(
    axis: Any, at: Iterable[Any], estimates: Sequence[Estimate], style: str = "o-", **options: Any
) -> None:
    """Draw a line through estimates and a band of their intervals, with the options of matplotlib's ``plot``."""
    at = list(at)
    (line,) = axis.plot(at, [one.middle for one in estimates], style, **options)
    low, high = [one.low for one in estimates], [one.high for one in estimates]
    axis.fill_between(at, low, high, color=line.get_color(), alpha=0.2)
