"""Drawing for the figures of the studies: colors, estimates with intervals, and bands."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rl_rms.envs.schedules import plotting
from rl_rms.studies.intervals import Estimate

COLORS = plotting.COLORS


def draw_estimates(axis: Any, at: Iterable[Any], estimates: Sequence[Estimate], **options: Any) -> None:
    """Draw estimates with their intervals, with the options of matplotlib's ``errorbar``."""
    middles = [one.middle for one in estimates]
    # With few seeds, a rounding error may put the middle outside the interval.
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
