"""Tests whether an optimizer's steps depend on the scale gamma of a BatchNorm that follows the weights.

The gradients of the earlier weights are proportional to gamma, ``g(gamma) = gamma g(1)``, under two conditions.
The loss is linear in the outputs. BatchNorm and the later hidden layers have no biases and only ReLU activations.
An optimizer whose steps do not depend on the scale of the gradients then moves the earlier weights equally for
every gamma.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from rl_rms.agents import PolicyConfig
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.studies.drawing import COLORS, draw_estimates
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import interquartile_mean, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAMMAS = tuple(10.0**k for k in range(-3, 4))
RATE = 1e-3
UPDATES, BATCH = 100, 64
# The optimizers whose steps are compared.
KINDS: dict[str, Any] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=RATE),
    "Adam": lambda params: torch.optim.Adam(params, lr=RATE),
    "RMSprop, eps 1e-8": lambda params: RMSprop(params, lr=RATE, bias_correction=True, eps=1e-8),
    "RMSprop, eps 1e-5": lambda params: RMSprop(params, lr=RATE, bias_correction=True, eps=1e-5),
    "RMSprop, eps 1e-3": lambda params: RMSprop(params, lr=RATE, bias_correction=True, eps=1e-3),
    "RMSpropTFLike, eps 1e-5": lambda params: RMSprop(params, lr=RATE, like="rmsprop_tf_like", eps=1e-5),
}
# Number of updates measured after a jump of gamma, by rho.
RHOS = {0.5: 60, 0.9: 300, 0.99: 1_500, 0.999: 6_000}
JUMPS = (0.1, 10.0)
WARM_UP = 200
CLOSE = 0.1
MEASURED = ("first", "updates")


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each optimizer and constant gamma, and for each rho and jump of gamma."""
    if quick:
        return [
            *grid(by=["SGD", "RMSprop, eps 1e-8", "RMSpropTFLike, eps 1e-5"], gamma=[0.01, 1.0, 100.0]),
            *grid(rho=[0.5, 0.9], jump=[10.0]),
        ]
    return [*grid(by=KINDS, gamma=GAMMAS), *grid(rho=RHOS, jump=JUMPS)]


class Gradients:
    """Computes the gradients of a policy's first weights on random batches, for a given gamma.

    Args:
        seed: Seed of the policy, the observations and the random factors of its outputs.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        config = PolicyConfig(hidden_sizes=(32,), activation="relu", norm="batch", orthogonal_init=False)
        self.policy = ActorCriticPolicy(Box(-1.0, 1.0, (8,)), Discrete(4), config).double()
        self.generator = torch.Generator().manual_seed(seed)
        (self.norm,) = (one for one in self.policy.actor_network if isinstance(one, nn.BatchNorm1d))
        (first, *_) = (one for one in self.policy.actor_network if isinstance(one, nn.Linear))
        self.weights: Tensor = first.weight

    def collect(self, gamma: float) -> None:
        """Set gamma, and compute the weights' gradient on the next batch."""
        with torch.no_grad():
            self.norm.weight.fill_(gamma)
        observations = torch.randn(BATCH, 8, generator=self.generator, dtype=torch.float64)
        push = torch.randn(BATCH, 4, generator=self.generator, dtype=torch.float64)
        (self.weights.grad,) = torch.autograd.grad(
            (self.policy.actor_network(observations) * push).mean(), [self.weights]
        )


@functools.cache
def moved(seed: int, by: str, gamma: float) -> Tensor:
    """Return the change of the first weights in `UPDATES` updates."""
    source = Gradients(seed)
    before = source.weights.detach().clone()
    optimizer = KINDS[by]([source.weights])
    for _ in range(UPDATES):
        source.collect(gamma)
        optimizer.step()
    return (source.weights - before).detach()


def measure(seed: int, **cell: Any) -> dict[str, Any]:
    """Measure a constant gamma, or a jump of gamma."""
    return _jump(seed, **cell) if "jump" in cell else _constant(seed, **cell)


def _constant(seed: int, *, by: str, gamma: float) -> dict[str, float]:
    """Measure the displacement of the weights, and its relative difference from the displacement at gamma 1."""
    own, usual = moved(seed, by, gamma), moved(seed, by, 1.0)
    return {"distance": float(own.norm()), "difference": float((own - usual).norm() / usual.norm())}


def _jump(seed: int, *, rho: float, jump: float) -> dict[str, float]:
    """Compare the lengths of the steps after a jump of gamma with the lengths without a jump.

    Returns:
        ``first``: length of the step with the jump, divided by its length without the jump, in the first update
        after the jump.
        ``updates``: updates after the jump until the two lengths stay within 10 % of each other, or all measured
        updates if the lengths differ more until the end.
    """
    lengths = []
    for factor in (1.0, jump):
        source = Gradients(seed)
        optimizer = RMSprop([source.weights], lr=RATE, rho=rho, bias_correction=True)
        of_gamma = []
        for update in range(WARM_UP + RHOS[rho]):
            source.collect(1.0 if update < WARM_UP else factor)
            before = source.weights.detach().clone()
            optimizer.step()
            of_gamma.append(float((source.weights.detach() - before).norm()))
        lengths.append(np.array(of_gamma[WARM_UP:]))
    off = np.abs(np.log(lengths[1] / lengths[0])) > np.log(1 + CLOSE)
    return {"first": lengths[1][0] / lengths[0][0], "updates": float(np.flatnonzero(off).max(initial=-1) + 1)}


def worst(results: Results, by: str) -> float:
    """Return the largest relative difference over gammas for an optimizer."""
    return max(results.middle("difference", by=by, gamma=gamma) for gamma in results.levels("gamma", by=by))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate the relative differences from gamma 1, then the effects of jumps."""
    gammas = results.levels("gamma")
    rows = [
        [by, *(short(results.middle("difference", by=by, gamma=gamma)) for gamma in gammas)]
        for by in results.levels("by")
    ]
    jumps = [
        [f"rho {rho:g}, gamma x {jump:g}", *(str(results.estimate(m, rho=rho, jump=jump)) for m in MEASURED)]
        for rho in results.levels("rho")
        for jump in results.levels("jump", rho=rho)
    ]
    return [
        Table(["difference from the displacement at gamma 1, relative", *(f"gamma {g:g}" for g in gammas)], rows),
        Table(["change of gamma", "ratio of the first steps", "updates until step lengths agree"], jumps),
    ]


def verdict(results: Results) -> Verdict:
    """Judge the claim by the worst gamma at eps 1e-8.

    The evidence also contains the worst gamma at the largest eps, and the longest effect of a jump.
    """
    small = worst(results, "RMSprop, eps 1e-8")
    scaled = [by for by in results.levels("by") if by.startswith("RMSprop,")]
    texts = [
        f"With {by.replace(', ', ' and ')}, the displacement differs from the displacement at gamma 1 by up to "
        f"{short(100 * worst(results, by))} %."
        for by in (scaled[0], scaled[-1])
    ]
    slowest = max(
        (results.middle("updates", rho=rho, jump=jump), rho, jump)
        for rho in results.levels("rho")
        for jump in results.levels("jump", rho=rho)
    )
    sentence = (
        f"{' '.join(texts)} After gamma is multiplied by {slowest[2]:g}, it takes at least {short(slowest[0])} "
        f"updates with rho {slowest[1]:g} until the step lengths are again within 10 % of the lengths without "
        "this change."
    )
    if small > CLOSE:
        return Verdict("does not hold", sentence)
    return Verdict("conditional", sentence, "if eps is far smaller than the gradients and gamma is constant")


def draw(results: Results, figure: "Figure") -> None:
    """Draw the displacement by gamma, and the duration of a jump's effect by rho."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    for color, by in zip(COLORS, results.levels("by"), strict=False):
        gammas = results.levels("gamma", by=by)
        distances = [results.middle("distance", by=by, gamma=gamma) for gamma in gammas]
        left.plot(gammas, distances, "o-", color=color, markersize=4, label=by)
    left.set(xscale="log", yscale="log", xlabel="gamma", ylabel=f"displacement in {UPDATES} updates, lr {RATE:g}")
    left.legend()
    for color, jump in zip(COLORS, results.levels("jump"), strict=False):
        rhos = results.levels("rho", jump=jump)
        estimates = [interquartile_mean(results.values("updates", rho=rho, jump=jump)) for rho in rhos]
        memories = [1 / (1 - rho) for rho in rhos]
        draw_estimates(right, memories, estimates, fmt="o-", color=color, label=f"x {jump:g}")
    right.set(xscale="log", yscale="log", xlabel="1 / (1 - rho)", ylabel="updates until step lengths agree")
    right.set_title("after a change of gamma")
    right.legend()


STUDY = Study(
    name="batch_norm",
    claim="The gradients of the layers before a BatchNorm layer are proportional to its scale gamma. RMSprop's "
    "denominator is also proportional to gamma, so RMSprop's steps do not depend on gamma.",
    mechanism="`PolicyConfig(norm='batch')` adds BatchNorm to a policy. In a configuration, the key is "
    "`agent.policy.norm: batch`. `rl_rms.RMSprop` has the arguments `eps`, `eps_in_sqrt` and `like`.",
    setup="The actor has one hidden layer of 32 units with BatchNorm and ReLU. An optimizer trains only the "
    f"first weights, which precede BatchNorm, with learning rate 1e-3. A batch has {BATCH} random "
    "observations. The loss is the mean of the actor's four outputs, each multiplied by a random factor."
    "\n\n- In the first experiment, gamma is constant. The displacement D(gamma) is the change of the "
    f"first weights in {UPDATES} updates. The first table shows |D(gamma) - D(1)| / |D(1)|, with the same "
    "batches for every gamma."
    f"\n\n- In the second experiment, the optimizer is RMSprop, and gamma is 1 for {WARM_UP} updates and then "
    "changes once by a factor. The study compares the length of each step after this change with the length of "
    "the same step in a training run without the change. The second table shows the ratio of the two lengths in "
    "the first update after the change. The last column shows after how many updates the two lengths stay within "
    "10 % of each other."
    "\n\n- The second experiment measures 60 updates after the change for rho = 0.5, 300 for 0.9, 1,500 for "
    "0.99, and 6,000 for 0.999.",
    caveat="At rho = 0.999 and gamma x 0.1, the measurement ends about when the step lengths agree, so the true "
    "number of updates may be larger. After the change of gamma, the weights of the two training runs differ. "
    "This difference also changes the step lengths. Gradients are exactly proportional to gamma only if the loss "
    "is linear in the actor's outputs. BatchNorm and the later hidden layers must also have no biases and only "
    "ReLU activations. With tanh or a saturating loss, gamma also changes the direction of the gradients.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    quick_seeds=2,
)
