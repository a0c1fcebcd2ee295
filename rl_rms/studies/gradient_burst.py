"""Measures steps in and after a burst of large gradients, and the return lost after an attack or large rewards.

A burst of size B is one update in which every gradient has the magnitude B. The other gradients have the standard
deviation 1. Root v is the square root of RMSprop's second moment v.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.agents.agent import Agent
from rl_rms.agents.attacks import FGSMAttack
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Constant
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.studies.drawing import COLORS
from rl_rms.studies.episodes import NOT_NORMALIZED
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile, interquartile_mean, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RHOS = (0.9, 0.99, 0.999)
SIZES = (10.0, 100.0, 1_000.0)
COORDINATES, BURST_AT, MOST = 100, 100, 12_000
NEAR = 0.1
RATIO, MAX_NORM = 3.0, 0.5
# Names of the clipping in the first and the second experiment.
RATIO_CLIP, NORM_CLIP = f"max_grad_ratio={RATIO:g}", f"max_grad_norm={MAX_NORM:g}"

# Events in the middle of a training run, and their length in env steps.
EVENTS = {"none": 0, "attack": 2_000, "rewards": 128}
HARM = {"attack": "attack", "rewards": "rewards x 1,000"}
STRENGTH, REWARD_SCALE = 0.5, 1_000.0
# Learning rates, by whether the agent clips gradients.
RATES = {False: (1e-3, 3e-3, 1e-2), True: (3e-3, 1e-2, 3e-2)}
NUM_ENVS, NUM_STEPS = 16, 8


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells for bursts by rho, clipping and size, and for agents by rho, clipping, event and rate."""
    bursts = [
        *grid(of=["normalizer"], rho=RHOS[:2] if quick else RHOS, clips=[False], size=SIZES),
        *grid(of=["normalizer"], rho=[0.99], clips=[True], size=SIZES[-1:]),
    ]
    agents = {"of": ["agent"], "event": EVENTS}
    if quick:
        return [*bursts, *grid(rho=[0.99], clips=[False], rate=[3e-3], num_steps=[8_000], **agents)]
    return [
        *bursts,
        *grid(rho=RHOS, clips=[False], rate=RATES[False], num_steps=[40_000], **agents),
        *grid(rho=[0.99], clips=[True], rate=RATES[True], num_steps=[40_000], **agents),
    ]


def measure(seed: int, *, of: str, **cell: Any) -> dict[str, Any]:
    """Measure the effect of a burst on steps, or train an agent."""
    return (burst if of == "normalizer" else train)(seed, **cell)


def burst(seed: int, *, rho: float, clips: bool, size: float) -> dict[str, Any]:
    """Compare a burst in all coordinates with the same noise without the burst.

    Returns:
        ``step``: longest step in the update with the burst, divided by the learning rate. ``recovery``: updates
        after the burst until root v is within a tenth of its value without the burst. ``lost``: sum over these
        updates of the relative decrease of the step.
    """
    generator = torch.Generator().manual_seed(seed)
    # Only the first row gets the burst; all coordinates are independent.
    weight = torch.zeros(2, COORDINATES, dtype=torch.float64, requires_grad=True)
    ratio = RATIO if clips else None
    optimizer = RMSprop([weight], lr=1.0, rho=rho, initial_second_moment=1.0, max_grad_ratio=ratio)
    lost = 0.0
    for update in range(MOST):
        grad = torch.randn(COORDINATES, generator=generator, dtype=torch.float64).repeat(2, 1)
        if update == BURST_AT:
            grad[0] = size * grad[0].sign()
        before = weight.detach().clone()
        weight.grad = grad
        optimizer.step()
        if update < BURST_AT:
            continue
        if update == BURST_AT:
            step = float((weight.detach() - before)[0].abs().max())
        with_burst, without = optimizer.state[weight]["square_avg"].sqrt()
        if float((with_burst / without).mean()) <= 1 + NEAR:
            break
        lost += 1.0 - float((without / with_burst).mean())
    return {"step": step, "recovery": update - BURST_AT, "lost": lost}


def train(seed: int, *, rho: float, clips: bool, event: str, rate: float, num_steps: int) -> dict[str, Any]:
    """Train A2C on CartPole, with an event in the middle.

    For every event, the period below is the 2,000 env steps after the middle.

    Returns:
        ``return``: mean length of the episodes that end after the period. ``root``: largest norm of root v in the
            period, divided by the norm before.
    """
    middle, over = num_steps // 2, num_steps // 2 + EVENTS["attack"]
    changes = {}
    if event == "rewards":
        changes["reward.scale"] = Constant(REWARD_SCALE).during(middle, middle + EVENTS[event], rest=1.0)
    vec_env = make_vec("CartPole-v1", NUM_ENVS, changes, seed=seed)
    strength = Constant(STRENGTH if event == "attack" else 0.0).during(middle, over, rest=0.0)
    env = FGSMAttack(vec_env, strength)
    agent = A2C(
        env,
        learning_rate=rate,
        n_steps=NUM_STEPS,
        gae_lambda=0.95,
        ent_coef=0.01,
        max_grad_norm=MAX_NORM if clips else None,
        optimizer_kwargs={"rho": rho},
        seed=seed,
        device="cpu",
        **NOT_NORMALIZED,
    )
    env.aim(agent)
    lengths: list[int] = []
    roots = {"before": 0.0, "after": 0.0}

    def collect(trained: Agent) -> None:
        lengths.extend(one.length for one in trained.new_episodes if one.num_timesteps > over)
        root = math.sqrt(sum(float(state["square_avg"].sum()) for state in trained.optimizer.state.values()))
        if trained.num_timesteps <= middle:
            roots["before"] = root
        elif trained.num_timesteps <= over:
            roots["after"] = max(roots["after"], root)

    agent.learn(num_steps, callback=collect, log_interval=num_steps)
    env.close()
    return {"return": float(np.mean(lengths)), "root": roots["after"] / roots["before"]}


def bound(rho: float) -> float:
    """Return the bound on a step for any gradients, divided by the learning rate."""
    return 1.0 / math.sqrt(1.0 - rho)


def contenders(results: Results) -> list[Cell]:
    """Return the combinations of rho and clipping that agents are trained with."""
    found = [{"rho": c["rho"], "clips": c["clips"]} for c in results.cells if c["of"] == "agent"]
    return [one for i, one in enumerate(found) if one not in found[:i]]


def best_rate(results: Results, which: Cell) -> float:
    """Return the best learning rate without an event."""
    rate: float = results.best("return", "rate", highest=True, of="agent", event="none", **which)
    return rate


def returns(results: Results, event: str, **which: Any) -> Floats:
    """Return the returns of all seeds, at the best learning rate without an event."""
    return results.values("return", of="agent", event=event, rate=best_rate(results, which), **which)


def lost(results: Results, event: str, **which: Any) -> Estimate:
    """Estimate by how much an event lowers the agent's return, paired by seed."""
    return interquartile_mean(returns(results, "none", **which) - returns(results, event, **which))


def sooner(results: Results) -> list[float]:
    """Return the sizes of bursts after which a smaller rho recovers sooner."""

    def recoveries(size: float) -> list[float]:
        of = {"of": "normalizer", "clips": False, "size": size}
        return [interquartile(results.values("recovery", rho=rho, **of)) for rho in results.levels("rho", **of)]

    return [size for size in SIZES if recoveries(size) == sorted(recoveries(size)) and recoveries(size)[0] > 0]


def tables(results: Results) -> Sequence[Table]:
    """Tabulate steps, recovery and lost steps by rho and size, then agents' returns and losses."""
    rows = []
    for cell in results.cells:
        if cell["of"] == "normalizer":
            texts = [short(interquartile(results.values(name, **cell))) for name in ("step", "recovery", "lost")]
            texts[0] += f" of {short(RATIO if cell['clips'] else bound(cell['rho']))}"
            rows.append([f"burst of {cell['size']:,g}, {_named(cell, RATIO_CLIP)}", *texts])
    earned = []
    for which in contenders(results):
        plain = str(interquartile_mean(returns(results, "none", **which)))
        earned.append([f"A2C, {_named(which)}", plain, *(_cost(results, event, which) for event in HARM)])
    losses = [f"return lost after {event}; growth of root v" for event in HARM.values()]
    return [
        Table(["burst and optimizer", "longest step / lr", "updates until recovery", "steps lost"], rows),
        Table(["agent", "return without event", *losses], earned),
    ]


def _cost(results: Results, event: str, which: Cell) -> str:
    root = interquartile(results.values("root", of="agent", event=event, rate=best_rate(results, which), **which))
    return f"{lost(results, event, **which)}; x {short(root)}"


def _named(cell: Cell, clip: str = NORM_CLIP) -> str:
    return f"rho {cell['rho']:g}" + (f", {clip}" if cell["clips"] else "")


def verdict(results: Results) -> Verdict:
    """Judge the claim by the bound on steps, and by whether a smaller rho recovers sooner."""
    of = {"of": "normalizer", "clips": False}
    rhos = results.levels("rho", **of)
    steps = {rho: results.values("step", rho=rho, size=max(SIZES), **of).max() for rho in rhos}
    contained = all(
        (results.values("step", rho=rho, size=size, **of) <= bound(rho) * 1.0001).all()
        for rho in rhos
        for size in SIZES
    )
    biggest = max(SIZES)
    effects = " ".join(
        f"With rho {rho:g}, the longest step is {short(step)} times lr, and root v recovers from a burst of "
        f"{biggest:,g} in {short(interquartile(results.values('recovery', rho=rho, size=biggest, **of)))} updates."
        for rho, step in steps.items()
    )
    costs = ""
    for event, cause in (
        ("attack", "After an attack on the observations"),
        ("rewards", "After rewards 1,000 times as large"),
    ):
        losses = {_named(which): lost(results, event, **which).middle for which in contenders(results)}
        if losses:
            least, most = (choose(losses, key=losses.__getitem__) for choose in (min, max))
            in_words = [name.replace(", ", " and ") for name in (least, most)]
            costs += (
                f" {cause}, the loss of return is smallest with {in_words[0]} ({short(losses[least])}), and "
                f"largest with {in_words[1]} ({short(losses[most])})."
            )
    sentence = f"{effects}{costs}"
    large = sooner(results)
    if not contained or not large:
        return Verdict("does not hold", sentence)
    if large == list(SIZES):
        return Verdict("holds", sentence)
    return Verdict(
        "conditional", sentence, f"if the burst is at least {min(large):,g} times as large as other gradients"
    )


def draw(results: Results, figure: "Figure") -> None:
    """Draw the longest step and the recovery by rho and size, and returns by rho and event."""
    first, second, third = figure.subplots(1, 3)
    of = {"of": "normalizer", "clips": False}
    rhos = results.levels("rho", **of)
    for color, rho in zip(COLORS, rhos, strict=False):
        steps = [interquartile(results.values("step", rho=rho, size=size, **of)) for size in SIZES]
        recoveries = [interquartile(results.values("recovery", rho=rho, size=size, **of)) for size in SIZES]
        first.plot(SIZES, steps, "o-", color=color, label=f"rho {rho:g}")
        first.axhline(bound(rho), color=color, linestyle=":")
        second.plot(SIZES, recoveries, "o-", color=color, label=f"rho {rho:g}")
    first.set(xscale="log", yscale="log", xlabel="size of the burst", ylabel="longest step / lr")
    first.set_yticks([3, 10, 30], ["3", "10", "30"])
    first.minorticks_off()
    first.set_title("dotted: the bound 1 / sqrt(1 - rho)")
    second.set(xscale="log", xlabel="size of the burst", ylabel="updates until root v is within 10 %")
    second.set_yscale("symlog", linthresh=10)
    second.set_ylim(-1, 2 * MOST)
    second.set_title("recovery after a burst")
    second.legend()
    all_of_them = contenders(results)
    labels = {"none": "no event", **HARM}
    for shift, (color, event) in enumerate(zip(COLORS[3:], EVENTS, strict=False)):
        estimates = [interquartile_mean(returns(results, event, **which)) for which in all_of_them]
        middle = np.array([one.middle for one in estimates])
        reach = np.abs(np.array([[one.low, one.high] for one in estimates]).T - middle)
        third.bar(
            np.arange(len(estimates)) + 0.27 * (shift - 1),
            middle,
            0.25,
            yerr=reach,
            color=color,
            label=labels[event],
        )
    third.set_xticks(
        range(len(all_of_them)), [_named(which).replace(", ", "\n") for which in all_of_them], fontsize=8
    )
    third.set(ylabel="return after the event", ylim=(0, 600), title="A2C on CartPole")
    third.legend()


STUDY = Study(
    name="gradient_burst",
    claim="RMSprop's denominator bounds the steps during a burst of large gradients. With a smaller rho, these "
    "steps have a tighter bound, and later steps return sooner to their usual length.",
    mechanism="Without momentum, optimism, centering and decoupled weight decay, a step of `rl_rms.RMSprop` is "
    "at most lr / sqrt(1 - rho) in each coordinate. The metric `containment_margin` is 1 - s, where s is the "
    "longest step divided by this bound. `rl_rms.RMSprop` can also clip gradients. "
    "`rl_rms.agents.attacks.FGSMAttack` moves observations so that the policy's most likely "
    "action becomes less likely.",
    setup=f"In the first experiment, the gradients of {COORDINATES} coordinates are normally distributed "
    "with standard deviation 1. In one update, the gradients are a burst of size B: each gradient is B or -B. The "
    "study measures three quantities:"
    "\n\n- the longest step in the update with the burst, and its bound, both divided by the learning rate;"
    "\n\n- the number of updates until root v, the square root of the second moment v, is within 10 % of its "
    "value without the burst;"
    "\n\n- the steps lost: the sum of the relative decreases of the steps in these updates."
    "\n\nIn the second experiment, A2C trains on 16 CartPoles for 40,000 env steps. In the middle of "
    "the training, one of two events happens:"
    f"\n\n- In an attack, each component of the observations moves by {STRENGTH:g} for 2,000 env "
    "steps, in the direction that makes the policy's most likely action less likely."
    f"\n\n- In the event `rewards x 1,000`, rewards are 1,000 times as large for {EVENTS['rewards']} env steps, "
    "the length of a rollout."
    "\n\nThe return is the mean length of the episodes that end more than 2,000 env steps after the "
    "middle. The loss of return is the return without the event minus the return with the event, paired by "
    "seed. The growth of root v is the largest norm of root v in the 2,000 env steps after the middle, divided by "
    "the norm of root v before the middle. Each agent uses the best of three learning rates, by the return "
    "without an event. Agents clip gradients only in the row with max_grad_norm.",
    caveat="An attack lowers the return not only through v, but also through the agent's actions during the "
    "attack. The study does not separate these two causes. A2C makes only about 150 updates after the middle of "
    "the training. At rho = 0.999, root v needs thousands of updates to recover from a burst of 1,000. Without "
    "clipping, each event has three pairs of agents with different rho. Only one of these six pairs has "
    "significantly different losses of return.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(12.0, 3.8),
)
