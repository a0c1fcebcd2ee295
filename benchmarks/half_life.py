"""What a half-life earns when the world changes: returns of A2C, each memory at its best learning rate.

Run: python benchmarks/half_life.py run [--tasks NAME ...] [--contenders NAME ...] [--processes 2]
     python benchmarks/half_life.py report

``run`` appends each finished training to benchmarks/results/half_life_runs.jsonl and skips those that stand there,
so it can be stopped and started again, and a wish for more seeds or tasks costs only these. ``report`` computes
benchmarks/results/half_life.md and docs/images/half_life_returns.png from that file; it needs the extra ``plots``.

A training is A2C on 16 CartPoles for 200,000 env steps (n_steps 8, lambda 0.95, entropy 0.01, gradients clipped
at 0.5), 1,562 updates of 128 env steps. Its score at a time is the mean length of the episodes that end in a bin
of 5,000 env steps: the return without what the task does to rewards. The second family is FrozenLake (16 of them,
100,000 env steps, n_steps 5, entropy 0.02, bins of 2,500), where nothing is paid but the goal; there the score is
the percentage of the episodes that reach it. Drift is paired: seed k meets the same world under every contender.

The learning rate of each contender on each task is found by climbing in factors of 2 from a common start, with
three seeds that are not used again, until both neighbours of the best are worse; then the best and its neighbours
are trained with ten seeds, and so are theirs while a better one is found. Scores at the best rate are the
interquartile mean over seeds and its stratified bootstrap interval of 95 %, as rliable computes them, of three
stretches: the whole life; after each change, the first quarter of every regime but the first; and late, the last
quarter of every regime. Where a world drifts all the time, and where it stands still, the stretches are those of
the same clock. Differences between contenders are taken seed by seed.
"""

import argparse
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_rms.agents import A2C
from rl_rms.agents.rollout import Episode
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import LinearRamp
from rl_rms.envs.schedules import Redraw, Sinusoid, Square
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "half_life_runs.jsonl"
TABLE = HERE / "results" / "half_life.md"
FIGURE = HERE.parent / "docs" / "images" / "half_life_returns.png"

# A life is five regimes of eight bins each.
NUM_BINS, BINS_IN_REGIME = 40, 8
NUM_ENVS = 16
SWEEP_SEEDS = (1_000, 1_001, 1_002)
SEEDS = tuple(range(10))
MOST_RATES = 9
# Whom the others are compared with.
REFERENCE = "69"
STRETCHES = ("whole life", "after changes", "late")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A world.

    Attributes:
        changes: Schedules by target.
        curriculum: First and last task of a curriculum, None for none.
        agent: Arguments of A2C that differ.
        id: Of the environments.
        life: Env steps.
        score: Of an episode.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    curriculum: tuple[dict[str, float], dict[str, float]] | None = None
    agent: Mapping[str, Any] = field(default_factory=dict)
    id: str = "CartPole-v1"
    life: int = 200_000
    score: Callable[[Episode], float] = attrgetter("length")


def _lake(changes: Mapping[str, Any]) -> Task:
    def reached(episode: Episode) -> float:
        return 100.0 * (episode.ret > 0)

    return Task(changes, None, {"n_steps": 5, "ent_coef": 0.02}, "FrozenLake-v1", 100_000, reached)


REGIME, LAKE_REGIME = 40_000, 20_000
TASKS = {
    "stationary": Task(),
    "reward x100": Task({"reward.scale": Square(low=1.0, high=100.0, period=2 * REGIME)}),
    "dynamics jumps": Task(
        {"length": Redraw(low=0.1, high=2.0, every=REGIME), "gravity": Redraw(low=5.0, high=20.0, every=REGIME)}
    ),
    "sinusoidal drift": Task(
        {
            "length": Sinusoid(mean=1.0, amplitude=0.9, period=2 * REGIME),
            "gravity": Sinusoid(mean=12.0, amplitude=8.0, period=3 * REGIME),
        }
    ),
    "action flips": Task({"action.flip": Square(low=0.0, high=1.0, period=2 * REGIME)}, agent={"ent_coef": 0.05}),
    "observation offsets": Task({"observation.offset": Redraw(low=-1.0, high=1.0, every=REGIME)}),
    "reward x30": Task({"reward.scale": Square(low=1.0, high=30.0, period=2 * REGIME)}),
    "curriculum": Task(curriculum=({"length": 1.0}, {"length": 0.05})),
    "lake, reward x100": _lake({"reward.scale": Square(low=1.0, high=100.0, period=2 * LAKE_REGIME)}),
    "lake, ice": _lake({"success_rate": Square(low=1 / 3, high=0.8, period=2 * LAKE_REGIME)}),
}


@dataclass(frozen=True)
class Contender:
    """An optimizer whose memory is at stake.

    Attributes:
        agent: Arguments of A2C.
        start: Learning rate from which the climb begins.
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
# No longer in the library, since they earned more nowhere or rarely; their results are kept.
RETIRED = ("200, current left out", "auto: penalized", "auto: restart", "auto: progress")
ROWS = (*CONTENDERS, *RETIRED)


def train(task: str, contender: str, rate: float, seed: int, life: int | None = None) -> list[float]:
    """One training's score in each bin.

    Args:
        task: Name of a task.
        contender: Name of a contender.
        rate: Learning rate.
        seed: Of the agent, its world and the drift.
        life: Env steps, those of the task unless given.

    Returns:
        Mean scores of the episodes that ended in each bin; where none did, that of the bin before.
    """
    world = TASKS[task]
    life = life or world.life
    bin = world.life // NUM_BINS
    curriculum = None if world.curriculum is None else LinearRamp(*world.curriculum, over=life)
    env = make_vec(world.id, NUM_ENVS, dict(world.changes), curriculum=curriculum, seed=seed)
    options: dict[str, Any] = {"n_steps": 8, "ent_coef": 0.01, **world.agent, **CONTENDERS[contender].agent}
    agent = A2C(env, learning_rate=rate, gae_lambda=0.95, seed=seed, device="cpu", **options)
    bins: list[list[float]] = [[] for _ in range(life // bin)]

    def collect(trained: A2C) -> None:
        for episode in trained.new_episodes:
            bins[min((episode.num_timesteps - 1) // bin, len(bins) - 1)].append(world.score(episode))

    agent.learn(life, callback=collect, log_interval=life)
    env.close()
    scores = []
    for inside in bins:
        scores.append(round(statistics.fmean(inside), 1) if inside else scores[-1] if scores else 0.0)
    return scores


# -- running ----------------------------------------------------------------------------------------------


class Records:
    """Finished trainings in a file, one a line.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.scores: dict[tuple[str, str, float, int], list[float]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                task, contender, rate, seed, scores = json.loads(line)
                self.scores[task, contender, rate, seed] = scores

    def get(self, task: str, contender: str, rate: float, seed: int) -> list[float]:
        """A training's scores, after doing it where it is not there yet."""
        key = (task, contender, rate, seed)
        if key not in self.scores:
            self.scores[key] = train(*key)
            line = json.dumps([*key, self.scores[key]], separators=(",", ":")) + "\n"
            with self._path.open("a") as file:
                file.write(line)  # one write, which other processes' do not tear
        return self.scores[key]

    def mean(self, task: str, contender: str, rate: float, seeds: tuple[int, ...]) -> float:
        """Mean score over the whole life and over seeds."""
        return statistics.fmean(statistics.fmean(self.get(task, contender, rate, seed)) for seed in seeds)


def climb(records: Records, task: str, contender: str) -> float:
    """The learning rate, by factors of 2, whose neighbours are both worse."""
    start = CONTENDERS[contender].start
    tried: dict[int, float] = {}

    def score(power: int) -> float:
        if power not in tried:
            tried[power] = records.mean(task, contender, start * 2.0**power, SWEEP_SEEDS)
        return tried[power]

    best = 0
    while len(tried) < MOST_RATES:
        better = max((best, best - 1, best + 1), key=score)
        if better == best:
            break
        best = better
    return start * 2.0**best


def duel(task: str, contender: str) -> str:
    """All trainings of a contender on a task; gives a line that tells of them."""
    torch.set_num_threads(1)
    records = Records(RUNS)
    best = climb(records, task, contender)
    means = {}
    while not means or best in (min(means), max(means)):
        for rate in (best / 2, best, 2 * best):
            means[rate] = records.mean(task, contender, rate, SEEDS)
        best = max(means, key=lambda rate: means[rate])
    return f"{task} | {contender} | " + ", ".join(f"{rate:.3g}: {mean:.1f}" for rate, mean in means.items())


def run(tasks: list[str], contenders: list[str], processes: int) -> None:
    """All trainings, in parallel processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes) as pool:
        futures = [pool.submit(duel, task, contender) for task in tasks for contender in contenders]
        for future in futures:
            print(future.result(), flush=True)


# -- reporting --------------------------------------------------------------------------------------------


def stretches(scores: Floats) -> dict[str, Floats]:
    """Mean scores, ``(seeds,)``, in each stretch, from scores of shape ``(seeds, bins)``."""
    regimes = scores.reshape(len(scores), -1, BINS_IN_REGIME)  # (seeds, regimes, bins of a regime)
    quarter = regimes.shape[2] // 4
    return {
        "whole life": scores.mean(1),
        "after changes": regimes[:, 1:, :quarter].mean((1, 2)),
        "late": regimes[:, :, -quarter:].mean((1, 2)),
    }


def best_rates(records: Records) -> dict[str, dict[str, tuple[float, Floats]]]:
    """By task and contender, the best rate and its scores, ``(seeds, bins)``."""
    found: dict[tuple[str, str], dict[float, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for (task, contender, rate, seed), scores in records.scores.items():
        if seed in SEEDS:
            found[task, contender][rate][seed] = scores
    best: dict[str, dict[str, tuple[float, Floats]]] = defaultdict(dict)
    for (task, contender), rates in found.items():
        whole = {
            rate: np.array([seeds[seed] for seed in SEEDS])
            for rate, seeds in rates.items()
            if len(seeds) == len(SEEDS)
        }
        if whole:
            rate = max(whole, key=lambda one: whole[one].mean())
            best[task][contender] = rate, whole[rate]
    return best


def bootstrap(differences: Floats) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of differences, ``(seeds,)``."""
    drawn = np.random.default_rng(0).choice(differences, (10_000, len(differences)))
    low, high = np.percentile(drawn.mean(1), [2.5, 97.5])
    return float(low), float(high)


def difference(gained: Floats) -> str:
    """A mean difference, ``(seeds,)``, with its interval, bold where that leaves out 0."""
    low, high = bootstrap(gained)
    shown = f"{gained.mean():+.0f} ({low:+.0f} to {high:+.0f})"
    return f"**{shown}**" if low > 0 or high < 0 else shown


def rows(
    best: Mapping[str, Mapping[str, tuple[float, Floats]]],
) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Task, contender, rate and the interquartile mean with its interval in each stretch."""
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
    best = best_rates(Records(RUNS))
    measured: dict[str, dict[str, tuple[float, dict[str, Any]]]] = defaultdict(dict)
    for task, contender, rate, values in rows(best):
        measured[task][contender] = rate, values
    # Of those that every contender has been trained on.
    tasks = [task for task, contenders in measured.items() if contenders.keys() >= CONTENDERS.keys()]
    half_lives = [contender for contender in ROWS if any(contender in measured[task] for task in tasks)]
    lines = [
        "# Effect of the half-life on returns",
        "",
        "`python benchmarks/half_life.py run`, then `python benchmarks/half_life.py report`; raw scores in "
        "half_life_runs.jsonl. Interquartile mean over 10 seeds of the episodes' mean length (500 is perfect; a "
        "random policy has 22; on the lake the percentage that reaches the goal) and its 95 % interval, each "
        "contender at its own best learning rate.",
        f"The last {len(RETIRED)} are no longer in the library.",
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
        "Mean over paired seeds and its 95 % bootstrap interval; last, the mean over all tasks on CartPole.",
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
    """One panel a task: score over the fixed half-lives, the others as lines across."""
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


def main() -> None:
    """Run or report, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--contenders", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.tasks, arguments.contenders, arguments.processes)
    else:
        report()


if __name__ == "__main__":
    main()
