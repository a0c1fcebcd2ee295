"""Learns learning rate, half-life and epsilon by meta-gradient, and compares the result with a grid search.

The meta-objective is ``J(x) = L_T + c Var_t log L_t``. The vector x contains the logarithms of the three
hyperparameters. ``L_T`` is the loss on a new batch after T updates. The factor c weights the variance of the
logarithms of the earlier losses ``L_t``.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rl_rms.agents.meta_window import SavedTensors
from rl_rms.optim.rule import rmsprop_init, rmsprop_update
from rl_rms.studies.drawing import COLORS, draw_band, draw_estimates
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile_mean, short
from rl_rms.studies.regression import Params, Regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES: tuple[str, ...] = ("lr", "half_life", "eps")
START = {"lr": 1e-3, "half_life": 69.0, "eps": 1e-4}
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)
HALF_LIVES = (3.0, 20.0, 69.0, 300.0)
EPSILONS = (1e-8, 1e-4, 1e-2)
LENGTHS = (1, 3, 10, 30, 100)
DRAWS = 24
NUM_STEPS = 200
META_UPDATES, META_RATE, HORIZON = 80, 0.1, 30
PENALTIES = (0.0, 0.1)
# Bounds of the learned hyperparameters.
LEAST = {"lr": 1e-5, "half_life": 1.0, "eps": 1e-10}
MOST = {"lr": 1.0, "half_life": 1e4, "eps": 1.0}


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells for each number of unrolled updates, and for each method that chooses hyperparameters."""
    if quick:
        return [*grid(length=[3, 30]), *grid(by=["start", "learned"], penalty=[0.0])]
    return [*grid(length=LENGTHS), *grid(by=["start", "grid"]), *grid(by=["learned"], penalty=PENALTIES)]


def measure(seed: int, **cell: Any) -> dict[str, Any]:
    """Measure the meta-gradient, or a method that chooses hyperparameters."""
    return _signal(seed, **cell) if "length" in cell else _scores(seed, **cell)


def unroll(task: Regression, params: Params, x: Tensor, length: int, penalty: float) -> Tensor:
    """Compute the meta-objective of a training run, differentiable with respect to x.

    Args:
        task: Task that gives the batches.
        params: Initial parameters of one copy.
        x: Logarithms of learning rate, half-life and epsilon.
        length: Number of updates.
        penalty: Weight of the variance of the logarithms of the losses.
    """
    lr, half_life, eps = x.exp()
    params = {name: param.detach().requires_grad_() for name, param in params.items()}
    states, losses = rmsprop_init(params), []
    for _ in range(length):
        loss = task.losses(params).sum()
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        losses.append(loss.log())
        params, states = rmsprop_update(
            params,
            dict(zip(params, grads, strict=True)),
            states,
            lr=lr,
            half_life=half_life,
            eps=eps,
            bias_correction=True,
        )
    objective = task.losses(params).sum()
    return objective + penalty * torch.stack(losses).var() if penalty else objective


def _signal(seed: int, length: int) -> dict[str, Any]:
    """Measure the signal-to-noise ratio of the meta-gradient over draws of batches, and its time and memory.

    Returns:
        ``lr``, ``half_life`` and ``eps``: signal-to-noise ratios. ``times``: time of a meta-gradient divided by
            the time of as many plain updates. ``kilobytes``: memory of the saved tensors.
    """
    task = Regression(seed, 1, layer_norm=False)
    task.train(descent(START), 100)
    begin, gradients, times, saved = task.params, [], [], SavedTensors()
    for draw in range(DRAWS):
        x, began = logs(START).requires_grad_(), time.perf_counter()
        with saved if draw == 0 else nullcontext():
            objective = unroll(task, begin, x, length, 0.0)
        (gradient,) = torch.autograd.grad(objective, x)
        times.append(time.perf_counter() - began)
        gradients.append(gradient.double().numpy())
    began = time.perf_counter()
    task.train(descent(START), length)
    plain = time.perf_counter() - began
    mean, deviation = np.mean(gradients, axis=0), np.std(gradients, axis=0, ddof=1)
    clear = np.abs(mean) / np.maximum(deviation, 1e-30)
    return {
        **dict(zip(NAMES, clear.tolist(), strict=True)),
        "times": statistics.median(times) / plain,
        "kilobytes": saved.bytes / 1e3,
    }


def logs(values: Mapping[str, float]) -> Tensor:
    """Return the logarithms of hyperparameters, in the order of `NAMES`."""
    return torch.tensor([values[name] for name in NAMES]).log()


def descent(values: Mapping[str, float]) -> Callable[[Params, Params], Params]:
    """Return a function that makes RMSprop updates with given hyperparameters."""
    states: Any = None

    def step(params: Params, grads: Params) -> Params:
        nonlocal states
        states = states or rmsprop_init(params)
        lr, half_life, eps = (values[name] for name in NAMES)
        new, states = rmsprop_update(
            params, grads, states, lr=lr, half_life=half_life, eps=eps, bias_correction=True
        )
        return new

    return step


def _score(seed: int, values: Mapping[str, float]) -> float:
    """Train a network, and return -log10 of the mean loss in the last tenth of the updates."""
    losses = Regression(seed, 1, layer_norm=False).train(descent(values), NUM_STEPS)[-NUM_STEPS // 10 :]
    return -math.log10(min(float(losses.mean().nan_to_num(nan=1e9)), 1e9))


def _scores(seed: int, by: str, penalty: float = 0.0) -> dict[str, float]:
    """Train with the hyperparameters that a method chose, and return the score and these hyperparameters."""
    if by == "grid":
        points = [dict(zip(NAMES, point, strict=True)) for point in itertools.product(RATES, HALF_LIVES, EPSILONS)]
        found = max(points, key=lambda point: _score(10_000 + seed, point))
    else:
        found = _learned(10_000 + seed, penalty) if by == "learned" else START
    return {"score": _score(seed, found), **found}


def _learned(seed: int, penalty: float) -> dict[str, float]:
    """Learn hyperparameters by meta-gradient descent. Each step uses one window of a training run."""
    x, state = logs(START), None
    task = Regression(seed, 1, layer_norm=False)
    first, windows = task.params, NUM_STEPS // HORIZON
    for number in range(META_UPDATES):
        begin = first if number % windows == 0 else task.params
        values = dict(zip(NAMES, x.exp().tolist(), strict=True))
        free = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(unroll(task, begin, free, HORIZON, penalty), free)
        state = state or rmsprop_init(x)
        # A window in which the loss diverges has no usable gradient.
        gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        x, state = rmsprop_update(x, gradient, state, lr=META_RATE, half_life=20, bias_correction=True)
        x = torch.minimum(torch.maximum(x, logs(LEAST)), logs(MOST))
        task.params = begin
        task.train(descent(values), HORIZON)
    return dict(zip(NAMES, x.exp().tolist(), strict=True))


def share(results: Results, penalty: float) -> Estimate:
    """Return the gain of the learned hyperparameters as a share of the grid's gain, paired by seed."""
    start, best = (results.values("score", by=by) for by in ("start", "grid"))
    learned = results.values("score", by="learned", penalty=penalty)
    return interquartile_mean((learned - start) / (best - start))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate signal-to-noise ratios and costs, then hyperparameters and scores by method."""
    signal = []
    for length in results.levels("length"):
        clear = [str(results.estimate(name, length=length)) for name in NAMES]
        times, memory = (results.middle(name, length=length) for name in ("times", "kilobytes"))
        signal.append([str(length), *clear, f"{times:.1f}", short(memory)])
    found = []
    for i in (i for i in results.where() if "by" in results.cells[i]):
        cell = results.cells[i]
        learned = cell["by"] == "learned"
        name = f"learned, penalty {cell['penalty']:g}" if learned else cell["by"]
        gained = str(share(results, cell["penalty"])) if learned and results.where(by="grid") else ""
        values = [short(float(np.median(results.measured[i][name]))) for name in NAMES]
        found.append([name, *values, str(interquartile_mean(results.measured[i]["score"])), gained])
    ratios = [f"signal-to-noise ratio of {name}" for name in NAMES]
    return [
        Table(["unrolled updates", *ratios, "time / time of plain updates", "memory in kB"], signal),
        Table(["method", "lr", "half_life in updates", "eps", "score", "gain / gain of the grid search"], found),
    ]


def verdict(results: Results) -> Verdict:
    """Judge the claim by the gain of learning without penalty, and by the signal-to-noise ratios."""
    lengths = results.levels("length")
    clear = {name: [results.middle(name, length=length) for length in lengths] for name in NAMES}
    start = results.values("score", by="start")
    gain = interquartile_mean(results.values("score", by="learned", penalty=0.0) - start)
    grid_share = ""
    if results.where(by="grid"):
        shares = [f"{100 * share(results, penalty).middle:.0f} %" for penalty in PENALTIES]
        grid_share = (
            f" Without the penalty, the gain is {shares[0]} of the gain of the grid search. With the penalty, the "
            f"gain is {shares[1]} of the gain of the grid search."
        )
    noisiest = min(NAMES, key=lambda name: min(clear[name]))
    sentence = (
        f"Learning the three hyperparameters lowers log10 of the loss by {gain}.{grid_share} The meta-gradient is "
        f"noisiest for {noisiest}, with signal-to-noise ratios between {min(clear[noisiest]):.2f} and "
        f"{max(clear[noisiest]):.2f}."
    )
    if gain.low <= 0:
        return Verdict("does not hold", sentence)
    unclear = " and ".join(name for name in NAMES if min(clear[name]) < 1)
    if unclear:
        condition = f"for {unclear} only if the meta-gradients of many windows of updates are averaged"
        return Verdict("conditional", sentence, condition)
    return Verdict("holds", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw signal-to-noise ratio and memory over the number of unrolled updates, and scores by method."""
    signal, cost, score = figure.subplots(1, 3)
    lengths = results.levels("length")
    for color, name in zip(COLORS, NAMES, strict=False):
        estimates = [results.estimate(name, length=length) for length in lengths]
        draw_band(signal, lengths, estimates, color=color, label=name)
    signal.axhline(1.0, color="#AAAAAA", linewidth=0.8)
    signal.set(xscale="log", yscale="log", xlabel="unrolled updates", ylabel="signal-to-noise ratio")
    signal.legend()
    memory = [results.middle("kilobytes", length=length) for length in lengths]
    cost.plot(lengths, memory, "o-", color=COLORS[0])
    cost.set(xscale="log", yscale="log", xlabel="unrolled updates", ylabel="memory of the saved tensors in kB")
    found = [i for i in results.where() if "by" in results.cells[i]]
    estimates = [interquartile_mean(results.measured[i]["score"]) for i in found]
    draw_estimates(score, range(len(estimates)), estimates, color=COLORS[0])
    names = [" ".join(str(value) for value in results.cells[i].values()) for i in found]
    score.set_xticks(range(len(estimates)), names, rotation=45, ha="right", fontsize=8)
    score.set_ylabel("score")


STUDY = Study(
    name="meta_gradient",
    claim="RMSprop's eps and half-life can be learned by differentiating through the training. A penalty on "
    "fluctuations of the loss makes this learning stable.",
    mechanism="`rl_rms.optim.rule.rmsprop_update` is differentiable with respect to every hyperparameter that "
    "is a tensor. The setting `agent.meta` learns hyperparameters of agents by meta-gradients.",
    setup="A tanh network learns the outputs of a fixed network by RMSprop. The hyperparameters start at "
    f"learning rate {START['lr']:g}, half-life {START['half_life']:g} updates and eps "
    f"{START['eps']:g}."
    "\n\n- The first experiment trains for 100 updates. The experiment then computes the meta-gradient "
    f"{DRAWS} times with new batches, for several numbers of unrolled updates. The meta-gradient is the "
    "gradient of the loss after these updates with respect to the logarithms of the hyperparameters. The "
    "signal-to-noise ratio is the magnitude of the meta-gradient's mean, divided by the meta-gradient's standard "
    "deviation. The first table also shows the time of a meta-gradient divided by the time of as many plain "
    "updates, and the memory of the saved tensors."
    f"\n\n- The second experiment learns the hyperparameters in {META_UPDATES} meta-updates over windows "
    f"of {HORIZON} updates. The penalty is 0 or {PENALTIES[1]:g} times the variance of the logarithm of the loss "
    f"within a window. A grid search chooses from {len(RATES) * len(HALF_LIVES) * len(EPSILONS)} "
    "combinations of hyperparameters."
    "\n\n- Meta-gradient descent and grid search choose the hyperparameters on one task. The score is -log10 of "
    f"the mean loss in the last tenth of a training run of {NUM_STEPS} updates on another task."
    "\n\n- The second table shows medians over seeds of the chosen hyperparameters. The gain is the "
    "score minus the score with the initial hyperparameters. The last column is the gain divided by the gain of "
    "the grid search.",
    caveat="Windows that are much shorter than the training favor learning rates that are too small for the "
    "training (short-horizon bias).",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(11.0, 3.6),
)
