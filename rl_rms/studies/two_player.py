"""Measures the distance of RMSprop from a game's equilibrium, by order of updates, momentum and optimism.

In the first game, one player chooses x to minimize ``x y``, and the other player chooses y to maximize ``x y``.
The equilibrium is (0, 0). The second game is CartPole with an adversary that pushes the pole. The adversary's
reward is minus the agent's reward.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_rms.agents import A2C, A2CConfig
from rl_rms.agents.adversarial import Rival, RobustTraining, Side
from rl_rms.agents.evaluation import evaluate
from rl_rms.envs.pushes import PushedCartPole
from rl_rms.optim.games import Play, cycle_radius, play_round
from rl_rms.studies.drawing import COLORS, draw_estimates
from rl_rms.studies.episodes import NOT_NORMALIZED
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import interquartile, interquartile_mean, short
from rl_rms.studies.optimizers import OPTIMIZERS, half_decades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RHO = 0.95
ROUNDS = 500
STARTS = 4
RATES = half_decades(1e-3, 0.3)
# Optimizer, order of updates, options of the optimizer.
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
NOISES = (0.0, 0.1)

# Kinds of pushes in training on CartPole, and their names in sentences.
TRAININGS = {
    "none": "no pushes",
    "random": "random pushes",
    "simultaneous adversary": "a simultaneous adversary",
    "alternating adversary": "an alternating adversary",
}
# Strength of the pushes in training and in evaluation, in rad/s per env step.
STRENGTHS = (0.03, 0.05)
UNSEEN = ("gusts", "swings", "lean")
NUM_ENVS, NUM_STEPS = 32, 8
UPDATES_IN_TURN = 10


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each kind of player and noise of the game x y, and for each CartPole training and rate."""
    if quick:
        return [
            *grid(player=["RMSprop", "momentum 0.9", *CURES], noise=[0.0]),
            *grid(training=["none", "alternating adversary"], rate=[0.01], steps=[3_000]),
        ]
    return [
        *grid(player=list(PLAYERS), noise=[0.0]),
        *grid(player=["RMSprop", "momentum 0.9", *CURES], noise=[NOISES[1]]),
        *grid(training=TRAININGS, rate=[0.003, 0.01], steps=[100_000]),
    ]


def distances(player: Player, rates: Sequence[float], angles: Tensor, noise: float, seed: int) -> Iterator[Floats]:
    """Yield the distances from the equilibrium before each round, shape ``(rates, starts)``.

    The first distance is 1. The parameters are x and y divided by the rate, or for SGD by the square root of the
    rate. One optimizer with the rate 1 then covers all rates. The rate is ``lr / (1 - momentum)``. With RMSprop,
    the rate is the length of a step if the gradient is constant.

    Args:
        player: A value of `PLAYERS`.
        rates: Values of ``lr / (1 - momentum)``.
        angles: Initial angles of the games, shape ``(starts,)``.
        noise: Standard deviation of the gradients' noise.
        seed: Seed of the noise.
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
        draw = noise * unit * torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)
        return value + (draw[0] * x).sum(), (draw[1] * y).sum() - value

    while True:
        with torch.no_grad():
            yield (unit * torch.hypot(x, y)).numpy()
        play_round(players, losses, play)


def measure(seed: int, **cell: Any) -> dict[str, Any]:
    """Measure the game x y, or a training run on CartPole."""
    return balance(seed, **cell) if "training" in cell else circle(seed, **cell)


def circle(seed: int, *, player: str, noise: float) -> dict[str, Any]:
    """Measure the root mean square of the distance over the last fifth of the rounds, at each rate."""
    angles = 2 * math.pi * torch.rand(STARTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    way = distances(PLAYERS[player], RATES, angles, noise, seed)
    found = np.array([next(way) for _ in range(ROUNDS)])[-ROUNDS // 5 :]
    return {"distance": np.sqrt(np.square(found).mean((0, 2)))}


def pushes(kind: str, num_envs: int, seed: int) -> Rival:
    """Make a fixed policy that pushes poles.

    The policy returns an action in [-1, 1] for each observation of a batch.

    Args:
        kind: ``"none"``; ``"random"``, uniform in [-1, 1]; ``"gusts"``, full strength to one side for 10 of 20
            env steps; ``"swings"``, a sinusoid with a period of 50 env steps; ``"lean"``, full strength in the
            direction in which the pole leans.
        num_envs: Size of the batch.
        seed: Seed of the policy's random numbers.
    """
    rng, clock = np.random.default_rng(seed), itertools.count()
    sides = np.ones(num_envs)

    def gusts(_: Any) -> Floats:
        t = next(clock) % 20
        if t == 0:
            sides[:] = rng.choice([-1.0, 1.0], num_envs)
        return sides * (t < 10)

    kinds: dict[str, Rival] = {
        "none": lambda _: np.zeros(num_envs),
        "random": lambda _: rng.uniform(-1.0, 1.0, num_envs),
        "gusts": gusts,
        "swings": lambda _: np.full(num_envs, math.sin(2 * math.pi * next(clock) / 50)),
        "lean": lambda observations: np.sign(observations[:, 2]),
    }
    return kinds[kind]


def balance(seed: int, *, training: str, rate: float, steps: int) -> dict[str, Any]:
    """Train on CartPole, and return the mean returns without pushes, by unseen kind, and over all unseen kinds."""
    config = A2CConfig(
        learning_rate={"linear": {"start": rate, "end": 0.0, "over": steps}},
        n_steps=NUM_STEPS,
        gae_lambda=0.95,
        ent_coef=0.0,
        normalize_advantage=True,
        **NOT_NORMALIZED,
    )
    trained, tested = STRENGTHS
    if training in ("none", "random"):
        side = Side(PushedCartPole(NUM_ENVS, trained), 0, pushes(training, NUM_ENVS, seed))
        agent = A2C(side, config=config, seed=seed).learn(steps)
    else:
        agent = (
            RobustTraining(
                lambda: PushedCartPole(NUM_ENVS, trained),
                protagonist=config,
                adversary=config,
                turns="alternating" if training.startswith("alternating") else "simultaneous",
                turn=UPDATES_IN_TURN * NUM_ENVS * NUM_STEPS,
                seed=seed,
            )
            .learn(steps)
            .protagonist
        )
    means = {}
    for kind in ("none", *UNSEEN):
        side = Side(PushedCartPole(32, tested), 0, pushes(kind, 32, seed))
        means[kind] = evaluate(agent, side, 32, seed=1_000 + seed).mean_reward
    return {**means, "unseen": float(np.mean([means[kind] for kind in UNSEEN]))}


def best(results: Results, player: str, noise: float) -> int:
    """Return the index of the rate with the smallest distance."""
    values = results.values("distance", player=player, noise=noise)
    return int(np.argmin([interquartile(values[:, rate]) for rate in range(len(RATES))]))


def nearest(results: Results, player: str) -> float:
    """Return the distance at the best rate, without noise."""
    return interquartile(results.values("distance", player=player, noise=0.0)[:, best(results, player, 0.0)])


def formula(player: str, rate: float) -> float | None:
    """Return the theoretical radius for simultaneous RMSprop, and None for other players."""
    by, play, options = PLAYERS[player]
    if by == "SGD" or play != "simultaneous":
        return None
    lr = rate * (1 - options.get("momentum", 0.0))
    return cycle_radius(lr, RHO, **options)


def tables(results: Results) -> Sequence[Table]:
    """Tabulate distances at the best and the largest rate, the theoretical radius, and CartPole's returns."""
    rows = []
    for player in results.levels("player"):
        row = [player]
        for noise in NOISES:
            if not results.where(player=player, noise=noise):
                row.append("")
                continue
            rate = best(results, player, noise)
            estimate = interquartile_mean(results.values("distance", player=player, noise=noise)[:, rate])
            row.append(f"{estimate} at {RATES[rate]:g}")
        radius = formula(player, RATES[-1])
        row += [short(largest(results, player)), "" if radius is None else short(radius)]
        rows.append(row)
    trained = []
    for training in results.levels("training"):
        rate = results.best("unseen", over="rate", highest=True, training=training)
        returns = [results.estimate(kind, training=training, rate=rate) for kind in ("none", *UNSEEN)]
        trained.append([f"{training}, {rate:g}", *map(str, returns)])
    nearer = [f"distance at the best rate, noise {noise:g}" for noise in NOISES]
    pushed = ["return without pushes", *(f"return with {kind}" for kind in UNSEEN)]
    return [
        Table(
            [
                "player of the game x y",
                *nearer,
                f"distance at rate {RATES[-1]:g}, noise 0",
                f"predicted radius at rate {RATES[-1]:g}",
            ],
            rows,
        ),
        Table(["pushes in training, learning rate", *pushed], trained),
    ]


def unseen(results: Results, training: str) -> float:
    """Return the mean return with kinds of pushes that training does not use, at the best rate."""
    rate = results.best("unseen", over="rate", highest=True, training=training)
    return results.middle("unseen", training=training, rate=rate)


def largest(results: Results, player: str) -> float:
    """Return the distance at the largest rate, without noise."""
    return interquartile(results.values("distance", player=player, noise=0.0)[:, -1])


def verdict(results: Results) -> Verdict:
    """Judge whether RMSprop leaves the predicted circle, and whether positive momentum reduces the distance."""
    radius = cycle_radius(RATES[-1], RHO)
    spirals = largest(results, "RMSprop") > 1.2 * radius
    plain = nearest(results, "RMSprop")
    distances_at_best = {
        player: nearest(results, player) for player in results.levels("player") if player in JUDGED
    }
    damps = (
        min(distances_at_best[player] for player in distances_at_best if player.startswith("momentum 0")) < plain
    )
    closest = min(distances_at_best, key=distances_at_best.__getitem__)
    returns = {one: unseen(results, one) for one in results.levels("training")}
    best, worst = (choose(returns, key=returns.__getitem__) for choose in (max, min))
    sentence = (
        f"At rate {RATES[-1]:g}, RMSprop ends at a distance of {short(largest(results, 'RMSprop'))}. The formula "
        f"predicts a circle of radius {short(radius)}. At its best rate, RMSprop without momentum and optimism "
        f"ends at a distance of {short(plain)}. Positive momentum {'reduces' if damps else 'does not reduce'} "
        f"this distance. Of all variants of RMSprop, {closest} ends nearest to the equilibrium, at a distance of "
        f"{short(distances_at_best[closest])}. On CartPole, the return of A2C, averaged over the three kinds of "
        f"pushes (gusts, swings, lean), is highest after training with {TRAININGS[best]} "
        f"({short(returns[best])}). The average is lowest after training with {TRAININGS[worst]} "
        f"({short(returns[worst])})."
    )
    if spirals and damps:
        return Verdict("holds", sentence)
    if spirals or damps:
        half = "for the spiral but not for momentum" if spirals else "for momentum but not for the spiral"
        return Verdict("conditional", sentence, half)
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw distances over rounds at one rate, late distances over rates, and CartPole's returns by pushes."""
    left, right, last = figure.subplots(1, 3, width_ratios=[1.0, 1.0, 1.2])
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
    left.set(yscale="log", xlabel="round", ylabel="distance from the equilibrium", title="at rate 0.03")
    right.set(
        xscale="log", yscale="log", xlabel="rate, the length of a step with a constant gradient", ylim=(2e-4, 30)
    )
    right.set_title(f"after {ROUNDS} rounds; dotted: predicted radius")
    right.legend(*left.get_legend_handles_labels(), fontsize=6, loc="lower right")
    kinds = ("none", *UNSEEN)
    trainings = results.levels("training")
    for i, training in enumerate(trainings):
        rate = results.best("unseen", over="rate", highest=True, training=training)
        estimates = [results.estimate(kind, training=training, rate=rate) for kind in kinds]
        at = np.arange(len(kinds)) + 0.8 * ((i + 0.5) / len(trainings) - 0.5)
        draw_estimates(last, at, estimates, color=COLORS[i], markersize=4, capsize=2, label=training)
    last.set_xticks(range(len(kinds)), ["no pushes", *UNSEEN])
    last.set(ylim=(0, 520), ylabel="mean return", title="A2C on CartPole, by pushes in training")
    last.legend(fontsize=6)


STUDY = Study(
    name="two_player",
    claim="In a bilinear game of two players, RMSprop with simultaneous updates spirals away from the "
    "equilibrium, and momentum damps this spiral.",
    mechanism="`rl_rms.optim.games.play_round` updates the players simultaneously, in alternation or with "
    "extragradient steps. `rl_rms.RMSprop` has the arguments `optimism` and `momentum`. `momentum` may be "
    "negative. `rl_rms.agents.adversarial.RobustTraining` trains an A2C agent against an adversary.",
    setup="In the first experiment, player 1 chooses x to minimize the product x y. Player 2 chooses y to "
    "maximize x y. The equilibrium is (0, 0)."
    f"\n\n- A game starts at a distance of 1 from the equilibrium and lasts {ROUNDS} rounds. In the column with "
    "noise 0.1, normal noise with standard deviation 0.1 is added to the gradients."
    "\n\n- The study measures the root mean square of the distance over the last fifth of the rounds, for "
    "four starts per seed."
    f"\n\n- RMSprop has rho = {RHO} and bias correction. The first table gives the rate s = lr / (1 - m), "
    "where m is the momentum. If the gradient is constant, s is the length of a step. The columns "
    f"`distance at the best rate` use the best of {len(RATES)} rates, separately for each row and noise."
    "\n\n- For simultaneous updates of RMSprop, the function `rl_rms.optim.games.cycle_radius` predicts this "
    "distance as the radius of a cycle. Without momentum and optimism, the radius is 2 sqrt(2) s / sqrt(1 - rho). "
    "Momentum m and optimism o multiply this radius by sqrt((1 + m) / (1 - m) - 2 o). If the term under this root "
    "is negative, the radius is 0."
    "\n\nIn the second experiment, A2C trains on CartPole for 100,000 env steps, while pushes change the "
    f"angular velocity of the pole by at most {STRENGTHS[0]} rad/s per env step."
    "\n\n- The pushes in training are absent (none), uniformly random (random), or the actions of an "
    "adversary."
    "\n\n- The adversary is a second A2C agent, whose reward is minus the agent's reward. Agent and adversary "
    "train in turns of ten updates."
    "\n\n- The simultaneous adversary trains against the agent's policy before the agent's turn. The "
    "alternating adversary trains against the agent's policy after this turn."
    "\n\n- After the training, the agent plays 32 episodes without pushes, and 32 episodes with each of "
    f"three kinds of pushes of at most {STRENGTHS[1]} rad/s. Gusts push to one side for 10 of every 20 env "
    "steps. Swings follow a sine wave. Lean pushes the pole in the direction in which the pole leans."
    "\n\n- The second table shows the mean return at the better of two learning rates.",
    caveat="In the game x y, each player has one parameter. In a game with many coupled coordinates, the radius "
    "may be larger than the formula predicts. The radius of a cycle is proportional to the learning rate, so the "
    "best rate depends on the number of rounds. The training runs on CartPole are short. The training runs with "
    "an adversary take twice as many env steps, because the adversary trains too. The strength of the "
    "pushes was chosen on a few seeds so that A2C learns. The better learning rate was chosen by the returns with "
    "pushes in the table. Only the bilinear game decides whether the claim holds.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    quick_seeds=2,
    size=(13.0, 3.8),
)
