"""Measures how long RMSprop's second moment v lags behind a curriculum, and which half-life has the best return.

v has adapted when root v is within 10 % of the gradients' new standard deviation. If gradients become R times as
large and R is large, v adapts in ``t = 1.66 / (1 - rho)`` updates, the solution of ``1 - rho**t = 0.81``. If
gradients become smaller by the factor R, t solves ``rho**t (R**2 - 1) = 0.21`` and grows with log R.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.studies.drawing import COLORS, draw_estimates
from rl_rms.studies.episodes import NOT_NORMALIZED, episode_returns
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import interquartile, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COORDINATES = 2_000
CLOSE = 0.1
RHOS = (0.9, 0.97, 0.99, 0.997, 0.999)
RATIOS = (4.0, 100.0)
HALF_LIVES = (7, 69, 700)
RATES = (1e-3, 3e-3)
NUM_STEPS = 60_000
STAGES = [{"length": length} for length in (1.0, 0.5, 0.25, 0.12)]


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells for streams of gradients, and in a full study for A2C in a curriculum."""
    if quick:
        return grid(rho=[0.9, 0.97, 0.99], ratio=[4.0, 0.25, 100.0, 0.01])
    streams = grid(rho=RHOS, ratio=[ratio**sign for ratio in RATIOS for sign in (1, -1)])
    return [*streams, *grid(half_life=HALF_LIVES, rate=RATES)]


def measure(seed: int, **cell: Any) -> dict[str, float]:
    """Measure a stream of gradients or a training run."""
    return _stream(seed, **cell) if "rho" in cell else _training(seed, **cell)


def _stream(seed: int, rho: float, ratio: float) -> dict[str, float]:
    """Change the standard deviation of gradients once, and measure how v adapts.

    Returns:
        ``updates``: updates from the change on until v has adapted. ``first``: root mean square of the first step
            after the change. After v has adapted, the root mean square of a step is about 1.
    """
    generator = torch.Generator().manual_seed(seed)
    param = torch.zeros(COORDINATES, requires_grad=True)
    optimizer = RMSprop([param], lr=1.0, rho=rho, bias_correction=True, eps=0.0)
    memory = 1 / (1 - rho)
    before, most = int(5 * memory), int((3 + 2 * abs(math.log(ratio))) * memory)
    first, adapted = math.nan, most
    for update in range(before + most):
        size = ratio if update >= before else 1.0
        was = param.detach().clone()
        param.grad = size * torch.randn(COORDINATES, generator=generator)
        optimizer.step()
        if update == before:
            first = float((param.detach() - was).square().mean().sqrt())
        if update >= before:
            root = float(optimizer.state[param]["square_avg"].mean().sqrt()) / size
            if 1 - CLOSE <= root <= 1 + CLOSE:
                adapted = update - before + 1
                break
    return {"updates": adapted, "first": first}


def _training(seed: int, half_life: float, rate: float) -> dict[str, float]:
    """Train A2C in a curriculum, and return the mean return and the stage at the end."""
    env = make_vec("CartPole-v1", 16, curriculum=Staged(STAGES, threshold=100, window=30), seed=seed)
    options = {"n_steps": 8, "gae_lambda": 0.95, "ent_coef": 0.0, **NOT_NORMALIZED}
    agent = A2C(env, half_life=half_life, learning_rate=rate, seed=seed, device="cpu", **options)
    returns = episode_returns(agent, NUM_STEPS)
    assert env.curriculum is not None
    return {"return": float(np.mean(returns)), "stage": float(env.curriculum.stage)}


def slope(results: Results, ratio: float) -> float:
    """Fit a line through 0 to the adaptation time as a function of ``1 / (1 - rho)``, and return its slope."""
    rhos = results.levels("rho", ratio=ratio)
    memories = np.array([1 / (1 - rho) for rho in rhos])
    times = np.array([interquartile(results.values("updates", rho=rho, ratio=ratio)) for rho in rhos])
    return float(memories @ times / (memories @ memories))


def expected(ratio: float) -> float:
    """Return the theoretical slope for rho near 1. For growing gradients, the theory assumes a large ratio."""
    return -math.log(1 - (1 - CLOSE) ** 2) if ratio > 1 else math.log((ratio**-2 - 1) / ((1 + CLOSE) ** 2 - 1))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate adaptation times and slopes by ratio and rho, then returns by half-life."""
    rhos = results.levels("rho")
    rows = []
    for ratio in results.levels("ratio"):
        times = [results.middle("updates", rho=rho, ratio=ratio) for rho in rhos]
        first = results.middle("first", rho=rhos[-1], ratio=ratio)
        slopes = f"{slope(results, ratio):.2f} ({expected(ratio):.2f})"
        rows.append([f"gradients x {ratio:g}", *(short(time) for time in times), slopes, short(first)])
    header = [f"rho {rho:g}" for rho in rhos]
    streams = Table(["updates until v has adapted", *header, "slope (theory)", "first step / adapted step"], rows)
    if not results.levels("half_life"):
        return [streams]
    trained = []
    for half_life in results.levels("half_life"):
        of = {"half_life": half_life, "rate": _rate(results, half_life)}
        values = [str(results.estimate(metric, **of)) for metric in ("return", "stage")]
        trained.append([f"{half_life} updates", f"{of['rate']:g}", *values])
    return [streams, Table(["half-life of A2C", "learning rate", "mean return", "stage at the end"], trained)]


def verdict(results: Results) -> Verdict:
    """Judge the claim by how much the slope depends on the ratio, for growing and for shrinking gradients."""
    ratios = results.levels("ratio")
    up = [slope(results, ratio) for ratio in ratios if ratio > 1]
    down = {ratio: slope(results, ratio) for ratio in ratios if ratio < 1}
    shrinking = " ".join(
        f"After gradients are multiplied by {ratio:g}, v adapts in {found:.1f} / (1 - rho) updates."
        for ratio, found in down.items()
    )
    grown = " or ".join(f"{ratio:g}" for ratio in ratios if ratio > 1)
    growing = (
        f"After gradients are multiplied by {grown}, v adapts in {min(up):.2f} / (1 - rho) to "
        f"{max(up):.2f} / (1 - rho) updates."
    )
    returns = ""
    if results.levels("half_life"):
        by_half_life = {
            h: results.middle("return", half_life=h, rate=_rate(results, h)) for h in results.levels("half_life")
        }
        best, worst = (choose(by_half_life, key=by_half_life.__getitem__) for choose in (max, min))
        returns = (
            f" In the curriculum, the mean return of A2C is highest with a half-life of {best} updates "
            f"({short(by_half_life[best])}), and lowest with {worst} updates ({short(by_half_life[worst])})."
        )
    if max(up) / min(up) > 1.5:
        return Verdict("does not hold", f"{growing} {shrinking}{returns}")
    if max(down.values()) > 1.5 * min(down.values()):
        sentence = f"{growing} {shrinking}{returns}"
        return Verdict("conditional", sentence, "if gradients grow")
    return Verdict("holds", f"{growing} {shrinking}{returns}")


def _rate(results: Results, half_life: float) -> float:
    rate: float = results.best("return", "rate", highest=True, half_life=half_life)
    return rate


def draw(results: Results, figure: "Figure") -> None:
    """Plot the adaptation time against ``1 / (1 - rho)``, and the return of A2C against the half-life."""
    half_lives = results.levels("half_life")
    axes = figure.subplots(1, 1 + bool(half_lives), squeeze=False)[0]
    for color, ratio in zip(COLORS, results.levels("ratio"), strict=False):
        memories = np.array([1 / (1 - rho) for rho in results.levels("rho")])
        times = [results.middle("updates", rho=rho, ratio=ratio) for rho in results.levels("rho")]
        axes[0].plot(memories, times, "o", color=color, label=f"gradients x {ratio:g}")
        axes[0].plot(memories, expected(ratio) * memories, color=color, linewidth=0.8)
    axes[0].set(xscale="log", yscale="log", xlabel="1 / (1 - rho)", ylabel="updates until v has adapted")
    axes[0].set_title("dots: measured; lines: theory")
    axes[0].legend()
    if half_lives:
        estimates = [results.estimate("return", half_life=h, rate=_rate(results, h)) for h in half_lives]
        draw_estimates(axes[1], half_lives, estimates, fmt="o-", color=COLORS[0])
        axes[1].set(xscale="log", xlabel="half-life in updates", ylim=(0, None))
        axes[1].set_ylabel("mean return of A2C in the curriculum")


STUDY = Study(
    name="curriculum",
    claim="In a curriculum, each update multiplies the weight of the easy phase's gradients in RMSprop's second "
    "moment v by rho. RMSprop therefore adapts to a new phase in about 1 / (1 - rho) updates.",
    mechanism="`rl_rms.envs.curricula.Staged` is a curriculum with stages in a fixed order. In TensorBoard, "
    "`optim/tracking_ratio` shows how far v lags behind the squared gradients.",
    setup=f"In the first experiment, the gradients of {COORDINATES:,} coordinates are normally distributed. "
    "The standard deviation of the gradients changes once, by a factor of 4, 0.25, 100 or 0.01."
    "\n\n- v has adapted when root v is within 10 % of the new standard deviation. The study counts "
    "the updates until v has adapted."
    "\n\n- A line through 0 is fitted to this number of updates as a function of 1 / (1 - rho). The first table "
    "shows the slope of this line. The brackets contain the theoretical slope for rho near 1. For growing "
    "gradients, the theory assumes a large factor."
    "\n\n- The last column shows the root mean square of the first step after the change for rho = 0.999, "
    "divided by the root mean square of a step after v has adapted."
    f"\n\nIn the second experiment, A2C trains on 16 CartPoles for {NUM_STEPS:,} env steps, through "
    "four stages. The pole is shorter in each stage than in the stage before. Each of the first three stages ends "
    "when the last 30 episodes of the stage have a mean return of at least 100. The second table shows the mean "
    "return of all episodes, and the stage at the end, from 0 to 3. Each half-life uses the better of two "
    "learning rates.",
    caveat="The tolerance of 10 % is arbitrary. With a tolerance of 5 %, v adapts to growing gradients in "
    "1.4 times as many updates.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
)
