"""Drawing for figures: colors, estimates with intervals, bands, and image files."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_rms.envs.schedules import plotting
from rl_rms.studies.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = plotting.COLORS


def draw_estimates(axis: Any, at: Iterable[Any], estimates: Sequence[Estimate], **options: Any) -> None:
    """Draw estimates with their intervals, with the options of matplotlib's ``errorbar``."""
    middles = [one.middle for one in estimates]
    # errorbar rejects lengths below 0. With few seeds, a rounding error may put the middle outside the interval.
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


def figure_bytes(figure: "Figure", kind: str, **options: Any) -> bytes:
    """Return a figure as the content of a png, svg or pdf file. Equal figures give equal content.

    ``options`` are other arguments of `matplotlib.figure.Figure.savefig`.
    """
    import matplotlib as mpl

    file = BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with mpl.rc_context({"svg.hashsalt": "rl_rms"}):
        figure.savefig(file, format=kind, metadata=undated.get(kind), **options)
    return file.getvalue()
