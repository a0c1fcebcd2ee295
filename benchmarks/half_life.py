"""Returns of A2C in changing environments, by the half-life of its optimizer.

Run: python benchmarks/half_life.py run [--tasks NAME ...] [--contenders NAME ...] [--processes 2]
     python benchmarks/half_life.py report

``run`` appends each finished training run to benchmarks/results/half_life_runs.jsonl and skips training runs in
this file. You can stop and restart ``run``. ``report`` writes benchmarks/results/half_life.md and
docs/images/half_life_returns.png. ``report`` needs the extra ``plots``.

| | CartPole | FrozenLake |
|---|---|---|
| environments | 16 | 16 |
| env steps | 200,000 | 100,000 |
| n_steps | 8 | 5 |
| entropy coefficient | 0.01, 0.05 with action flips | 0.02 |
| score of an episode | its length | 100 if it reaches the goal, otherwise 0 |

A2C normalizes neither observations nor rewards. Generalized advantage estimation has lambda 0.95. Gradients with a
norm above 0.5 are scaled down to the norm 0.5. A contender is a half-life, or another setting of the optimizer.
With the same seed, all contenders have the same drift.

For each contender and task, a hill climb by factors of 2 searches for the best learning rate. The climb uses three
seeds that the tables do not use. The climb ends when neither neighbor of the best rate is better, or after nine
rates. The best rate and its neighbors are then trained with ten other seeds. If a neighbor is better, the
benchmark also trains the neighbors of this better rate.

For three parts of the training, the tables show the interquartile mean over seeds and its 95 % stratified
bootstrap interval, both computed by rliable:

- whole life: the whole training run
- after changes: the first quarter of every regime but the first
- late: the last quarter of every regime

A fourth table shows the mean difference between each agent's score over the whole training run and the score with
a half-life of 69 updates, paired by seed.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from changing_tasks import cart_pole, lake
from numpy.typing import NDArray
from trainings import (
    NUM_BINS,
    NUM_ENVS,
    SEEDS,
    STRETCHES,
    SWEEP_SEEDS,
    Records,
    best_rates,
    bin_scores,
    bootstrap,
    climb,
    run_or_report,
    stretches,
)

from rl_rms.agents import A2C
from rl_rms.agents.rollout import Episode
from rl_rms.envs import make_vec
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "half_life_runs.jsonl"
TABLE = HERE / "results" / "half_life.md"
FIGURE = HERE.parent / "docs" / "images" / "half_life_returns.png"

Floats = NDArray[np.float64]

REFERENCE = "69"
TASKS = {**cart_pole(40_000), **lake(20_000)}


@dataclass(frozen=True)
class Contender:
    """An optimizer of A2C.

    Attributes:
        agent: Arguments of A2C.
        start: Initial learning rate of the hill climb.
    """

    agent: Mapping[str, Any]
    start: float = 2e-3


def _adam(beta: float) -> Contender:
    return Contender(
        {"optimizer": "torch.optim.Adam", "optimizer_kwargs": {"betas": (0.9, beta), "eps": 1e-5}}, 2e-3
    )


HALF_LIVES = (2, 7, 20, 69, 200, 700, 2000)
CONTENDERS = {
    **{f"{half_life}": Contender({"half_life": half_life}) for half_life in HALF_LIVES},
    "match": Contender({"half_life": "match"}),
    "auto": Contender({"half_life": "auto"}),
    "200, updates clipped": Contender({"half_life": 200, "optimizer_kwargs": {"max_update_rms": 1.0}}),
    "200, reset at changes": Contender({"half_life": 200, "on_change": "reset"}),
    "200, forget at changes": Contender({"half_life": 200, "on_change": "forget"}),
    "Adam 0.9/0.999": _adam(0.999),
    "Adam 0.9/0.9": _adam(0.9),
    "SGD": Contender({"optimizer": "torch.optim.SGD"}, 0.1),
}
# These variants rarely gave higher returns and are no longer in the library. The tables keep the results of these
# variants.
RETIRED = ("200, current left out", "auto: penalized", "auto: restart", "auto: progress")
ROWS = (*CONTENDERS, *RETIRED)


def train(task: str, contender: str, rate: float, seed: int, life: int | None = None) -> list[float]:
    """Train an agent, and return its score in each bin.

    Args:
        task: Name of a task.
        contender: Name of a contender.
        rate: Learning rate.
        seed: Seed of the agent, its environments and the drift.
        life: Env steps of the training; None uses ``life`` of the task.
    """
    which = TASKS[task]
    life = life or which.life
    bin = which.life // NUM_BINS
    env = make_vec(which.id, NUM_ENVS, dict(which.changes), curriculum=which.make_curriculum(), seed=seed)
    agent = A2C(
        env,
        learning_rate=rate,
        n_steps=5 if which.id == "FrozenLake-v1" else 8,
        gae_lambda=0.95,
        ent_coef=which.ent_coef,
        normalize_observation=False,
        normalize_reward=False,
        seed=seed,
        device="cpu",
        **CONTENDERS[contender].agent,
    )
    episodes: list[Episode] = []
    agent.learn(life, callback=lambda trained: episodes.extend(trained.new_episodes), log_interval=life)
    env.close()
    return bin_scores(episodes, which.score, bin, life // bin)


# -- running ----------------------------------------------------------------------------------------------


def duel(task: str, contender: str) -> str:
    """Train a contender on a task with all rates and seeds, and return a line with the mean score of each rate."""
    torch.set_num_threads(1)
    records = Records(RUNS, train)
    start = CONTENDERS[contender].start
    best = climb(lambda rate: records.mean(task, contender, rate, SWEEP_SEEDS), start, 2.0)
    means = {}
    while not means or best in (min(means), max(means)):
        for rate in (best / 2, best, 2 * best):
            means[rate] = records.mean(task, contender, rate, SEEDS)
        best = max(means, key=lambda rate: means[rate])
    return f"{task} | {contender} | " + ", ".join(f"{rate:.3g}: {mean:.1f}" for rate, mean in means.items())


def run(tasks: list[str], contenders: list[str], processes: int) -> None:
    """Do all training runs in parallel processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes) as pool:
        futures = [pool.submit(duel, task, contender) for task in tasks for contender in contenders]
        for future in futures:
            print(future.result(), flush=True)


# -- reporting --------------------------------------------------------------------------------------------


def difference(gained: Floats) -> str:
    """Format the mean of differences ``(seeds,)`` and its interval, in bold if the interval excludes 0."""
    low, high = bootstrap(gained)
    shown = f"{gained.mean():+.0f} ({low:+.0f} to {high:+.0f})"
    return f"**{shown}**" if low > 0 or high < 0 else shown


def rows(
    best: Mapping[str, Mapping[str, tuple[float, Floats]]],
) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Make rows of task, contender, learning rate, and interquartile means with intervals."""
    for task in TASKS:
        for contender in ROWS:
            if contender in best.get(task, {}):
                rate, scores = best[task][contender]
                yield (
                    task,
                    contender,
                    rate,
                    {name: interquartile_mean(values) for name, values in stretches(scores).items()},
                )


def report() -> None:
    """Write the tables and the figure."""
    best = best_rates(Records(RUNS, train))
    measured: dict[str, dict[str, tuple[float, dict[str, Any]]]] = defaultdict(dict)
    for task, contender, rate, values in rows(best):
        measured[task][contender] = rate, values
    # Only tasks on which every contender was trained.
    tasks = [task for task, contenders in measured.items() if contenders.keys() >= CONTENDERS.keys()]
    half_lives = [contender for contender in ROWS if any(contender in measured[task] for task in tasks)]
    lines = [
        "# Effect of the half-life on returns",
        "",
        "`python benchmarks/half_life.py run` trains the agents, and `python benchmarks/half_life.py report` "
        "writes this page. The raw scores are in half_life_runs.jsonl. The first three tables show interquartile "
        "means over 10 seeds and their 95 % intervals. Each cell has the best learning rate of its row and "
        "column. The best score of a column is bold. The score is the mean episode length on CartPole, at most "
        "500, and the percentage of episodes that reach the goal on FrozenLake. A random policy has a mean "
        "episode length of about 22 on CartPole.",
        f"The variants in the last {len(RETIRED)} rows of each table are no longer in the library.",
    ]
    for stretch in STRETCHES:
        lines += ["", f"## {stretch.capitalize()}", "", f"| half-life | {' | '.join(tasks)} |"]
        lines.append("|---|" + "---:|" * len(tasks))
        for contender in half_lives:
            cells = []
            for task in tasks:
                if contender not in measured[task]:
                    cells.append("")
                    continue
                middle, low, high = measured[task][contender][1][stretch]
                top = max(values[stretch][0] for _, values in measured[task].values())
                shown = f"{middle:.0f} ({low:.0f} to {high:.0f})"
                cells.append(f"**{shown}**" if middle == top else shown)
            lines.append(f"| {contender} | {' | '.join(cells)} |")
    lines += ["", f"## Whole life, difference from {REFERENCE} updates (rho = 0.99)", ""]
    lines += [
        "Cells contain the mean difference over paired seeds and its 95 % bootstrap interval, in bold if the "
        "interval excludes 0. The last column is the mean over all tasks on CartPole.",
        "",
        f"| half-life | {' | '.join(tasks)} | all CartPole |",
        "|---|" + "---:|" * (len(tasks) + 1),
    ]
    for contender in half_lives:
        gains = {
            task: best[task][contender][1].mean(1) - best[task][REFERENCE][1].mean(1)  # (seeds,)
            for task in tasks
            if contender in best[task]
        }
        on_cart_pole = [gained for task, gained in gains.items() if TASKS[task].id == "CartPole-v1"]
        cells = [difference(gains[task]) if task in gains else "" for task in tasks]
        cells.append(difference(np.mean(on_cart_pole, axis=0)))
        lines.append(f"| {contender} | {' | '.join(cells)} |")
    lines += ["", "## Learning rates", "", f"| half-life | {' | '.join(tasks)} |", "|---|" + "---:|" * len(tasks)]
    for contender in half_lives:
        cells = [f"{measured[task][contender][0]:.2g}" if contender in measured[task] else "" for task in tasks]
        lines.append(f"| {contender} | {' | '.join(cells)} |")
    TABLE.write_text("\n".join(lines) + "\n")
    draw({task: measured[task] for task in tasks})
    print(TABLE.read_text())


def draw(measured: Mapping[str, Mapping[str, tuple[float, dict[str, Any]]]]) -> None:
    """Draw a panel for each task: scores over fixed half-lives, and other contenders as horizontal lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = 4
    figure, axes = plt.subplots(
        -(-len(measured) // columns), columns, figsize=(15, 3.4 * -(-len(measured) // columns)), squeeze=False
    )
    others = {
        "match": "#009E73",
        "200, updates clipped": "#CC79A7",
        "Adam 0.9/0.999": "#E69F00",
        "SGD": "#999999",
    }
    for ax, (task, contenders) in zip(axes.flat, measured.items(), strict=False):
        for stretch, color in (("whole life", "#0072B2"), ("after changes", "#D55E00")):
            fixed = [(h, *contenders[f"{h}"][1][stretch]) for h in HALF_LIVES if f"{h}" in contenders]
            if fixed:
                h, middle, low, high = np.array(fixed).T
                ax.plot(h, middle, "o-", color=color, label=stretch)
                ax.fill_between(h, low, high, color=color, alpha=0.2)
        for name, color in others.items():
            if name in contenders:
                ax.axhline(contenders[name][1]["whole life"][0], color=color, linestyle="--", label=name)
        score = "episode length" if TASKS[task].id == "CartPole-v1" else "% at the goal"
        ax.set(xscale="log", title=task, xlabel="half-life in updates", ylabel=score)
    for ax in axes.flat[len(measured) :]:
        ax.axis("off")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    run_or_report(__doc__, TASKS, CONTENDERS, run, report)
