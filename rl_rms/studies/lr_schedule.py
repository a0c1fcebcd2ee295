"""Tests a periodic learning rate with several phases, while the gradient's noise has the same period.

The optimum ``x*`` performs a random walk, ``x*_{t+1} = x*_t + q N(0, 1)``. The gradient is
``x - x*_t + sigma_t N(0, 1)``. ``sigma_t`` and the learning rate are schedules of the library.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.envs.schedules import Key, Sinusoid
from rl_rms.studies.drawing import COLORS, draw_band
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile, interquartile_mean, listed
from rl_rms.studies.optimizers import Ladder, half_decades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COORDINATES = 50
WANDERING = 0.02
SWING = 0.9
RATES = half_decades(1e-3, 1.0)
PHASES = (0.0, 0.25, 0.5, 0.75)
IN, AGAINST = 0.0, 0.5
KINDS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "RMSprop, 4 updates": {"half_life": 4},
    "RMSprop, 69 updates": {"half_life": 69},
    "RMSprop, 1000 updates": {"half_life": 1_000},
}


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each optimizer and period."""
    if quick:
        return grid(by=["SGD", "RMSprop, 4 updates", "RMSprop, 69 updates"], period=[40])
    return grid(by=KINDS, period=[40, 400, 4_000])


def measure(seed: int, *, by: str, period: int) -> dict[str, Any]:
    """Measure mean and fluctuation of the squared distance from the optimum, both of shape ``(phases, rates)``."""
    updates = max(2_000, 3 * period)
    clocks, key = np.arange(updates), Key(seed=0, stream=0)
    sigma = torch.from_numpy(Sinusoid(1.0, SWING, period).values(clocks, key)).float()
    behind = [Sinusoid(1.0, SWING, period, -2 * math.pi * phase).values(clocks, key) for phase in PHASES]
    factors = torch.from_numpy(np.stack(behind, 1)).float().unsqueeze(-1)  # (updates, phases, 1)
    generator = torch.Generator().manual_seed(seed)
    ladder = Ladder(by.split(",", maxsplit=1)[0], RATES, **KINDS[by])
    optimum, x = torch.zeros(COORDINATES), torch.zeros(len(RATES), len(PHASES), COORDINATES)
    losses = []
    for update in range(updates):
        wandering, noise = torch.randn(2, COORDINATES, generator=generator)
        optimum = optimum + WANDERING * wandering
        off = x - optimum
        losses.append(off.square().mean(2))
        x = ladder.step(x, off + sigma[update] * noise, factors[update])
    late = torch.stack(losses[updates // 2 :]).double()
    return {"loss": late.mean(0).T.tolist(), "fluctuation": (late.std(0) / late.mean(0)).T.tolist()}


def at_best(results: Results, metric: str, phase: float, **which: Any) -> Floats:
    """Return a metric at the rate with the least loss, shape ``(seeds,)``."""
    number = PHASES.index(phase)
    best = int(np.nanargmin(results.values("loss", **which)[:, number].mean(0)))
    values: Floats = results.values(metric, **which)[:, number, best]
    return values


def ratio(results: Results, **which: Any) -> Estimate:
    """Return the loss with rate and noise in phase, divided by the loss in opposite phase, at the best rates."""
    return interquartile_mean(
        at_best(results, "loss", phase=IN, **which) / at_best(results, "loss", phase=AGAINST, **which)
    )


def tables(results: Results) -> Sequence[Table]:
    """Tabulate losses by phase, and the ratio of the loss in phase to the loss in opposite phase."""
    rows = []
    for by in results.levels("by"):
        for period in results.levels("period", by=by):
            of = {"by": by, "period": period}
            losses = [interquartile(at_best(results, "loss", phase=phase, **of)) for phase in PHASES]
            swings = [interquartile(at_best(results, "fluctuation", phase=p, **of)) for p in (IN, AGAINST)]
            rows.append(
                [
                    f"{by}, period {period:,}",
                    *(f"{loss:.3f}" for loss in losses),
                    str(ratio(results, **of)),
                    *(f"{swing:.2f}" for swing in swings),
                ]
            )
    behind = [f"loss at {360 * phase:.0f}°" for phase in PHASES]
    fluctuation = [f"fluctuation at {360 * phase:.0f}°" for phase in (IN, AGAINST)]
    return [Table(["optimizer and period in updates", *behind, "loss at 0° / loss at 180°", *fluctuation], rows)]


def verdict(results: Results) -> Verdict:
    """Judge whether the loss at 0° is significantly above the loss at 180°, for every optimizer and period."""
    ratios = {
        (by, period): ratio(results, by=by, period=period)
        for by in results.levels("by")
        for period in results.levels("period", by=by)
    }
    most, least = (choose(ratios, key=lambda key: ratios[key].middle) for choose in (max, min))
    extremes = " ".join(
        f"This ratio is {word} for {_in_words([by])} at period {period:,} ({ratios[by, period].middle:.2f})."
        for word, (by, period) in (("highest", most), ("lowest", least))
    )
    sentence = f"The claim implies that the ratio of the loss at 0° to the loss at 180° is above 1. {extremes}"
    beyond = [key for key, one in ratios.items() if one.low > 1]
    if len(beyond) == len(ratios):
        return Verdict("holds", sentence)
    if not beyond:
        return Verdict("does not hold", sentence)
    failed: dict[int, list[str]] = {}
    for by, period in ratios:
        if (by, period) not in beyond:
            failed.setdefault(period, []).append(by)
    lost = listed(f"at a period of {period:,} updates for {_in_words(names)}" for period, names in failed.items())
    return Verdict("conditional", sentence, f"except {lost}")


def _in_words(names: Sequence[str]) -> str:
    """Return optimizers in words, such as ``SGD and RMSprop with half-lives of 4 updates and 69 updates``."""
    half_lives = [by.removeprefix("RMSprop, ") for by in names if by.startswith("RMSprop")]
    found = [by for by in names if not by.startswith("RMSprop")]
    if half_lives:
        found.append(
            f"RMSprop with {'a half-life' if len(half_lives) == 1 else 'half-lives'} of {listed(half_lives)}"
        )
    return listed(found)


def draw(results: Results, figure: "Figure") -> None:
    """Draw loss over phase for each period."""
    periods = results.levels("period")
    for axis, period in zip(figure.subplots(1, len(periods), sharey=True, squeeze=False)[0], periods, strict=True):
        for color, by in zip(COLORS, results.levels("by"), strict=False):
            estimates = [
                interquartile_mean(at_best(results, "loss", by=by, period=period, phase=one)) for one in PHASES
            ]
            around = [*estimates, estimates[0]]
            degrees = [*(360 * phase for phase in PHASES), 360]
            draw_band(axis, degrees, around, color=color, markersize=4, label=by)
        axis.set_title(f"period {period:,} updates")
        axis.set_xticks([0, 90, 180, 270, 360])
        axis.set_xlabel("phase of the rate behind the noise, degrees")
    figure.axes[0].set_ylabel("loss at the best learning rate")
    figure.axes[0].legend()


STUDY = Study(
    name="lr_schedule",
    claim="A periodic learning rate interacts with periodic gradient noise. The loss is lower if the learning "
    "rate is high while the noise is low, and higher if the learning rate is high while the noise is high.",
    mechanism="The learning rate and the entropy coefficient of agents can be schedules, such as `Linear`, "
    "`Cosine` and `Sinusoid`. The study uses a `Sinusoid` for the learning rate and a `Sinusoid` for the noise.",
    setup=f"An optimizer follows an optimum in {COORDINATES} coordinates. In each update, every coordinate "
    f"of the optimum moves by a normal step of standard deviation {WANDERING:g}. The gradient is the "
    "difference from the optimum plus normal noise."
    f"\n\n- The standard deviation of the noise is 1 + {SWING:g} sin(2 pi t / period) in update t."
    "\n\n- The learning rate oscillates by the same factor, but 0, 90, 180 or 270 degrees behind the "
    "noise. At 0 degrees, the learning rate is high while the noise is high. At 180 degrees, the learning rate is "
    "high while the noise is low."
    "\n\n- A training run has at least 2,000 updates and at least three periods."
    "\n\n- The loss is the mean squared distance from the optimum per coordinate, in the second half of "
    "the training. The fluctuation is the standard deviation of the loss over time, divided by the mean of the "
    "loss."
    "\n\n- Each phase uses the best of seven mean learning rates.",
    caveat="In this study, the period and the phase of the noise are known. In reinforcement learning, the period "
    "and the phase would have to be estimated first. If RMSprop's half-life is much shorter than the period, "
    "RMSprop's denominator follows the noise. RMSprop's steps therefore already become shorter while the noise is "
    "high.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(11.0, 3.6),
)
