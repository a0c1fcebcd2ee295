"""Plots of schedules. matplotlib is imported only for a plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.rng import Floats, Ints, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette for color-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_POINTS = 2_000
_TITLE = 90
# Clock readings are below 2**62. A float has 53 binary digits, so this is the largest float below 2**62.
_LONGEST = 2.0**62 - 2.0**9


class Drawable(Protocol):
    """The part of a schedule that a plot needs."""

    @property
    def random(self) -> bool:
        """Whether the values depend on the key."""
        ...

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values at the given clock readings."""
        ...

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the value jumps."""
        ...

    def _plot_span(self) -> float:
        """Default length of a plot, in env steps from clock 0."""
        ...


def plot(schedule: Drawable, ax: "Axes | None" = None, *, until: float | None = None, seeds: int = 3) -> "Axes":
    """Plot a schedule. A random schedule is plotted with several seeds.

    Args:
        schedule: The schedule.
        ax: Matplotlib axes; None for the axes of a new pyplot figure.
        until: Last clock in env steps, >= 1; None for a length that shows the schedule's behavior.
        seeds: Number of seeds drawn for a random schedule, from seed 0 on, >= 1.

    Returns:
        The axes.

    Raises:
        ValueError: If ``until`` or ``seeds`` is out of range.
    """
    end = telling_span(schedule) if until is None else check_number("until", until, least=1)
    keys = [Key(seed) for seed in range(check_int("seeds", seeds, least=1))]
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
    draw(schedule, ax, end, keys)
    title = repr(schedule)
    ax.set_title(title if len(title) <= _TITLE else title[: _TITLE - 1] + "…", loc="left", fontsize=9)
    ax.set_ylabel("value")
    return ax


def telling_span(schedule: Drawable) -> float:
    """Default length of a schedule's plot, in env steps from clock 0."""
    return min(max(schedule._plot_span(), 1.0), _LONGEST)


def draw(schedule: Drawable, ax: "Axes", until: float, keys: Sequence[Key]) -> None:
    """Draw a schedule's values over the clock.

    Args:
        schedule: The schedule.
        ax: Matplotlib axes.
        until: Last clock in env steps.
        keys: Streams of random numbers, one for each line; a deterministic schedule is drawn once.
    """
    from matplotlib.ticker import EngFormatter

    shown = keys if schedule.random else keys[:1]
    for index, key in enumerate(shown):
        clocks, values = line(schedule, int(until), key)
        ax.plot(
            clocks,
            values,
            color=COLORS[index % len(COLORS)],
            linewidth=1.6 if index == 0 else 1.0,
            alpha=1.0 if index == 0 else 0.75,
            zorder=3 if index == 0 else 2,
            label=f"seed {key.seed}",
        )
    if len(shown) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    ax.set_xlim(0, until)
    ax.set_xlabel("env steps")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)


def line(schedule: Drawable, until: int, key: Key) -> tuple[Floats, Floats]:
    """Return the points of the line that shows a schedule, with a vertical segment at each jump.

    Args:
        schedule: The schedule.
        until: Last clock in env steps.
        key: Stream of random numbers.

    Returns:
        Clocks and values, of equal length; both ends of a vertical segment are at the clock of the jump.
    """
    clocks = np.unique(np.linspace(0, until, min(until + 1, _POINTS)).astype(np.int64))
    jumps = schedule.events(0, until, key)
    clocks = np.unique(np.concatenate([clocks, jumps]))
    # A vertical segment begins at the clock of its jump, with the value from one clock before.
    feet = jumps - 1
    asked = np.concatenate([feet, clocks])
    at = np.concatenate([jumps, clocks])
    order = np.argsort(at, kind="stable")
    return at[order].astype(np.float64), schedule.values(asked, key)[order]
