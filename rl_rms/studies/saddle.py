"""Counts the updates to leave a saddle that is steep along one axis and nearly flat along the other.

The surface is ``f(x, y) = (100 x**2 - b y**2) / 2``: x is the steep axis, y is the flat axis, and b is the
curvature of the flat axis.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rl_rms.studies.drawing import COLORS, draw_band
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import short
from rl_rms.studies.optimizers import Ladder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEEP = 100.0
MOST = 40_000
RATES = [float(f"{10**k:.3g}") for k in np.arange(-4.0, 0.6, 0.25)]
RIVALS = ("SGD", "momentum", "RMSprop", "Adam")
# The bound on x. x starts at its bound, and an escape counts only while the root mean square of x over about ten
# updates is at most the bound.
HOLD = 0.1
SURFACE: tuple[str, ...] = ("flat", "start", "noise", "hold")
# Smallest ratio of SGD's updates to RMSprop's updates that counts as far faster.
FAR = 2.0
NOISES = [0.0, 0.01, 0.1, 1.0, 10.0]


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells by optimizer, curvature and start of the flat axis, noise, and bound on x."""
    if quick:
        return grid(flat=[0.1], start=[1e-3], noise=[0.0, 10.0], hold=[HOLD, HOLD / 10], by=RIVALS, most=[5_000])
    return [
        *grid(flat=[1.0, 0.1], start=[1e-3], noise=[0.0], hold=[HOLD], by=RIVALS, most=[MOST]),
        *grid(flat=[0.01], start=[0.1], noise=[0.0], hold=[HOLD], by=RIVALS, most=[MOST]),
        *grid(flat=[0.01], start=[1e-3], noise=NOISES, hold=[HOLD, HOLD / 10], by=RIVALS, most=[MOST]),
    ]


def descend(
    by: str, rates: list[float], *, flat: float, start: float, noise: float, hold: float, most: int, seed: int
) -> Iterator[Tensor]:
    """Yield the points before each update, shape ``(rates, 2)``. The first point is (hold, start)."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = Ladder(by, rates)
    p = torch.tensor([[hold, start]] * len(rates), dtype=torch.float64)
    curvature = torch.tensor([STEEP, -flat], dtype=torch.float64)
    for _ in range(most):
        yield p
        draw = torch.randn(2, generator=generator, dtype=torch.float64)
        p = optimizer.step(p, p * curvature + noise * draw)


def measure(
    seed: int, *, flat: float, start: float, noise: float, hold: float, by: str, most: int
) -> dict[str, float]:
    """Return the fewest updates until ``|y| > 1`` while x is within ``hold``, and their learning rate.

    If every learning rate needs ``most`` updates or more, the number is ``most``, and the learning rate is nan.
    """
    # Without noise, the result does not depend on the seed.
    steps, rate = _escape(seed if noise else 0, flat, start, noise, hold, by, most)
    return {"steps": steps, "rate": rate}


@functools.cache
def _escape(
    seed: int, flat: float, start: float, noise: float, hold: float, by: str, most: int
) -> tuple[int, float]:
    square = torch.full((len(RATES),), hold**2, dtype=torch.float64)
    for step, p in enumerate(
        descend(by, RATES, flat=flat, start=start, noise=noise, hold=hold, most=most, seed=seed)
    ):
        square = 0.9 * square + 0.1 * p[:, 0].square()
        out = (p[:, 1].abs() > 1.0) & (square <= hold**2)
        if bool(out.any()):
            return step, RATES[int(out.int().argmax())]
    return most, math.nan


def tables(results: Results) -> Sequence[Table]:
    """Tabulate the updates to leave the saddle, by surface and optimizer."""
    rows = []
    for values in dict.fromkeys(tuple(cell[one] for one in SURFACE) for cell in results.cells):
        of = dict(zip(SURFACE, values, strict=True))
        rows.append(
            [
                f"b = {of['flat']:g}, y from {of['start']:g}, noise {of['noise']:g}, bound on x {of['hold']:g}",
                *(_steps(results, by, of) for by in RIVALS),
            ]
        )
    return [Table(["updates until y has left the saddle", *RIVALS], rows)]


def _steps(results: Results, by: str, of: Cell) -> str:
    estimate = results.estimate("steps", by=by, **of)
    most = results.cells[results.where(by=by, **of)[0]]["most"]
    if estimate.middle >= most:
        return f"> {most:,}"
    return short(estimate.middle) if estimate.low == estimate.high else str(estimate)


def ratio(results: Results, rival: str = "SGD", **of: Any) -> float:
    """Return updates of a rival divided by updates of RMSprop."""
    return results.middle("steps", by=rival, **of) / results.middle("steps", by="RMSprop", **of)


def verdict(results: Results) -> Verdict:
    """Judge whether RMSprop is far faster than SGD at every noise level and with every bound on x."""
    flat = min(results.levels("flat", noise=10.0))
    of = {"flat": flat, "start": 1e-3}
    texts, lost, count = [], [], 0
    for hold in results.levels("hold", **of):
        ratios = {n: ratio(results, noise=n, hold=hold, **of) for n in results.levels("noise", hold=hold, **of)}
        ends = " and ".join(
            f"{short(ratios[noise])} times as many updates as RMSprop if the noise is {noise:g}"
            for noise in (min(ratios), max(ratios))
        )
        texts.append(f"With b = {flat:g} and a bound of {hold:g} on x, SGD needs {ends}.")
        lost += [
            f"gradient noise {noise:g} and a bound of {hold:g} on the steep axis x"
            for noise, one in ratios.items()
            if one < FAR
        ]
        count += len(ratios)
    sentence = " ".join(texts)
    if not lost:
        return Verdict("holds", sentence)
    if len(lost) == count:
        return Verdict("does not hold", sentence)
    return Verdict("conditional", sentence, f"except with {' and '.join(lost)}")


def draw(results: Results, figure: "Figure") -> None:
    """Draw trajectories without noise on the contour of the surface, and updates over noise."""
    left, right = figure.subplots(1, 2)
    flat = min(results.levels("flat", noise=10.0))
    x, y = np.meshgrid(np.linspace(-0.15, 0.15, 200), np.linspace(-0.1, 1.3, 200))
    left.contourf(x, y, np.cbrt(STEEP * x**2 - y**2), levels=20, cmap="Greys", alpha=0.5)
    rates = {"SGD": 0.018, "momentum": 0.03, "RMSprop": 0.03, "Adam": 0.03}
    for color, by in zip(COLORS, RIVALS, strict=False):
        way = descend(by, [rates[by]], flat=1.0, start=1e-3, noise=0.0, hold=HOLD, most=400, seed=0)
        points = np.array([p[0].numpy() for p in way])
        left.plot(*points.T, ".-", color=color, markersize=3, linewidth=0.8, label=f"{by}, {rates[by]:g}")
    left.set(xlim=(-0.15, 0.15), ylim=(-0.1, 1.3), xlabel="x, steep", ylabel="y, flat")
    left.set_title("400 updates at the given learning rates, b = 1")
    left.legend(loc="lower right")
    of = {"flat": flat, "start": 1e-3}
    noises = results.levels("noise", **of)
    for hold in results.levels("hold", **of):
        for color, by in zip(COLORS, RIVALS, strict=False):
            estimates = [results.estimate("steps", by=by, noise=noise, hold=hold, **of) for noise in noises]
            line, name = ("o-", by) if hold == HOLD else ("o:", None)
            draw_band(right, range(len(noises)), estimates, line, color=color, label=name)
    right.set(yscale="log", xlabel="standard deviation of the noise", ylabel="updates until |y| > 1")
    right.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    right.set_title(f"best learning rates, b = {flat:g}; dotted: bound on x {HOLD / 10:g}")
    right.legend()


STUDY = Study(
    name="saddle",
    claim="RMSprop divides each parameter's gradient by the root mean square of that parameter's recent "
    "gradients. RMSprop therefore leaves saddles and plateaus far faster than SGD.",
    mechanism="The study uses `rl_rms.RMSprop`.",
    setup="The function is f(x, y) = (100 x² - b y²) / 2, with a saddle at (0, 0). An optimizer gets the "
    "gradient of f plus normal noise of a given standard deviation."
    "\n\n- The first column of the table gives b, the start of y, the standard deviation of the noise, and the "
    "bound on x. x starts at this bound."
    "\n\n- The study counts the updates until |y| > 1 while x is within the bound. x is within the bound if "
    "its root mean square over about ten updates is at most the bound."
    f"\n\n- Each optimizer and seed uses the fastest of {len(RATES)} learning rates, four per decade. A "
    f"training run has at most {MOST:,} updates."
    "\n\n- RMSprop has rho = 0.99 and bias correction. SGD and Adam are the optimizers of torch. The column "
    "`momentum` is SGD with momentum 0.9.",
    caveat="The two parameters are aligned with the axes of the surface. On a rotated saddle, optimizers that "
    "scale each coordinate can lose their advantage over SGD. On the steep axis x, RMSprop does not converge, but "
    "oscillates with an amplitude of about half the learning rate. The bound on x therefore limits the "
    "learning rate and the speed of RMSprop. In this study, far faster means at least twice as fast. The "
    "threshold of two was chosen after the results were known.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
)
