"""How near RMSprop comes to the equilibrium of a game of two players, by how they take turns and remember.

The game is ``x y``: x makes it small, y large, and (0, 0) is where neither can gain.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_rms.games import Play, cycle_radius, play_round
from rl_rms.studies.frame import COLORS, Cell, Floats, Results, Study, Table, Verdict, grid, interquartile
from rl_rms.studies.intervals import interquartile_mean, short
from rl_rms.studies.optimizers import OPTIMIZERS, half_decades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RHO = 0.95
ROUNDS = 500
STARTS = 4
RATES = half_decades(1e-3, 0.3)
# What plays: optimizer, turns, options.
Player = tuple[str, Play, dict[str, float]]
PLAYERS: dict[str, Player] = {
    "SGD": ("SGD", "simultaneous", {}),
    "SGD, extragradient": ("SGD", "extragradient", {}),
    "RMSprop": ("RMSprop", "simultaneous", {}),
    "momentum 0.5": ("RMSprop", "simultaneous", {"momentum": 0.5}),
    "momentum 0.9": ("RMSprop", "simultaneous", {"momentum": 0.9}),
    "momentum -0.5": ("RMSprop", "simultaneous", {"momentum": -0.5}),
    "optimism 1": ("RMSprop", "simultaneous", {"optimism": 1.0}),
    "alternating": ("RMSprop", "alternating", {}),
    "alternating, momentum 0.9": ("RMSprop", "alternating", {"momentum": 0.9}),
    "extragradient": ("RMSprop", "extragradient", {}),
}
CURES = ("optimism 1", "alternating", "extragradient")
JUDGED = ("momentum 0.5", "momentum 0.9", "momentum -0.5", *CURES)


def cells(quick: bool) -> Sequence[Cell]:
    """Who plays, and the noise of the gradients."""
    if quick:
        return grid(player=["RMSprop", "momentum 0.9", *CURES], noise=[0.0])
    return [
        *grid(player=list(PLAYERS), noise=[0.0]),
        *grid(player=["RMSprop", "momentum 0.9", *CURES], noise=[0.1]),
    ]


def distances(player: Player, rates: Sequence[float], angles: Tensor, noise: float, seed: int) -> Iterator[Floats]:
    """Distances from the equilibrium before each round, shape ``(rates, starts)``, from 1 on.

    The parameters are x and y in units of the rate (for SGD, whose steps go by the gradient, of its root), so that
    one optimizer with the learning rate 1 plays at all rates. A rate is that of a steady step: momentum's is
    ``lr / (1 - momentum)``.

    Args:
        player: Of `PLAYERS`.
        rates: Learning rates.
        angles: Where the games begin on the circle, shape ``(starts,)``.
        noise: Standard deviation of the gradients' noise.
        seed: Of the noise.
    """
    by, play, options = player
    unit = torch.tensor(rates, dtype=torch.float64)[:, None]
    unit = unit.sqrt() if by == "SGD" else unit
    x, y = (nn.Parameter(at / unit) for at in (torch.cos(angles), torch.sin(angles)))
    options = {**options, "lr": 1 - options.get("momentum", 0.0)}
    if by == "RMSprop":
        options |= {"rho": RHO, "eps": 1e-12}
    players = [OPTIMIZERS[by]([one], **options) for one in (x, y)]
    generator = torch.Generator().manual_seed(seed)

    def losses() -> tuple[Tensor, Tensor]:
        value = (unit.square() * x * y).sum()
        if not noise:
            return value, -value
        chance = noise * unit * torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)
        return value + (chance[0] * x).sum(), (chance[1] * y).sum() - value

    while True:
        with torch.no_grad():
            yield (unit * torch.hypot(x, y)).numpy()
        play_round(players, losses, play)


def measure(seed: int, *, player: str, noise: float) -> dict[str, Any]:
    """Root mean square of the distance over the last fifth of the rounds, at each rate."""
    angles = 2 * math.pi * torch.rand(STARTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    way = distances(PLAYERS[player], RATES, angles, noise, seed)
    found = np.array([next(way) for _ in range(ROUNDS)])[-ROUNDS // 5 :]
    return {"distance": np.sqrt(np.square(found).mean((0, 2)))}


def best(results: Results, player: str, noise: float) -> int:
    """The number of the rate at which a player comes nearest."""
    values = results.values("distance", player=player, noise=noise)
    return int(np.argmin([interquartile(values[:, rate]) for rate in range(len(RATES))]))


def nearest(results: Results, player: str, noise: float = 0.0) -> float:
    """The distance at that rate."""
    return interquartile(results.values("distance", player=player, noise=noise)[:, best(results, player, noise)])


def formula(player: str, rate: float) -> float | None:
    """The radius that theory says of simultaneous RMSprop."""
    by, play, options = PLAYERS[player]
    if by == "SGD" or play != "simultaneous":
        return None
    lr = rate * (1 - options.get("momentum", 0.0))
    return cycle_radius(lr, RHO, **options)


def tables(results: Results) -> Sequence[Table]:
    """Distances at the best rate, and at the largest beside the formula's."""
    noises = results.levels("noise")
    rows = []
    for player in results.levels("player"):
        row = [player]
        for noise in noises:
            if not results.where(player=player, noise=noise):
                row.append("")
                continue
            rate = best(results, player, noise)
            told = interquartile_mean(results.values("distance", player=player, noise=noise)[:, rate])
            row.append(f"{told} at {RATES[rate]:g}")
        radius = formula(player, RATES[-1])
        row += [short(largest(results, player)), "" if radius is None else short(radius)]
        rows.append(row)
    nearer = [f"nearest, noise {noise:g}" for noise in noises]
    return [Table([f"distance after {ROUNDS} rounds", *nearer, f"at rate {RATES[-1]:g}", "formula"], rows)]


def largest(results: Results, player: str) -> float:
    """The distance at the largest rate, without noise."""
    return interquartile(results.values("distance", player=player, noise=0.0)[:, -1])


def verdict(results: Results) -> Verdict:
    """Whether RMSprop leaves the circle that the formula says, and whether momentum comes nearer than none."""
    radius = cycle_radius(RATES[-1], RHO)
    spirals = largest(results, "RMSprop") > 1.2 * radius
    plain = nearest(results, "RMSprop")
    told = {player: nearest(results, player) for player in results.levels("player") if player in JUDGED}
    damps = min(told[player] for player in told if player.startswith("momentum 0")) < plain
    sentence = (
        f"at rate {RATES[-1]:g} RMSprop ends at a distance of {short(largest(results, 'RMSprop'))}, where a cycle "
        f"of radius {short(radius)} is expected; at each one's best rate it comes to {short(plain)}, "
        + ", ".join(f"{player} to {short(distance)}" for player, distance in told.items())
        + "."
    )
    if spirals and damps:
        return Verdict("holds", sentence)
    if spirals or damps:
        half = "only its first half is meant" if spirals else "only its second half is meant"
        return Verdict("holds only if", f"{half}: {sentence}")
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Distances over rounds at one rate; at the end, over rates."""
    left, right = figure.subplots(1, 2)
    shown = [player for player in results.levels("player") if not player.startswith("SGD")]
    colors = dict(zip(shown, [*COLORS, "#999999"], strict=False))
    for player in shown:
        way = distances(PLAYERS[player], [0.03], torch.zeros(1, dtype=torch.float64), 0.0, seed=0)
        left.plot([float(next(way)[0, 0]) for _ in range(ROUNDS)], color=colors[player], linewidth=1, label=player)
        values = results.values("distance", player=player, noise=0.0)
        right.plot(RATES, [interquartile(one) for one in values.T], "o-", color=colors[player], markersize=3)
        radii = [formula(player, rate) for rate in RATES]
        if radii[0]:
            right.plot(RATES, radii, ":", color=colors[player], linewidth=1)
    left.set(yscale="log", xlabel="round", ylabel="distance from the equilibrium")
    left.set_title("at rate 0.03", fontsize=9, loc="left")
    right.set(xscale="log", yscale="log", xlabel="learning rate of a steady step", ylim=(1e-3, 30))
    right.set_title(f"after {ROUNDS} rounds; dotted: the formula", fontsize=9, loc="left")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=7)


STUDY = Study(
    name="two_player",
    claim="In a bilinear game of two players simultaneous RMSprop spirals away from the equilibrium, and momentum "
    "damps that.",
    mechanism="`rl_rms.games.play_round` plays optimizers against each other, simultaneously, in alternation or "
    "with extragradient steps; `rl_rms.RMSprop` has `momentum` of either sign and `optimism`.",
    setup=f"The game x y from a distance of 1, {ROUNDS} rounds, RMSprop with rho = {RHO} and debias; root mean "
    "square of the distance over the last fifth, over four starts for each seed, at each player's best learning "
    f"rate out of {len(RATES)}. The rate is that of a steady step, lr / (1 - momentum). The formula is "
    "`rl_rms.games.cycle_radius`: 2 sqrt(2) lr / sqrt(1 - rho) for plain RMSprop, times sqrt((1 + m) / (1 - m) - "
    "2 optimism) at that rate.",
    caveat="Two numbers, each the other's gradient: a game of many, in which players' coordinates are mixed, may "
    "circle more widely than the formula says. A best rate is best for so many rounds; cycles are as large as "
    "their learning rate, and shrink where that falls.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(10.0, 3.8),
)
