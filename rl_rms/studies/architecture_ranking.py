"""Tests whether the optimizer changes the ranking of policy networks more than noise and the learning rate do.

Short training runs with each of four optimizers rank twelve networks, each network at its best learning rate.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_rms.agents import A2C, PolicyConfig
from rl_rms.envs import make_vec
from rl_rms.studies.drawing import COLORS
from rl_rms.studies.episodes import NOT_NORMALIZED, episode_returns
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import short
from rl_rms.studies.rankings import agreement, noise_floor, regret

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_STEPS = 12_000
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {"hidden_sizes": ()},
    "8": {"hidden_sizes": (8,)},
    "32": {"hidden_sizes": (32,)},
    "128": {"hidden_sizes": (128,)},
    "16-16": {"hidden_sizes": (16, 16)},
    "64-64": {"hidden_sizes": (64, 64)},
    "64-64 relu": {"hidden_sizes": (64, 64), "activation": "relu"},
    "64-64 silu": {"hidden_sizes": (64, 64), "activation": "silu"},
    "64-64 LayerNorm": {"hidden_sizes": (64, 64), "norm": "layer"},
    "64-64 shared": {"hidden_sizes": (64, 64), "shared_trunk": True},
    "64-64 not orthogonal": {"hidden_sizes": (64, 64), "orthogonal_init": False},
    "32-32-32": {"hidden_sizes": (32, 32, 32)},
}
OPTIMIZERS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "SGD": ({"optimizer": "torch.optim.SGD"}, (0.1, 0.3, 1.0)),
    "RMSprop 7": ({"half_life": 7}, (1e-3, 3e-3, 1e-2)),
    "RMSprop 200": ({"half_life": 200}, (1e-3, 3e-3, 1e-2)),
    "Adam": ({"optimizer": "torch.optim.Adam"}, (1e-3, 3e-3, 1e-2)),
}


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each network and optimizer. A cell covers all learning rates of its optimizer."""
    if quick:
        return grid(network=["linear", "8", "32", "64-64"], by=["SGD", "RMSprop 200"], num_steps=[2_000])
    return grid(network=NETWORKS, by=OPTIMIZERS, num_steps=[NUM_STEPS])


def measure(seed: int, *, network: str, by: str, num_steps: int) -> dict[str, Any]:
    """Train at each learning rate, and return the mean episode length of each training run."""
    options, rates = OPTIMIZERS[by]
    return {
        "scores": [
            _train(seed, NETWORKS[network], {**options, "learning_rate": rate}, num_steps) for rate in rates
        ]
    }


def _train(seed: int, network: dict[str, Any], options: dict[str, Any], num_steps: int) -> float:
    env = make_vec("CartPole-v1", 8, seed=seed)
    agent = A2C(
        env,
        policy=PolicyConfig(**network),
        n_steps=8,
        gae_lambda=0.95,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
        **NOT_NORMALIZED,
        **options,
    )
    return float(np.mean(episode_returns(agent, num_steps)))


def at_best_rates(results: Results, by: str) -> Floats:
    """Return scores under an optimizer, each network at its best rate, shape ``(networks, seeds)``."""
    found = []
    for network in results.levels("network"):
        scores = results.values("scores", network=network, by=by)
        found.append(scores[:, scores.mean(0).argmax()])
    return np.array(found)


def at_rate(results: Results, by: str, number: int) -> Floats:
    """Return scores under an optimizer, all networks at the same rate, shape ``(networks, seeds)``.

    Args:
        results: The results.
        by: The optimizer.
        number: Index of the rate.
    """
    return np.array([results.values("scores", network=n, by=by)[:, number] for n in results.levels("network")])


def taus(results: Results) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Kendall's tau between the rankings of every two optimizers, with its 95 % interval."""
    rng = np.random.default_rng(0)
    scores = {by: at_best_rates(results, by) for by in results.levels("by")}
    return {(one, other): agreement(scores[one], scores[other], rng) for one, other in combinations(scores, 2)}


def floors(results: Results) -> dict[str, float]:
    """For each optimizer, the mean of Kendall's tau between the rankings from two random halves of its seeds."""
    return {by: noise_floor(at_best_rates(results, by), np.random.default_rng(0)) for by in results.levels("by")}


def between_rates(results: Results, by: str) -> float:
    """Kendall's tau between two rankings, each with all networks at one of the optimizer's two best rates."""
    rng = np.random.default_rng(0)
    rates = range(len(OPTIMIZERS[by][1]))
    best, second, *_ = sorted(rates, key=lambda i: -at_rate(results, by, i).mean())
    return agreement(at_rate(results, by, best), at_rate(results, by, second), rng)[0]


def tables(results: Results) -> Sequence[Table]:
    """Make a table of the networks' ranks and scores, and a table of the taus."""
    optimizers = results.levels("by")
    scores = {by: at_best_rates(results, by) for by in optimizers}
    ranks = {by: (-own.mean(1)).argsort().argsort() + 1 for by, own in scores.items()}
    rows = [
        [network, *(f"{ranks[by][i]}. ({short(scores[by][i].mean())})" for by in optimizers)]
        for i, network in enumerate(results.levels("network"))
    ]
    found = [["two halves of the seeds", *(f"{one:.2f}" for one in floors(results).values())]]
    found.append(["two best learning rates", *(f"{between_rates(results, by):.2f}" for by in optimizers)])
    of = taus(results)
    for one in optimizers:
        pairs = [of.get((one, other), of.get((other, one))) for other in optimizers]
        texts = ["1" if pair is None else f"{pair[0]:.2f} ({pair[1]:.2f} to {pair[2]:.2f})" for pair in pairs]
        found.append([f"with {one}", *texts])
    return [
        Table(["rank (mean episode length)", *optimizers], rows),
        Table(["Kendall's tau between rankings", *optimizers], found),
    ]


def verdict(results: Results) -> Verdict:
    """Judge the claim by the taus, and by the scores of each optimizer's best network under other optimizers."""
    names, optimizers = results.levels("network"), results.levels("by")
    scores = {by: at_best_rates(results, by) for by in optimizers}
    winners = {by: int(own.mean(1).argmax()) for by, own in scores.items()}
    lost = [
        f"{names[row]} is best under {one}, but scores {regret(scores[other], row)[0]:.0f} below the best network "
        f"under {other}"
        for one, row in winners.items()
        for other in optimizers
        if regret(scores[other], row)[1] > 0
    ]
    of, floor = taus(results), floors(results)
    most, least = (choose(of, key=lambda pair: of[pair][0]) for choose in (max, min))
    sentence = (
        f"Kendall's tau between the rankings of two optimizers is highest for {' and '.join(most)} "
        f"({of[most][0]:.2f}), and lowest for {' and '.join(least)} ({of[least][0]:.2f}). Between the rankings of "
        f"two halves of one optimizer's seeds, tau is at least {min(floor.values()):.2f}. Between the rankings at "
        "the two best learning rates of one optimizer, tau is as low as "
        f"{min(between_rates(results, by) for by in optimizers):.2f}."
    )
    below = [pair for pair, one in of.items() if one[2] < min(floor[name] for name in pair)]
    if lost:
        return Verdict("holds", f"The network {lost[0]}. The difference is significant. {sentence}")
    if below:
        return Verdict("conditional", sentence, "for the whole ranking, but not for the best network")
    evidence = f"No optimizer's best network is significantly worse under another optimizer. {sentence}"
    return Verdict("does not hold", evidence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw every network's rank under each optimizer."""
    axis = figure.subplots()
    optimizers, names = results.levels("by"), results.levels("network")
    ranks = np.array([(-at_best_rates(results, by).mean(1)).argsort().argsort() + 1 for by in optimizers])
    for i, name in enumerate(names):
        color = COLORS[i % len(COLORS)]
        axis.plot(
            range(len(optimizers)),
            ranks[:, i],
            marker="o",
            color=color,
            linestyle="-" if i < len(COLORS) else "--",
        )
        axis.annotate(name, (len(optimizers) - 1, ranks[-1, i]), (8, 0), textcoords="offset points", va="center")
    axis.set_xticks(range(len(optimizers)), optimizers)
    axis.set_xlim(-0.2, len(optimizers) - 0.2)
    axis.invert_yaxis()
    axis.set_yticks(range(1, len(names) + 1))
    axis.set_ylabel("rank, 1 is best")


STUDY = Study(
    name="architecture_ranking",
    claim="The optimizer used in an architecture search changes which architecture is best.",
    mechanism="With `sampler: grid`, `rl-rms sweep` trains every combination of listed networks and optimizers. "
    "`rl_rms.studies.rankings` computes Kendall's tau and its interval.",
    setup=f"A2C trains on 8 CartPoles for {NUM_STEPS:,} env steps. The score is the mean length of all episodes "
    "in the training. The study trains twelve networks with four optimizers. Each pair of network and "
    "optimizer uses the best of three learning rates."
    "\n\n- A network's name lists its hidden layers: `64-64` has two layers of 64 units, and `linear` has none. "
    "Hidden layers use tanh, and actor and critic have separate layers, unless the name says otherwise. `not "
    "orthogonal` uses torch's initial weights."
    "\n\n- RMSprop 7 and RMSprop 200 have half-lives of 7 and 200 updates."
    "\n\n- The first table shows each network's rank and, in brackets, its score. Scores are means over "
    "seeds."
    "\n\n- Kendall's tau measures how well two rankings agree. Tau is 1 for equal rankings, and about 0 for "
    "unrelated rankings. The brackets contain the bootstrap interval of tau over seeds."
    "\n\n- The first two rows of the second table compare rankings by the same optimizer, which differ only by "
    "noise or by the learning rate. In the row `two halves of the seeds`, each half gives one ranking, and tau is "
    "a mean over random splits. In the row `two best learning rates`, each of the two rates gives one ranking.",
    caveat="The training runs are short and use one task, so networks that learn fast at the start rank high. For "
    "each pair of optimizers A and B, the study compares the best network of A with the best network of B, both "
    "trained with B. The study tests whether the network of A has a significantly lower score than the network of "
    "B. This test ignores that both networks were selected for their scores.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(9.0, 4.5),
)
