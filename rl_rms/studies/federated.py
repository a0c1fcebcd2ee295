"""Compares placements of RMSprop's second moment in a federation whose clients differ, some with noisy gradients.

Ten clients have losses ``|x - c_i|**2 / 2``. The gradients of two clients have thirty times as much noise as the
gradients of the other clients. The standard deviation of the c_i is the difference between clients, and the best x
is the mean of the c_i. A second experiment has six clients with CartPoles.
"""

import csv
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.agents.federated import Client, Report, Server, normalize
from rl_rms.agents.federated_config import FederationConfig, Placement
from rl_rms.envs import make_vec
from rl_rms.studies.drawing import COLORS, draw_band, draw_estimates
from rl_rms.studies.episodes import NOT_NORMALIZED
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile_mean, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACEMENTS = get_args(Placement)
COORDINATES, CLIENTS, NOISY, LOUD = 20, 10, 2, 30.0
ROUNDS, LATE = 300, 100
RATES = {"none": (0.003, 0.01, 0.03), "server": (0.01, 0.03, 0.1), "pooled": (0.01, 0.03, 0.1)}
RATES["client"] = (0.01, 0.03, 0.1)
# Changed parameters of each client's CartPole. The rewards of the fifth client are mostly noise.
OWNERS: tuple[Mapping[str, float], ...] = (
    {"length": 0.25},
    {"length": 0.5},
    {"length": 0.75},
    {"length": 1.0},
    {"reward.noise": 5.0},
    {"length": 0.5, "gravity": 12.0},
)
QUIET = [i for i, changes in enumerate(OWNERS) if "reward.noise" not in changes]
AGENT_ROUNDS = 40
AGENT_RATES = {"none": (0.5, 2.0), "server": (0.01, 0.03), "pooled": (0.01, 0.03), "client": (0.01, 0.03)}
# Number of seeds that train on Flower.
ON_FLOWER = 2


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells for quadratic clients, and in a full study for CartPoles in one process and on Flower."""
    if quick:
        return grid(placement=PLACEMENTS, unlike=[0.0, 10.0], share=[1.0], rounds=[120])
    return [
        *grid(placement=PLACEMENTS, unlike=[0.0, 1.0, 3.0, 10.0], share=[1.0], rounds=[ROUNDS]),
        *grid(placement=PLACEMENTS, unlike=[0.0, 1.0], share=[0.3], rounds=[ROUNDS]),
        *[{"placement": one, "engine": "here", "rate": rate} for one in PLACEMENTS for rate in AGENT_RATES[one]],
        {"placement": "client", "engine": "flower", "rate": AGENT_RATES["client"][0]},
    ]


def measure(seed: int, *, placement: Placement, **cell: Any) -> dict[str, Any]:
    """Train clients with quadratic losses or with CartPoles, and return the study's metrics."""
    if "engine" in cell:
        return _cartpoles(seed, placement, **cell)
    metrics = [_quadratic(seed, placement, rate, **cell) for rate in RATES[placement]]
    return {key: [one[key] for one in metrics] for key in metrics[0]}


def _quadratic(
    seed: int, placement: Placement, rate: float, *, unlike: float, share: float, rounds: int
) -> dict[str, float]:
    """Measure the squared distance from the best x, and the clients' losses minus their losses at the best x."""
    generator = torch.Generator().manual_seed(seed)
    centers = unlike * torch.randn(CLIENTS, COORDINATES, generator=generator)
    best = centers.mean(0)
    config = FederationConfig(
        rounds=rounds, placement=placement, learning_rate=rate, max_norm_ratio=None, weighted=False, half_life=50
    )
    server = Server({"x": best + 1.0}, config)
    states: list[Any] = [{} for _ in range(CLIENTS)]
    errors, losses = [], []
    for number in range(rounds):
        chosen = torch.randperm(CLIENTS, generator=generator)[: max(1, round(share * CLIENTS))].tolist()
        reports = []
        for i in chosen:
            noise = LOUD if i < NOISY else 1.0
            g = server.params["x"] - centers[i] + noise * torch.randn(COORDINATES, generator=generator)
            direction = {"x": g}
            if placement == "client":
                direction, states[i] = normalize(direction, states[i], config)
            metrics = {"env_steps": 1.0, "episodes": 1.0, "mean_return": 0.0}
            reports.append(Report(direction, metrics))
        server.step(reports)
        if number >= rounds - LATE:
            x = server.params["x"]
            errors.append(float((x - best).square().mean()))
            losses.append(((x - centers).square() - (best - centers).square()).mean(1).numpy() / 2)
    noisy, quiet = np.split(np.mean(losses, axis=0), [NOISY])
    return {"error": statistics.fmean(errors), "noisy": float(noisy.mean()), "quiet": float(quiet.mean())}


def _cartpoles(seed: int, placement: Placement, engine: str, rate: float) -> dict[str, float]:
    """Return the mean return of the clients without reward noise in the last fifth of the rounds."""
    if engine == "flower":
        return {"return": _on_flower(seed, placement, rate) if seed < ON_FLOWER else math.nan}
    config = FederationConfig(
        rounds=AGENT_ROUNDS, placement=placement, learning_rate=rate, local_learning_rate=0.1
    )
    clients = [Client(_agent(changes, 10 * seed + i), config) for i, changes in enumerate(OWNERS)]
    params = {name: param.detach().clone() for name, param in clients[0].agent.policy.named_parameters()}
    server, returns = Server(params, config), []
    for number in range(AGENT_ROUNDS):
        reports = [client.train(server.params) for client in clients]
        server.step(reports)
        if number >= 0.8 * AGENT_ROUNDS:
            returns += [reports[i].metrics["mean_return"] for i in QUIET]
    return {"return": float(np.nanmean(returns))}


def _agent(changes: Mapping[str, float], seed: int) -> A2C:
    env = make_vec("CartPole-v1", 4, changes, seed=seed)
    return A2C(
        env,
        optimizer=torch.optim.SGD,
        learning_rate=0.1,
        n_steps=8,
        gae_lambda=0.95,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
        **NOT_NORMALIZED,
    )


def _on_flower(seed: int, placement: Placement, rate: float) -> float:
    """Measure the same return as `_cartpoles`, with ``rl-rms federate``."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "owners.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "config": "cartpole_a2c",
                    "fix": {"env.num_envs": 4, "agent.n_steps": 8, "seed": 10 * seed},
                    "clients": [{"env.changes": dict(changes)} for changes in OWNERS],
                    "rounds": AGENT_ROUNDS,
                    "placement": placement,
                    "learning_rate": rate,
                    "local_learning_rate": 0.1,
                }
            )
        )
        words = [sys.executable, "-m", "rl_rms.cli.main", "federate", str(path), f"--runs_dir={folder}/runs"]
        subprocess.run(words, check=True, capture_output=True)
        (metrics,) = Path(folder).glob("runs/owners/*/metrics.csv")
        with metrics.open(newline="") as file:
            rows = list(csv.DictReader(file))[round(0.8 * AGENT_ROUNDS) :]
    return float(np.nanmean([float(row[f"client{i}/mean_return"] or "nan") for row in rows for i in QUIET]))


def at_best(results: Results, metric: str, **which: Any) -> Floats:
    """Return a metric of the quadratic clients at the rate with the least error, shape ``(seeds,)``."""
    best = int(results.values("error", **which).mean(0).argmin())
    values: Floats = results.values(metric, **which)[:, best]
    return values


def ratio(results: Results, placement: str, against: str, **which: Any) -> Estimate:
    """Return the ratio of the errors of two placements, paired by seed, each at its best rate."""
    of, other = (at_best(results, "error", placement=one, **which) for one in (placement, against))
    return interquartile_mean(of / other)


def tables(results: Results) -> Sequence[Table]:
    """Make a table of errors and losses by placement, and a table of returns."""
    rows = []
    for unlike, share in dict.fromkeys((c["unlike"], c["share"]) for c in results.cells if "unlike" in c):
        of = {"unlike": unlike, "share": share}
        errors = [str(interquartile_mean(at_best(results, "error", placement=p, **of))) for p in PLACEMENTS]
        rows.append([f"squared error: difference {unlike:g}, {100 * share:.0f} % participation", *errors])
        losses = []
        for placement in PLACEMENTS:
            noisy, quiet = (
                at_best(results, kind, placement=placement, **of).mean() for kind in ("noisy", "quiet")
            )
            losses.append(f"{noisy:.3f}, {quiet:.3f}")
        rows.append(["excess loss: noisy clients, other clients", *losses])
    returned = []
    for engine in results.levels("engine"):
        texts = []
        for placement in PLACEMENTS:
            of = {"engine": engine, "placement": placement}
            if not results.where(**of):
                texts.append("")
                continue
            returns = results.values("return", rate=results.best("return", "rate", highest=True, **of), **of)
            returns = returns[np.isfinite(returns)]
            texts.append(str(interquartile_mean(returns)) if engine == "here" else f"{short(returns.mean())}")
        where = "in one process" if engine == "here" else f"on Flower, mean of {ON_FLOWER} seeds"
        returned.append([where, *texts])
    header = ["quantity", *(f"placement {placement}" for placement in PLACEMENTS)]
    found = [Table(header, rows)]
    if returned:
        found.append(Table(["mean return of the clients without reward noise", *header[1:]], returned))
    return found


def verdict(results: Results) -> Verdict:
    """Judge by the differences at which `client` has a significantly smaller error than `server` and `pooled`."""
    wins = {
        unlike: max(
            ratio(results, "client", other, unlike=unlike, share=1.0).high for other in ("server", "pooled")
        )
        < 1
        for unlike in results.levels("unlike", share=1.0)
    }
    ratios = {unlike: ratio(results, "client", "pooled", unlike=unlike, share=1.0).middle for unlike in wins}
    texts = [
        f"With a difference of {unlike:g} between clients, the error with placement `client` is "
        f"{short(ratios[unlike])} times the error with placement `pooled`."
        for unlike in (min(ratios), max(ratios))
    ]
    sentence = (
        f"{' '.join(texts)} For comparison, the gradient noise of most clients has the standard deviation 1."
    )
    if all(wins.values()):
        return Verdict("holds", sentence)
    if any(wins.values()):
        return Verdict("conditional", sentence, "if clients are similar")
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw errors over the difference between clients, and returns."""
    engines = results.levels("engine")
    axes = figure.subplots(1, 1 + bool(engines), squeeze=False)[0]
    unlikes = results.levels("unlike", share=1.0)
    for color, placement in zip(COLORS, PLACEMENTS, strict=False):
        estimates = [
            interquartile_mean(at_best(results, "error", placement=placement, unlike=unlike, share=1.0))
            for unlike in unlikes
        ]
        draw_band(axes[0], range(len(unlikes)), estimates, color=color, label=placement)
    axes[0].set_xticks(range(len(unlikes)), [f"{unlike:g}" for unlike in unlikes])
    axes[0].set(
        yscale="log", xlabel="difference between clients", ylabel="squared error at the best learning rate"
    )
    axes[0].legend()
    if engines:
        for i, placement in enumerate(PLACEMENTS):
            of = {"engine": "here", "placement": placement}
            rate = results.best("return", "rate", highest=True, **of)
            one = results.estimate("return", rate=rate, **of)
            draw_estimates(axes[1], [i], [one], color=COLORS[i])
        axes[1].set_xticks(range(len(PLACEMENTS)), PLACEMENTS)
        axes[1].set_ylabel("mean return without reward noise")


STUDY = Study(
    name="federated",
    claim="In a federation with RMSprop on the server, a client with noisy gradients slows the other clients "
    "down. If each client normalizes its own gradients, a noisy client does not slow the other clients down.",
    mechanism="`placement` in the configuration of `rl-rms federate` sets the owner of the second moment v. "
    "`rl_rms.agents.federated` has the equations.",
    setup="The study compares four placements of RMSprop's second moment v, whose square root is called root v:"
    "\n\n- `server`: the server divides the mean of the clients' gradients by root v. v averages the square of "
    "this mean over rounds, as in FedAdam."
    "\n\n- `pooled`: the server divides the mean gradient by root v. v averages the squares of the clients' "
    "gradients."
    "\n\n- `client`: each client has its own v, and divides its own gradient by root v."
    "\n\n- `none`: neither the server nor the clients divide gradients by root v."
    f"\n\nIn the first experiment, {CLIENTS} clients have the losses |x - c|² / 2 in {COORDINATES} "
    f"coordinates. The noise of a client's gradients has the standard deviation 1, or {LOUD:g} for "
    f"{NOISY} noisy clients."
    "\n\n- The points c are drawn from a normal distribution. The standard deviation of the points c is called "
    "the difference between clients. The best x is the mean of all c."
    "\n\n- In a round, each participating client sends one gradient. With 30 % participation, three of "
    "ten clients take part in a round."
    "\n\n- The squared error is the squared distance from the best x. The excess loss of a client is "
    "its loss minus its loss at the best x. Squared errors and excess losses are means over coordinates and over "
    f"the last {LATE} of {ROUNDS} rounds, at the best of three learning rates. The excess losses are means over "
    "seeds, not interquartile means."
    "\n\nIn the second experiment, six clients train A2C on CartPoles whose `length` is between 0.25 and "
    "1. One CartPole has gravity 12. The rewards of another client have noise of standard deviation 5. The "
    f"study measures the mean return of the other five clients in the last fifth of {AGENT_ROUNDS} rounds, at the "
    "better of two learning rates. The study also trains the placement `client` at one learning rate with `rl-rms "
    "federate`, in Flower's simulation.",
    caveat="With the placement `client`, a noisy client has less weight than the other clients in the mean that "
    "the server computes. If the points c differ between clients, x therefore does not converge to the best x. "
    "This error does not vanish with more rounds.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(9.5, 3.8),
)
