"""How many updates it takes to leave a saddle, steep along one axis and nearly flat along the other.

The surface is ``f(x, y) = (100 x**2 - b y**2) / 2``: x is the steep axis, y the way out, b its curvature.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.studies.frame import COLORS, Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import short
from rl_rms.studies.optimizers import Ladder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEEP = 100.0
MOST = 40_000
RATES = [float(f"{10**k:.3g}") for k in np.arange(-4.0, 0.6, 0.25)]
RIVALS = ("SGD", "momentum", "RMSprop", "Adam")
# It begins at x = HELD, and a rate at which the steep axis is not held is none: one that lets the root mean square
# of x over the last ten updates or so grow.
HELD = 0.1


def cells(quick: bool) -> Sequence[Cell]:
    """Curvature of the way out, where it begins, and the gradient's noise."""
    if quick:
        return grid(flat=[0.1], start=[1e-3], noise=[0.0, 10.0], by=RIVALS, most=[5_000])
    return [
        *grid(flat=[1.0, 0.1, 0.01, 0.001], start=[1e-3], noise=[0.0], by=RIVALS, most=[MOST]),
        *grid(flat=[0.01], start=[0.1], noise=[0.0], by=RIVALS, most=[MOST]),
        *grid(flat=[0.01], start=[1e-3], noise=[0.01, 0.1, 1.0, 10.0], by=RIVALS, most=[MOST]),
    ]


def descend(by: str, rates: list[float], *, flat: float, start: float, noise: float, most: int, seed: int) -> Any:
    """Points, shape ``(rates, 2)``, before every update, from (HELD, start) on."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = Ladder(by, rates)
    p = torch.tensor([[HELD, start]] * len(rates), dtype=torch.float64)
    curvature = torch.tensor([STEEP, -flat], dtype=torch.float64)
    for _ in range(most):
        yield p
        chance = torch.randn(2, generator=generator, dtype=torch.float64)
        p = optimizer.step(p, p * curvature + noise * chance)


def measure(seed: int, *, flat: float, start: float, noise: float, by: str, most: int) -> dict[str, Any]:
    """Updates until ``|y| > 1`` with x held, at the rate at which they are fewest; ``most`` if at none."""
    # Without noise all seeds are alike.
    steps, rate = _escape(seed if noise else 0, flat, start, noise, by, most)
    return {"steps": steps, "rate": rate}


@functools.cache
def _escape(seed: int, flat: float, start: float, noise: float, by: str, most: int) -> tuple[int, float]:
    square = torch.full((len(RATES),), HELD**2, dtype=torch.float64)
    for step, p in enumerate(descend(by, RATES, flat=flat, start=start, noise=noise, most=most, seed=seed)):
        square = 0.9 * square + 0.1 * p[:, 0].square()
        out = (p[:, 1].abs() > 1.0) & (square <= HELD**2)
        if bool(out.any()):
            return step, RATES[int(out.int().argmax())]
    return most, math.nan


def table(results: Results) -> Table:
    """Updates to escape, by surface and optimizer."""
    rows = []
    for flat, start, noise in dict.fromkeys((c["flat"], c["start"], c["noise"]) for c in results.cells):
        of = {"flat": flat, "start": start, "noise": noise}
        rows.append([f"b = {flat:g}, from {start:g}, noise {noise:g}", *(_told(results, by, of) for by in RIVALS)])
    return Table(["updates to leave the saddle", *RIVALS], rows)


def _told(results: Results, by: str, of: Cell) -> str:
    estimate = results.estimate("steps", by=by, **of)
    most = results.cells[results.where(by=by, **of)[0]]["most"]
    if estimate.middle >= most:
        return f"> {most:,}"
    return short(estimate.middle) if estimate.low == estimate.high else str(estimate)


def ratio(results: Results, rival: str = "SGD", **of: Any) -> float:
    """How many times as many updates a rival takes as RMSprop."""
    return results.estimate("steps", by=rival, **of).middle / results.estimate("steps", by="RMSprop", **of).middle


def verdict(results: Results) -> Verdict:
    """By the noise at which SGD is the faster one."""
    flat = min(results.levels("flat", noise=10.0))
    noises = sorted(results.levels("noise", flat=flat, start=1e-3))
    of = {"flat": flat, "start": 1e-3}
    ratios = {noise: ratio(results, noise=noise, **of) for noise in noises}
    lost = [noise for noise in noises if ratios[noise] < 1]
    faster = ", ".join(f"{short(ratios[noise])} at noise {noise:g}" for noise in noises)
    sentence = f"SGD takes, with b = {flat:g}, so many times RMSprop's updates: {faster}"
    if not lost:
        return Verdict("holds", f"{sentence}.")
    if len(lost) == len(noises):
        return Verdict("does not hold", f"{sentence}.")
    return Verdict("holds only if", f"gradients have little noise (below {min(lost):g} here). {sentence}.")


def draw(results: Results, figure: "Figure") -> None:
    """Trajectories without noise on the surface's contour; updates against noise."""
    left, right = figure.subplots(1, 2)
    flat = min(results.levels("flat", noise=10.0))
    x, y = np.meshgrid(np.linspace(-0.15, 0.15, 200), np.linspace(-0.1, 1.3, 200))
    left.contourf(x, y, np.cbrt(STEEP * x**2 - y**2), levels=20, cmap="Greys", alpha=0.5)
    rates = {"SGD": 0.018, "momentum": 0.03, "RMSprop": 0.03, "Adam": 0.03}
    for color, by in zip(COLORS, RIVALS, strict=False):
        way = descend(by, [rates[by]], flat=1.0, start=1e-3, noise=0.0, most=400, seed=0)
        points = np.array([p[0].numpy() for p in way])
        left.plot(*points.T, ".-", color=color, markersize=3, linewidth=0.8, label=f"{by}, {rates[by]:g}")
    left.set(xlim=(-0.15, 0.15), ylim=(-0.1, 1.3), xlabel="x, steep", ylabel="y, the way out")
    left.set_title("400 updates at a learning rate, b = 1", fontsize=9, loc="left")
    left.legend(fontsize=7, loc="lower right")
    noises = sorted(results.levels("noise", flat=flat, start=1e-3))
    for color, by in zip(COLORS, RIVALS, strict=False):
        told = [results.estimate("steps", by=by, flat=flat, start=1e-3, noise=noise) for noise in noises]
        middle = [one.middle for one in told]
        right.plot(range(len(noises)), middle, "o-", color=color, label=by)
        right.fill_between(
            range(len(noises)), [t.low for t in told], [t.high for t in told], color=color, alpha=0.2
        )
    right.set(yscale="log", xlabel="noise of the gradient", ylabel="updates to leave")
    right.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    right.set_title(f"at each one's best learning rate, b = {flat:g}", fontsize=9, loc="left")
    right.legend(fontsize=7)


STUDY = Study(
    name="saddle",
    claim="RMSprop scales each parameter's step by its own gradients, and so leaves saddles and plateaus far "
    "faster than SGD.",
    mechanism="The update itself: `rl_rms.RMSprop`, `rl_rms.update.rmsprop_update`.",
    setup="f(x, y) = (100 x² - b y²) / 2 from x = 0.1; updates until |y| > 1 while the steep axis is held (root "
    "mean square of x at most 0.1), at each optimizer's best learning rate out of nineteen, four a decade. "
    "RMSprop with rho = 0.99 and debias, torch's Adam and SGD, momentum 0.9.",
    caveat="Two parameters whose axes are the surface's: a rotated saddle takes the advantage away from every "
    "optimizer that goes by coordinate. RMSprop never settles in the steep axis; it cycles at about half the "
    "learning rate.",
    cells=cells,
    measure=measure,
    table=table,
    verdict=verdict,
    draw=draw,
)
