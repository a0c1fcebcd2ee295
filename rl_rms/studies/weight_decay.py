"""Measures how much weight decay shrinks the weights, and how weight decay changes the return of an agent.

Coupled decay is added to the gradient, so RMSprop divides the decay by the square root of the second moment v.
Decoupled decay multiplies the weight by ``1 - lr * strength``.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.studies.drawing import COLORS, draw_band
from rl_rms.studies.episodes import NOT_NORMALIZED, episode_returns
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS: dict[str, dict[str, Any]] = {
    "coupled": {},
    "decoupled": {"decoupled_weight_decay": True},
}
# Standard deviation of a weight's gradients, and factor of the gradient in update `BURST_AT`, counted from 0.
HISTORIES = {
    "0": (0.0, 1.0),
    "0.01": (0.01, 1.0),
    "0.1": (0.1, 1.0),
    "1": (1.0, 1.0),
    "1, once x 1,000": (1.0, 1_000.0),
    "10": (10.0, 1.0),
}
LR, UPDATES, BURST_AT, WEIGHTS = 0.01, 1_000, 50, 200
NUM_ENVS, NUM_STEPS = 16, 8
RATES = (1e-3, 3e-3, 1e-2)
# RMSprop divides coupled decay by root v. In these agents, root v is far below 1, so coupled strengths are
# smaller.
STRENGTHS = {"none": (0.0,), "coupled": (1e-4, 1e-3, 0.01), "decoupled": (0.01, 0.1, 1.0)}
STRONG = 0.1


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells by form and strength of the decay, for weights with given gradients and for agents."""
    decay = grid(of=["weights"], form=FORMS, strength=[1e-3, STRONG])
    if quick:
        return [*decay, *grid(of=["agent"], form=STRENGTHS, strength=[0.01], rate=[3e-3], num_steps=[10_000])]
    agents = [
        grid(of=["agent"], form=[form], strength=strengths, rate=RATES, num_steps=[40_000])
        for form, strengths in STRENGTHS.items()
    ]
    return [*decay, *itertools.chain(*agents)]


def measure(seed: int, *, of: str, **cell: Any) -> dict[str, Any]:
    """Measure the remaining shares of weights, or the return of an agent."""
    return (left if of == "weights" else scored)(seed, **cell)


def left(seed: int, *, form: str, strength: float) -> dict[str, Any]:
    """Measure the share of a weight that remains after weight decay, for each history of its gradients.

    The learning rate falls linearly to 0. The share does not include the movement that the gradients cause.
    """
    generator = torch.Generator().manual_seed(seed)
    scales, bursts = torch.tensor(list(HISTORIES.values()), dtype=torch.float64).T.unsqueeze(-1)
    weights = [torch.ones(len(HISTORIES), WEIGHTS, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimizers = [
        RMSprop([weights[0]], lr=LR, bias_correction=True, weight_decay=strength, **FORMS[form]),
        RMSprop([weights[1]], lr=LR, bias_correction=True),
    ]
    for update in range(UPDATES):
        grad = scales * torch.randn(weights[0].shape, generator=generator, dtype=torch.float64)
        if update == BURST_AT:
            grad = grad * bursts
        for weight, optimizer in zip(weights, optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = LR * (1 - update / UPDATES)
            weight.grad = grad.clone()
            optimizer.step()
    with_decay, without = (weight.detach().mean(1) for weight in weights)
    return {"left": (with_decay - (without - 1.0)).tolist()}


def due(strength: float) -> float:
    """Return the expected remaining share under decoupled decay."""
    return float(np.prod([1 - strength * LR * (1 - update / UPDATES) for update in range(UPDATES)]))


def scored(seed: int, *, form: str, strength: float, rate: float, num_steps: int) -> dict[str, Any]:
    """Measure A2C's mean return in the second half of a training run on CartPole, and the spread of coupled decay.

    Returns:
        ``return``: mean return. ``spread``: 90th percentile of the strength of coupled decay over the weights,
            divided by the 10th percentile, at the end of the training.
    """
    env = make_vec("CartPole-v1", NUM_ENVS, {}, seed=seed)
    options = {} if form == "none" else {"weight_decay": strength, **FORMS[form]}
    agent = A2C(
        env,
        learning_rate=rate,
        n_steps=NUM_STEPS,
        gae_lambda=0.95,
        ent_coef=0.01,
        optimizer_kwargs=options,
        seed=seed,
        device="cpu",
        **NOT_NORMALIZED,
    )
    scores = episode_returns(agent, num_steps, since=num_steps / 2)
    env.close()
    moments = torch.cat([state["square_avg"].flatten() for state in agent.optimizer.state.values()])
    low, high = np.quantile(moments.sqrt().numpy() + agent.optimizer.param_groups[0]["eps"], (0.1, 0.9))
    return {"return": float(np.mean(scores)), "spread": float(high / low)}


def remaining(results: Results, form: str, strength: float) -> dict[str, float]:
    """Return the share of a weight that remains after the decay, for each history of its gradients."""
    values = results.values("left", of="weights", form=form, strength=strength)
    return {history: interquartile(column) for history, column in zip(HISTORIES, values.T, strict=True)}


def best(results: Results, form: str, strength: float) -> Cell:
    """Return the agent's cell at the learning rate with the highest return."""
    of = {"of": "agent", "form": form, "strength": strength}
    return {**of, "rate": results.best("return", "rate", highest=True, **of)}


def returns(results: Results, form: str) -> dict[float, Estimate]:
    """Return the mean returns of agents by strength of decay."""
    strengths = results.levels("strength", of="agent", form=form)
    return {strength: results.estimate("return", **best(results, form, strength)) for strength in strengths}


def spread(results: Results) -> Estimate:
    """Return the 90th percentile of the strength of coupled decay over the weights, divided by the 10th."""
    return results.estimate("spread", **best(results, "none", results.levels("strength", form="none")[0]))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate the remaining shares of weights, and the agents' returns."""
    rows = []
    for strength in results.levels("strength", of="weights"):
        by_form = [remaining(results, form, strength) for form in FORMS]
        rows += [
            [
                f"strength {strength:g}, gradients {history}",
                "1",
                *(short(one[history]) for one in by_form),
            ]
            for history in HISTORIES
        ]
    rows.append(["A2C: 90th percentile of the strength / 10th percentile", "", str(spread(results)), "1"])
    scored = []
    by_strength = [returns(results, form) for form in STRENGTHS]
    for strength in sorted({strength for one in by_strength for strength in one}):
        texts = [str(one[strength]) if strength in one else "" for one in by_strength]
        scored.append([f"strength {strength:g}", *texts])
    names = ["no decay" if form == "none" else form for form in STRENGTHS]
    return [
        Table(["remaining share of weights", "no decay", *FORMS], rows),
        Table(["mean return of A2C", *names], scored),
    ]


def verdict(results: Results) -> Verdict:
    """Judge whether decoupled decay leaves the same share for every history of gradients."""
    coupled, decoupled = (remaining(results, form, STRONG) for form in ("coupled", "decoupled"))
    off = max(abs(value / due(STRONG) - 1) for value in decoupled.values())
    unused = short(abs(coupled["0"]))
    least, most = short(min(decoupled.values())), short(max(decoupled.values()))
    strongest = {form: max(returns(results, form)) for form in STRENGTHS}
    plain, *decayed = (short(returns(results, form)[strength].middle) for form, strength in strongest.items())
    sentence = (
        f"At strength {STRONG:g}, decoupled decay leaves {least} to {most} of a weight for every history of "
        f"gradients. Coupled decay leaves {short(max(coupled.values()))} of a weight with large gradients, and "
        f"{unused} of a weight whose gradients are 0. In A2C, the 90th percentile of the strength of coupled "
        f"decay is {short(spread(results).middle)} times the 10th percentile. The mean return of A2C is {plain} "
        f"without decay. The mean return of A2C is {decayed[0]} with coupled decay of strength "
        f"{strongest['coupled']:g}, and {decayed[1]} with decoupled decay of strength {strongest['decoupled']:g}."
    )
    return Verdict("holds" if off < 0.05 else "does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw the remaining share by history, and the return by strength."""
    first, second = figure.subplots(1, 2)
    for color, form in zip(COLORS, FORMS, strict=False):
        values = results.values("left", of="weights", form=form, strength=STRONG)
        middle = [interquartile(column) for column in values.T]
        first.plot(range(len(HISTORIES)), middle, "o-", color=color, label=form)
    first.axhline(due(STRONG), color="grey", linestyle=":", linewidth=1)
    first.set_xticks(range(len(HISTORIES)), [name.replace(", ", ",\n") for name in HISTORIES], fontsize=8)
    first.set(xlabel="standard deviation of the gradients", ylabel="remaining share of a weight")
    first.set_title(f"after decay of strength {STRONG:g}")
    first.legend()
    for color, form in zip(COLORS, ("coupled", "decoupled"), strict=False):
        estimates = returns(results, form)
        draw_band(second, estimates, list(estimates.values()), color=color, label=form)
    (plain,) = returns(results, "none").values()
    second.axhline(plain.middle, color="grey", linestyle=":", label="no decay")
    second.axhspan(plain.low, plain.high, color="grey", alpha=0.15)
    second.set(xscale="log", xlabel="strength of the decay", ylabel="mean return")
    second.set_title("A2C on CartPole, at the best learning rate")
    second.legend()


STUDY = Study(
    name="weight_decay",
    claim="Decoupled weight decay does not depend on the history of the gradients.",
    mechanism="`rl_rms.RMSprop` has the arguments `weight_decay` and `decoupled_weight_decay`. Agents take both "
    "arguments in `optimizer_kwargs`.",
    setup=f"In the first experiment, weights that start at 1 get {UPDATES:,} updates. The learning rate "
    f"falls linearly from {LR:g} to 0, and rho is 0.99."
    "\n\n- The gradients of a weight are normally distributed with a given standard deviation. In one "
    f"case, the gradient in update {BURST_AT + 1} is 1,000 times as large."
    "\n\n- The remaining share is the mean weight after the updates, without the movement that the "
    "gradients cause. A training run without decay measures this movement."
    "\n\nIn the second experiment, A2C trains on 16 CartPoles for 40,000 env steps with a half-life "
    "of 200 updates. The study measures the mean return of the episodes that end in the second half of the "
    "training, at the best of three learning rates. RMSprop divides coupled decay by the square root of each "
    "weight's second moment, so the strength of the decay differs between weights. The last row of the first "
    "table shows how much it differs: the 90th percentile of the strength over the weights, divided by the 10th "
    "percentile. These percentiles are computed from the second moments at the end of a training run without "
    "decay.",
    caveat="The training is short and the network is small, so the network does not overfit. Decay can therefore "
    "improve little in this study. Decay may help more in training runs in which a network has to stay able to "
    "learn. The returns with decoupled decay do not differ significantly from the returns without decay.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(10.0, 3.8),
)
