"""Tests whether LayerNorm makes results less sensitive to RMSprop's rho, with and without bias correction.

RMSprop's second moment v starts at 0. Without bias correction, the first step is therefore ``1 / sqrt(1 - rho)``
times as long as with bias correction. This factor grows with the half-life.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.agents import A2C, PolicyConfig
from rl_rms.envs import make_vec
from rl_rms.optim.rule import rmsprop_init, rmsprop_update
from rl_rms.studies.drawing import COLORS, draw_band
from rl_rms.studies.episodes import NOT_NORMALIZED, episode_returns
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, Floats, estimate, interquartile_mean, listed, short
from rl_rms.studies.regression import Params, Regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_LIVES = (7, 69, 700, 7_000)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)
UPDATES = 400
AGENT_HALF_LIVES = (20, 200, 2_000)
AGENT_RATES = (3e-3, 1e-2)
NUM_STEPS = 25_000


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each task, with and without LayerNorm and bias correction. Quick studies omit CartPole."""
    if quick:
        return grid(task=["regression"], layer_norm=[False, True], bias_correction=[False, True], updates=[150])
    return [
        *grid(task=["regression"], layer_norm=[False, True], bias_correction=[False, True], updates=[UPDATES]),
        *grid(task=["CartPole"], layer_norm=[False, True], bias_correction=[False, True]),
    ]


def measure(
    seed: int, *, task: str, layer_norm: bool, bias_correction: bool, updates: int = UPDATES
) -> dict[str, Any]:
    """Measure scores by half-life and learning rate, shape ``(half-lives, rates)``; higher is better."""
    if task == "regression":
        return {"scores": _regression(seed, layer_norm, bias_correction, updates)}
    scores = [
        [_agent(seed, layer_norm, bias_correction, half_life, rate) for rate in AGENT_RATES]
        for half_life in AGENT_HALF_LIVES
    ]
    return {"scores": scores}


def _regression(seed: int, layer_norm: bool, bias_correction: bool, updates: int) -> list[list[float]]:
    """Return -log10 of the mean loss in the last tenth of the updates, for each half-life and learning rate."""
    copies = len(HALF_LIVES) * len(RATES)
    half_life = torch.tensor(HALF_LIVES, dtype=torch.float32).repeat_interleave(len(RATES)).view(-1, 1, 1)
    lr = torch.tensor(RATES).repeat(len(HALF_LIVES)).view(-1, 1, 1)
    task = Regression(seed, copies, layer_norm=layer_norm)
    states = rmsprop_init(task.params)

    def step(params: Params, grads: Params) -> Params:
        nonlocal states
        new, states = rmsprop_update(
            params, grads, states, lr=lr, half_life=half_life, bias_correction=bias_correction
        )
        return new

    losses = task.train(step, updates)[-updates // 10 :].mean(0)
    scores = -losses.nan_to_num(nan=1e9, posinf=1e9).clamp(1e-9, 1e9).log10()
    by_half_life: list[list[float]] = scores.view(len(HALF_LIVES), len(RATES)).tolist()
    return by_half_life


def _agent(seed: int, layer_norm: bool, bias_correction: bool, half_life: float, rate: float) -> float:
    """Train an agent, and return the mean length of episodes that end in the last quarter, or 500 if none ends."""
    agent = A2C(
        make_vec("CartPole-v1", 16, seed=seed),
        policy=PolicyConfig(norm="layer" if layer_norm else "none"),
        half_life=half_life,
        learning_rate=rate,
        n_steps=8,
        gae_lambda=0.95,
        ent_coef=0.0,
        optimizer_kwargs={"bias_correction": bias_correction},
        seed=seed,
        device="cpu",
        **NOT_NORMALIZED,
    )
    returns = episode_returns(agent, NUM_STEPS, since=0.75 * NUM_STEPS)
    return float(np.mean(returns)) if returns else 500.0


def best_rate(scores: Floats) -> int:
    """Return the index of the rate with the best mean over seeds and half-lives.

    Args:
        scores: Scores, shape ``(seeds, half-lives, rates)``.
    """
    return int(scores.mean((0, 1)).argmax())


def at_best_rate(results: Results, **which: Any) -> Floats:
    """Return scores at the learning rate of `best_rate`, shape ``(seeds, half-lives)``."""
    scores = results.values("scores", **which)
    return scores[:, :, best_rate(scores)]


def deviation(scores: Floats) -> float:
    """Return the standard deviation over half-lives of the mean scores over seeds."""
    return float(scores.mean(0).std())


def tables(results: Results) -> Sequence[Table]:
    """Tabulate the spread over half-lives and the extreme scores, by task, LayerNorm and bias correction."""
    rows = []
    for cell in results.cells:
        scores = at_best_rate(results, **{key: cell[key] for key in ("task", "layer_norm", "bias_correction")})
        means = scores.mean(0)
        spread = str(estimate(scores, deviation))
        rows.append([f"{cell['task']}, {_name(cell)}", spread, short(means.min()), short(means.max())])
    header = ["task and network", "spread of the score over half-lives"]
    return [Table([*header, "score at the worst half-life", "score at the best half-life"], rows)]


def _name(cell: Cell) -> str:
    with_norm, with_bias_correction = cell["layer_norm"], cell["bias_correction"]
    norm = "LayerNorm" if with_norm else "no LayerNorm"
    return f"{norm}, {'bias correction' if with_bias_correction else 'no bias correction'}"


def effect(results: Results, task: str, before: Cell, after: Cell) -> Estimate:
    """Return the decrease of a task's spread from the setting ``before`` to the setting ``after``."""
    both = [at_best_rate(results, task=task, **setting) for setting in (before, after)]
    number = both[0].shape[1]
    return estimate(np.hstack(both), lambda x: deviation(x[:, :number]) - deviation(x[:, number:]))


def verdict(results: Results) -> Verdict:
    """Judge whether LayerNorm significantly reduces the spread in each task, with and without bias correction."""
    texts: list[str] = []
    lessens: list[str] = []
    count = 0
    for task in results.levels("task"):
        of, helped = [], []
        for bias_correction in (False, True):
            plain, norm = (
                {"layer_norm": layer_norm, "bias_correction": bias_correction} for layer_norm in (False, True)
            )
            of += [short(deviation(at_best_rate(results, task=task, **one))) for one in (plain, norm)]
            if effect(results, task, plain, norm).low > 0:
                helped.append(f"{task} {'with' if bias_correction else 'without'} bias correction")
        count += len(helped)
        lessens += [task] if len(helped) == 2 else helped
        texts.append(
            f"In {task} without bias correction, LayerNorm changes the spread over half-lives from {of[0]} to "
            f"{of[1]}. In {task} with bias correction, LayerNorm changes the spread from {of[2]} to {of[3]}."
        )
    sentence = " ".join(texts)
    if count == 2 * len(texts):
        return Verdict("holds", sentence)
    if lessens:
        return Verdict("conditional", sentence, f"only in {listed(lessens)}")
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw scores over half-lives at the best common rate."""
    tasks = results.levels("task")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        half_lives = HALF_LIVES if task == "regression" else AGENT_HALF_LIVES
        for i in results.where(task=task):
            cell, scores = results.cells[i], results.measured[i]["scores"]
            estimates = [interquartile_mean(of_seeds) for of_seeds in scores[:, :, best_rate(scores)].T]
            color = COLORS[2 * cell["layer_norm"] + cell["bias_correction"]]
            draw_band(axis, half_lives, estimates, color=color, label=_name(cell))
        axis.set(xscale="log", xlabel="half-life in updates")
        axis.set_ylabel("score: -log10 of the loss" if task == "regression" else "score: episode length")
        axis.set_title(f"{task}, at the best common learning rate")
        axis.legend()


STUDY = Study(
    name="layer_norm",
    claim="LayerNorm stabilizes the scale of gradients, so results depend less on RMSprop's rho.",
    mechanism="`PolicyConfig(norm='layer')` adds LayerNorm to a policy. In a configuration, the key is "
    "`agent.policy.norm: layer`. `rl_rms.RMSprop` has the argument `bias_correction`, which agents set to "
    "True by default.",
    setup="The study trains with several half-lives, with and without LayerNorm, and with and without bias "
    "correction. In each row, all half-lives use the learning rate with the highest mean score over half-lives "
    "and seeds. The spread is the standard deviation over half-lives of the mean score over "
    "seeds. The scores in the table are means over seeds, not interquartile means."
    "\n\n- In the regression, a network learns the outputs of a fixed network. The score is -log10 of the "
    f"mean loss in the last tenth of {UPDATES} updates. The half-lives are 7, 69, 700 and 7,000 "
    "updates, and there are five learning rates."
    f"\n\n- In CartPole, A2C trains on 16 CartPoles for {NUM_STEPS:,} env steps. The score is the mean "
    "length of the episodes that end in the last quarter of the training, or 500 if none ends. The half-lives are "
    "20, 200 and 2,000 updates, and there are two learning rates.",
    caveat="The training runs are shorter than the longest half-lives. Each learning rate was chosen with the "
    "same seeds as the scores in the table. Over 200,000 env steps with bias correction, half-lives from 20 to "
    "2,000 updates give similar results on CartPole (docs/half_life.md).",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
)
